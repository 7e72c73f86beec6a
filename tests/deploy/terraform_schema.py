"""terraform_schema.py FOLDER: prints what the AWS provider takes for the kinds that deploy/terraform uses.

FOLDER is where `npm pack @cdktf/provider-aws@21.22.1` has been unpacked, which has the provider's own
schema as TypeScript. The tests read what this printed, `terraform-schema.json`, so that they need
neither that package (37 MB) nor Terraform.
"""

import json
import pathlib
import re
import sys

MODULE = pathlib.Path(__file__).resolve().parents[2] / "deploy/terraform"


def snake(name):
    return re.sub(r"([A-Z])", lambda match: f"_{match[1].lower()}", name)


def interfaces(text):
    """Name: {argument: (whether it must be given, the interface of its block or None)}."""
    found = {}
    for name, body in re.findall(r"^export interface (\w+)(?: extends [\w.]+)? \{\n(.*?)^\}", text, re.M | re.S):
        fields = found[name] = {}
        # The Terraform name stands in the link to the argument's page.
        for said, optional, kind in re.findall(r"#(\w+) [\w#]+\}\n(?:[^\n]*\n)*?    readonly \w+(\??): ([^;{]+|\{)", body):
            fields[said] = (optional == "", kind.split("[")[0].split(" ")[0])
    return found


def block(name, known):
    fields = known[name]
    return {
        "arguments": {field: must for field, (must, kind) in fields.items() if kind not in known},
        "blocks": {field: {"required": must, **block(kind, known)} for field, (must, kind) in fields.items() if kind in known},
    }


def kind(folder, word, name):
    path = folder / "lib" / (("data-aws-" if word == "data" else "") + name.replace("_", "-")) / "index.d.ts"
    text = path.read_text()
    (config,) = re.findall(r"^export interface (\w+Config) extends cdktf.TerraformMetaArguments", text, re.M)
    getters = re.findall(r"^    get (\w+)\(\)", text[text.index("static readonly tfResourceType") :], re.M)
    exports = {snake(getter) for getter in getters if not getter.endswith("Input")}
    return block(config, interfaces(text)) | {"exports": sorted(exports)}


def main():
    folder = pathlib.Path(sys.argv[1])
    text = "\n".join(path.read_text() for path in sorted(MODULE.glob("*.tf")))
    used = sorted(set(re.findall(r'^(resource|data) "(\w+)"', text, re.M)))
    made = {f"{word} {name}": kind(folder, word, name.removeprefix("aws_")) for word, name in used}
    print(json.dumps(made, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
