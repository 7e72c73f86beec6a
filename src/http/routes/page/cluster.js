// This node, its store, and who is in the cluster.

const REFRESH_MS = 2000;

const cluster = {
  // The samples of a page of metrics: name to a list of labels and value.
  read(text) {
    const found = new Map();
    for (const line of text.split("\n")) {
      const parts = /^gossipykv_(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
      if (!parts) continue;
      const [, name, inside = "", number] = parts;
      const labels = {};
      for (const [, label, raw] of inside.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
        labels[label] = raw.replace(/\\(.)/g, (_, c) => c === "n" ? "\n" : c);
      }
      if (!found.has(name)) found.set(name, []);
      found.get(name).push({ labels, value: Number(number) });
    }
    return found;
  },

  async health() {
    const told = status => {
      at("health").textContent = status === "ok" ? "ready" : status;
      at("health").className = `pill ${status}`;
    };
    try {
      const { status, why: because } = await (await ask("health")).json();
      told(status);
      tell("why", status === "ok" ? "" : `This node is not ready: ${because || status}`);
      tell("because", because || "Clients may be sent to it.");
      at("state").textContent = status === "ok" ? "ready" : status;
      at("state").className = `big ${status}`;
    } catch {
      told("gone");
      tell("why", "This node does not answer. It is asked again.");
      tell("because", "It does not answer.");
      at("state").textContent = "gone";
      at("state").className = "big gone";
    }
  },

  async refresh() {
    await this.health();
    const isShown = !at("cluster").hidden;
    if (!isShown && at("node").textContent) return;
    const { members } = await json("members");
    at("node").textContent = visible(members.find(member => member.me)?.name || "");
    if (!isShown) return;
    const metrics = this.read(await (await ask("metrics")).text());
    const one = name => metrics.get(name)?.[0].value ?? 0;
    const lags = new Map();
    for (const { labels, value: n } of metrics.get("peer_lag_writes") || []) {
      lags.set(labels.peer, n);
    }
    this.tiles(members, one);
    at("members").replaceChildren(...members.map(member => this.row(member, lags)));
  },

  tiles(members, one) {
    const count = state => members.filter(member => member.state === state).length;
    at("alive").textContent = `${count("alive")} of ${members.length}`;
    const others = ["suspect", "dead", "left"].filter(count).map(s => `${count(s)} ${s}`);
    at("others").textContent = others.join(", ") || "nobody is missing";
    const bound = one("store_bound_bytes");
    const [bytes, limit] = [one("store_bytes"), bound || one("store_limit_bytes")];
    at("store").textContent = size(bytes);
    at("full").hidden = !limit;
    at("full").value = limit ? 100 * bytes / limit : 0;
    at("limit").textContent = limit
      ? `${(100 * bytes / limit).toFixed(1)} % of ${size(limit)}` +
        (bound ? ", the limit of the smallest member" : "")
      : "without a limit";
    at("n-keys").textContent = one("keys").toLocaleString();
    at("n-deleted").textContent = `${plural(one("tombstones"), "delete")} remembered, ` +
      `${plural(one("ttl_keys"), "key")} that expire`;
  },

  row(member, lags) {
    const cell = (text, kind, name) => {
      const td = make("td", kind, text);
      if (name) td.dataset.name = name;
      return td;
    };
    const name = make("td", "mono");
    name.append(make("bdi", "", visible(member.name)));
    if (member.me) name.append(make("span", "me", "this node"));
    const lag = lags.has(member.name)
      ? lags.get(member.name) ? plural(lags.get(member.name), "write") : "none"
      : member.me ? "" : "not known";
    const blocked = ["udp", "tcp"].filter(way => member[way] === "blocked");
    const ways = member.me ? "" : blocked.length ? `${blocked.join(", ")} blocked` : "open";
    const state = make("td");
    state.append(make("span", `dot ${member.state}`, member.state));
    const tr = make("tr");
    tr.append(name, cell(member.address, "mono", "gossips at"), state,
      cell(lag, "number", "lag"), cell(ways, blocked.length ? "suspect" : "", "ways"),
      cell(member.kv ? member.formats || "" : "does not hold the store", "", "formats"),
      cell(member.incarnation, "number", "incarnation"));
    return tr;
  },

  async loop() {
    for (;;) {
      if (!document.hidden) await this.refresh().catch(() => {});
      await pause(REFRESH_MS);
    }
  },
};
