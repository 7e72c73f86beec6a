// npm's client of Consul against nodes of ours: client.js FOLDER NODE NODE
// Each thing is asked of the first node; a watch is kept at the second.
const [folder, a, b] = process.argv.slice(2);
const Consul = require(folder);

function at(node) {
  const [host, port] = node.split(":");
  return new Consul({ host, port });
}

function check(holds, what) {
  if (!holds) throw new Error(what);
}

async function eventually(what, holds) {
  const until = Date.now() + 10000;
  while (!(await holds())) {
    check(Date.now() < until, what);
    await new Promise((go) => setTimeout(go, 10));
  }
}

async function main() {
  const [one, two] = [at(a), at(b)];
  const odd = "js/sp ace/\u00fcn\u00ef%2F+&=?#:;@[]";
  check((await one.kv.set("js/a", "1")) === true, "set");
  check((await one.kv.get("js/a")).Value === "1", "get");
  await one.kv.set({ key: "js/f", value: "2", flags: 42 });
  check((await one.kv.get("js/f")).Flags === 42, "flags");
  await one.kv.set(odd, "odd");
  check((await one.kv.get(odd)).Key === odd, "odd key");
  check((await one.kv.keys("js/")).length === 3, "keys");
  check((await one.kv.get({ key: "js/", recurse: true })).length === 3, "recurse");
  check((await one.kv.get("js/never")) === undefined, "nothing");
  const index = (await one.kv.get("js/a")).ModifyIndex;
  check(Number.isSafeInteger(index), "an index that JavaScript can hold");
  await one.kv.set({ key: "js/a", value: "2", cas: String(index) });
  check((await one.kv.get("js/a")).Value === "2", "cas");
  await one.kv.set({ key: "js/a", value: "3", cas: String(index) });
  check((await one.kv.get("js/a")).Value === "2", "a stale cas");
  const done = await one.transaction.create([
    { KV: { Verb: "set", Key: "js/t", Value: Buffer.from("t").toString("base64") } },
  ]);
  check(done.Results[0].KV.Key === "js/t", "a transaction");

  const watch = two.watch({
    method: two.kv.get,
    options: { key: "js/w", wait: "30s" },
    backoffFactor: 100,
  });
  let last;
  watch.on("change", (data) => (last = data && data.Value));
  watch.on("error", (error) => {
    if (!error.isResponse || error.response.statusCode !== 404) throw error;
  });
  for (const value of ["x", "y", "z"]) {
    await one.kv.set("js/w", value);
    await eventually("the watch sees " + value, () => last === value);
  }
  watch.end();
  let refused;
  await one.session.create().catch((error) => (refused = error));
  check(refused, "a session was granted");
  await one.kv.del({ key: "js/", recurse: true });
  check((await one.kv.get("js/a")) === undefined, "deleted");
  console.log("checked");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
