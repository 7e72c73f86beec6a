"""Clients made of the API's description, for Python and for TypeScript: they compile, and work.

    clients.py NODE FOLDER NPM

Says which were checked.
"""

import importlib
import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

NODE, FOLDER, NPM = sys.argv[1:]
URL = f"http://{NODE}"

SMOKE = """
import createClient from "openapi-fetch";
import type { paths } from "./api";

const client = createClient<paths>({ baseUrl: process.argv[2] });

async function main(): Promise<void> {
  const put = await client.PUT("/kv/{key}/{value}", {
    params: { path: { key: "made-ts", value: "one" } },
  });
  if (put.error || !put.response.ok) throw new Error("put");
  const page = await client.GET("/kv/", {
    params: { query: { prefix: "made-", limit: 10 } },
  });
  const list = page.data;
  if (typeof list !== "object" || !("items" in list)) throw new Error("list");
  const names: string[] = list.items.map(item => item.key);
  if (!names.includes("made-ts")) throw new Error(names.join());
  const members = await client.GET("/members");
  const alive: string | undefined = members.data?.members[0].state;
  if (alive !== "alive") throw new Error("members");
  const none = await client.GET("/kv/{key}", { params: { path: { key: "made-none" } } });
  if (none.response.status !== 404 || !none.error) throw new Error("404");
  console.log("works");
}
main();
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def of_python(document):
    config = Path(FOLDER) / "config.yml"
    config.write_text("project_name_override: made\npackage_name_override: made\npost_hooks: []\n")
    said = run(sys.executable, "-m", "openapi_python_client", "generate", "--path", str(document),
               "--config", str(config), "--output-path", str(Path(FOLDER) / "made"),
               "--meta", "none", "--overwrite")
    # What it can make nothing of it leaves out, and says so.
    assert "WARNING" not in said and "ERROR" not in said, said
    run(sys.executable, "-m", "compileall", "-q", str(Path(FOLDER) / "made"))
    sys.path.insert(0, FOLDER)
    made = importlib.import_module("made")
    client = made.Client(base_url=URL)
    api = {name: importlib.import_module(f"made.api.{name}")
           for name in ("keys.put_pair", "keys.list_", "keys.delete_key", "cluster.members")}
    put = api["keys.put_pair"].sync_detailed("made-python", "one", client=client)
    assert put.status_code == 200, put
    page = api["keys.list_"].sync(client=client, prefix="made-", limit=10)
    assert [item.key for item in page.items] == ["made-python"], page
    assert api["cluster.members"].sync(client=client).members[0].me
    assert api["keys.delete_key"].sync_detailed("made-python", client=client).status_code == 200


def of_typescript(document):
    tools = Path(NPM) / "node_modules"
    folder = Path(FOLDER) / "ts"
    folder.mkdir()
    (folder / "node_modules").symlink_to(tools)
    run("node", str(tools / "openapi-typescript/bin/cli.js"), str(document), "-o",
        str(folder / "api.d.ts"))
    (folder / "smoke.ts").write_text(SMOKE)
    (folder / "tsconfig.json").write_text(json.dumps({
        "compilerOptions": {
            "strict": True, "target": "es2022", "module": "commonjs", "moduleResolution": "node",
            "esModuleInterop": True, "lib": ["es2022", "dom", "dom.iterable"], "types": [],
            "skipLibCheck": True,
        },
        "files": ["node.d.ts", "smoke.ts", "api.d.ts"],
    }))
    (folder / "node.d.ts").write_text("declare const process: { argv: string[] };\n")
    run("node", str(tools / "typescript/bin/tsc"), "-p", str(folder))
    assert run("node", str(folder / "smoke.js"), URL).strip() == "works"


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    Path(FOLDER).mkdir(parents=True)
    document = Path(FOLDER) / "openapi.json"
    with urllib.request.urlopen(f"{URL}/openapi.json", timeout=10) as answer:
        document.write_bytes(answer.read())
    of_python(document)
    of_typescript(document)
    shutil.rmtree(FOLDER)
    print("checked: python, typescript")


main()
