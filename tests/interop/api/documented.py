"""Requests made of the API's own description, right and wrong ones: every answer is documented.

    documented.py NODE EXAMPLES

Says `checked`, or what was found.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

NODE, EXAMPLES = sys.argv[1:]
# Beyond them a run is ended; a machine may do much else.
SECONDS_MAX = 3600 if int(EXAMPLES) > 1000 else 60


def names_in(value):
    """Schemas that something refers to."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rsplit("/", 1)[1]
        value = value.values()
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        for part in value:
            yield from names_in(part)


def close(value):
    """Permits no field of an answer that is not documented."""
    if isinstance(value, dict):
        if "properties" in value:
            value.setdefault("additionalProperties", False)
        value = value.values()
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        for part in value:
            close(part)


def close_answers(document):
    """Of schemas that requests have, too, only what is said in the answers themselves."""
    schemas = document["components"]["schemas"]
    operations = [operation for item in document["paths"].values()
                  for method, operation in item.items() if method != "parameters"]
    asked, more = set(), {name for operation in operations
                          for name in names_in(operation.get("requestBody"))}
    while more:
        asked |= more
        more = {name for had in more for name in names_in(schemas[had])} - asked
    for operation in operations:
        close(operation["responses"])
    close(document["components"]["responses"])
    for name, schema in schemas.items():
        if name not in asked:
            close(schema)


def main():
    with urllib.request.urlopen(f"http://{NODE}/openapi.json", timeout=10) as answer:
        document = json.load(answer)
    close_answers(document)
    n_operations = sum(
        method != "parameters" for item in document["paths"].values() for method in item)
    each = max(1, int(EXAMPLES) // n_operations)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "openapi.json"
        path.write_text(json.dumps(document))
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file",
            str(Path(__file__).with_name("schemathesis.toml")), "run", str(path),
            "--url", f"http://{NODE}",
            # A method that no route has is 501 by RFC 9110, 15.6.2; that check takes 405 alone.
            "--checks", "all", "--exclude-checks", "unsupported_method",
            "--max-examples", str(each), "--phases", "examples,coverage,fuzzing",
            "--generation-database", "none", "--continue-on-failure", "--no-color",
            "--request-timeout", "10", "--suppress-health-check", "all",
            "--max-time", str(SECONDS_MAX),
            # The short run asks the same each time; a long one looks for more.
            *(["--seed", "20251130"] if SECONDS_MAX < 3600 else []),
        ]
        hooks = str(Path(__file__).with_name("patience.py"))
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                              env={**os.environ, "SCHEMATHESIS_HOOKS": hooks})
    if done.returncode:
        sys.exit(done.stdout[-20000:] + done.stderr[-2000:])
    print("checked:", *done.stdout.strip().splitlines()[-12:], sep="\n")


main()
