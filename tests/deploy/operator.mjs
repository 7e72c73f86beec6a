// node operator.mjs FOLDER-OF-MODULES <RESOURCES.json: what the types of Prometheus' operator say of a list
// of resources; 1 when they refuse one.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const found = createRequire(pathToFileURL(path.resolve(process.argv[2]) + "/"));
const home = path.dirname(found.resolve("@kubernetes-models/prometheus-operator/package.json"));
const kinds = await import(pathToFileURL(path.join(home, "monitoring.coreos.com/v1/index.js")));

let text = "";
for await (const part of process.stdin) text += part;
let refused = 0;
for (const resource of JSON.parse(text)) {
  try {
    new kinds[resource.kind](resource).validate();
  } catch (error) {
    console.log(`${resource.kind} ${resource.metadata.name}: ${error.message}`);
    refused = 1;
  }
}
process.exit(refused);
