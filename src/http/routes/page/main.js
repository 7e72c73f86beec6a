// Where one is, the keyboard, and the beginning. The part behind # says where: #in=FOLDER&key=KEY.

const place = (prefix, key) => {
  const fields = {};
  if (prefix) fields.in = prefix;
  if (key) fields.key = key;
  return `#${query(fields)}`;
};

// At once: the event that tells of it comes after whatever a person does next.
function go(prefix, key) {
  const hash = place(prefix, key);
  if (hash !== (location.hash || "#")) location.hash = hash;
  return arrive();
}

let arrived = "";
// Where this page is, or asks whether it may go.
let bound = "";
async function arrive() {
  bound = location.hash;
  if (bound !== arrived && !await editor.mayLeave()) {
    history.replaceState(null, "", arrived || "#");
    bound = location.hash;
    return;
  }
  arrived = location.hash;
  const hash = location.hash.slice(1);
  const part = hash === "cluster" || hash === "api" ? hash : "keys";
  for (const name of ["keys", "cluster", "api"]) {
    at(name).hidden = name !== part;
    if (name === part) at(`to-${name}`).setAttribute("aria-current", "page");
    else at(`to-${name}`).removeAttribute("aria-current");
  }
  if (part === "cluster") cluster.refresh().catch(() => {});
  if (part !== "keys") return;
  const fields = new URLSearchParams(hash);
  const key = fields.get("key");
  let prefix = fields.get("in") || "";
  if (key !== null && !key.startsWith(prefix)) prefix = key.replace(/[^/]*$/, "");
  if (prefix !== list.prefix || !list.isBegun) {
    list.isBegun = true;
    at("search").value = "";
    list.show(prefix);
  }
  if (key !== value.key || editor.isOpen) await value.open(key);
}

function open(index) {
  const row = rows.all[index];
  if (!row) return;
  rows.choose(index);
  if (row.isFolder) go(row.key, null); else go(list.prefix, row.key);
}

const inList = {
  ArrowDown: () => rows.choose(rows.chosen + 1),
  ArrowUp: () => rows.choose(rows.chosen - 1),
  PageDown: () => rows.choose(rows.chosen + Math.floor(at("rows").clientHeight / ROW)),
  PageUp: () => rows.choose(rows.chosen - Math.floor(at("rows").clientHeight / ROW)),
  Home: () => rows.choose(0),
  End: () => rows.choose(rows.all.length - 1),
  Enter: () => open(rows.chosen),
  ArrowRight: () => open(rows.chosen),
  ArrowLeft: () => go(list.above(), null),
  Backspace: () => go(list.above(), null),
};

const anywhere = {
  "/": () => at("search").focus(),
  n: () => begin(true),
  e: () => value.key !== null && !editor.isOpen && editor.begin(false),
  Delete: () => value.key !== null && !editor.isOpen && value.remove(),
  Escape: () => value.key !== null && back(),
};

async function begin(isNew) {
  if (await editor.mayLeave()) editor.begin(isNew);
}

function back() {
  go(list.prefix, null);
  at("rows").focus();
}

function press(event) {
  const isTyped = event.target.closest("input, textarea, dialog");
  if (event.key === "Escape" && editor.isOpen && !event.target.closest("dialog")) {
    event.preventDefault();
    return editor.cancel();
  }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && editor.isOpen) {
    event.preventDefault();
    return editor.save();
  }
  if (event.target === at("search") && (event.key === "ArrowDown" || event.key === "Enter")) {
    event.preventDefault();
    rows.choose(0);
    return at("rows").focus();
  }
  if (isTyped || event.ctrlKey || event.metaKey || event.altKey || at("keys").hidden) return;
  const act = event.target === at("rows") && inList[event.key] || anywhere[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function listen() {
  const on = (id, kind, act) => at(id).addEventListener(kind, act);
  const click = (id, act) => on(id, "click", act);
  rows.onEnd = () => list.more();
  on("rows", "scroll", () => rows.draw());
  click("rows", event => {
    const row = event.target.closest(".row");
    if (row) open(Number(row.dataset.index));
  });
  let typing = 0;
  on("search", "input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => list.show(list.prefix, at("search").value), 150);
  });
  click("new", () => begin(true));
  click("close", back);
  click("copy", () => value.copy());
  click("download", () => value.download());
  click("edit", () => editor.begin(false));
  click("delete", () => value.remove());
  on("editor", "submit", event => {
    event.preventDefault();
    editor.save();
  });
  click("cancel", () => editor.cancel());
  click("theirs", () => editor.showOther());
  click("mine", () => editor.overwrite());
  click("token-open", () => wantToken("What this tab shows to the server."));
  click("login-close", () => at("login").close());
  on("login", "submit", () => {
    token = at("token").value.trim();
    isRefused = false;
    cluster.refresh().catch(() => {});
    list.reload();
    if (value.key !== null && !editor.isOpen) value.open(value.key);
  });
  document.addEventListener("keydown", press);
  addEventListener("hashchange", () => location.hash !== bound && arrive());
  addEventListener("resize", () => rows.draw());
  addEventListener("beforeunload", event => editor.isChanged && event.preventDefault());
}

function start() {
  // Where this page is, a prefix that a proxy puts before it included.
  const here = new URL(".", location).href;
  at("try").textContent = [
    `curl -X PUT ${here}kv/hello/world`,
    `curl ${here}kv/hello`,
    `curl -T photo.jpg -H 'Content-Type: image/jpeg' '${here}kv/photo?w=all'`,
    `curl '${here}kv/photo?raw' > copy.jpg`,
    `curl -N '${here}kv/?prefix=&watch'`,
    `curl -X DELETE ${here}kv/hello`,
  ].join("\n");
  json("version").then(program => {
    at("program").append(
      ` This is version ${program.version}, ${program.buildhash}, ${program.builddate}.`);
  }).catch(() => {});
  listen();
  arrive();
  cluster.loop();
}
start();
