// One folder, a page at a time; or what is found in it.

const PAGE = 500;
const SEARCH_PAGE = 1000;
const FOUND_MAX = 1000;
// Beyond these a folder is better searched.
const ROWS_MAX = 200000;

const list = {
  prefix: "",
  search: "",
  // Where the next page begins; null at the end.
  next: null,
  isLoading: false,
  // Stops what was begun for another folder.
  stop: new AbortController(),
  failed: "",
  searched: 0,

  // Shows a folder, or what is found in it and below.
  async show(prefix, search = "") {
    this.stop.abort();
    this.stop = new AbortController();
    Object.assign(this, { prefix, search, next: null, isLoading: false, failed: "", searched: 0 });
    live.stop();
    rows.clear();
    this.crumbs();
    const { signal } = this.stop;
    try {
      if (search) {
        const began = await this.token(signal);
        live.follow(prefix, began);
        await this.find(search, signal);
      } else {
        const began = await this.page(signal);
        if (!signal.aborted) live.follow(prefix, began);
      }
    } catch (error) {
      this.fail(error, signal);
    }
  },

  reload() {
    return this.show(this.prefix, this.search);
  },

  fail(error, signal) {
    if (signal.aborted) return;
    this.failed = error.message;
    this.foot();
    // Not ready, say. It may be soon.
    pause(2000, signal).then(() => signal.aborted || document.hidden || this.reload());
  },

  async token(signal) {
    return (await json("kv/?keys&limit=1", { signal })).token;
  },

  // Loads the next page; returns the token that goes with it.
  async page(signal) {
    this.isLoading = true;
    this.foot();
    const fields = { limit: PAGE, delimiter: "/", prefix: this.prefix };
    if (this.next !== null) fields.after = this.next;
    const page = await json(`kv/?keys&${query(fields)}`, { signal });
    if (signal.aborted) return "";
    this.next = page.next;
    const folders = page.folders.map(key => ({ key, isFolder: true }));
    const all = [...page.items, ...folders].sort((a, b) => before(a.key, b.key) ? -1 : 1);
    const last = rows.all.at(-1)?.key;
    if (last === undefined || all.length && before(last, all[0].key)) rows.all.push(...all);
    // Something came by the stream meanwhile.
    else for (const row of all) rows.put(row);
    this.isLoading = false;
    this.foot();
    rows.draw();
    return page.token;
  },

  async more() {
    const { signal } = this.stop;
    if (this.isLoading || this.next === null || this.search || rows.all.length >= ROWS_MAX) return;
    try {
      await this.page(signal);
    } catch (error) {
      this.isLoading = false;
      this.fail(error, signal);
    }
  },

  // Keys that begin so come first; then all are looked through.
  async find(search, signal) {
    this.isLoading = true;
    const begun = this.prefix + search;
    const first = await json(`kv/?keys&${query({ limit: PAGE, prefix: begun })}`, { signal });
    for (const item of first.items) rows.put(item);
    let next = "";
    while (next !== null && rows.all.length < FOUND_MAX && !signal.aborted) {
      const fields = { limit: SEARCH_PAGE, prefix: this.prefix };
      if (next) fields.after = next;
      const page = await json(`kv/?keys&${query(fields)}`, { signal });
      for (const item of page.items) {
        if (this.isFound(item.key) && !rows.has(item.key)) rows.put(item);
      }
      next = page.next;
      this.searched += page.items.length;
      this.foot();
    }
    if (signal.aborted) return;
    this.isLoading = false;
    this.foot();
  },

  isFound(key) {
    const rest = key.slice(this.prefix.length);
    return rest.toLowerCase().includes(this.search.toLowerCase());
  },

  // What has changed, told by the stream.
  apply(event) {
    const isPut = event.event === "put";
    if (!event.key.startsWith(this.prefix)) return;
    if (this.search) {
      if (!this.isFound(event.key)) return;
      if (!isPut) rows.remove(event.key);
      else if (rows.has(event.key) || rows.all.length < FOUND_MAX) this.put(event, event.key);
      return;
    }
    const cut = event.key.indexOf("/", this.prefix.length);
    const key = cut < 0 ? event.key : event.key.slice(0, cut + 1);
    // What comes after the pages so far is found when they are turned to.
    const isBehind = this.next !== null && (!rows.all.length || before(rows.all.at(-1).key, key));
    if (isBehind) return;
    if (cut < 0 && !isPut) rows.remove(key);
    else if (cut < 0) this.put(event, key);
    else if (!isPut) this.doubt(key);
    else if (!rows.has(key)) rows.put({ key, isFolder: true, newUntil: performance.now() + 1600 });
  },

  put(event, key) {
    const { size: n, version, expires, type } = event;
    rows.put({ key, size: n, version, expires, type, newUntil: performance.now() + 1600 });
  },

  doubted: new Set(),

  // A key below this folder is gone: is anything left in it?
  doubt(folder) {
    if (this.doubted.size === 0) {
      const { signal } = this.stop;
      pause(300).then(() => this.settle(signal)).catch(() => {});
    }
    this.doubted.add(folder);
  },

  async settle(signal) {
    const folders = [...this.doubted];
    this.doubted.clear();
    if (signal.aborted) return;
    if (folders.length > 50) return this.reload();
    for (const folder of folders) {
      const page = await json(`kv/?keys&${query({ limit: 1, prefix: folder })}`, { signal });
      if (!page.items.length && !signal.aborted) rows.remove(folder);
    }
    this.foot();
  },

  foot() {
    const n = rows.all.length;
    const more = this.next === null ? "" : ", and more below";
    let text = n ? plural(n, "entry").replace("entrys", "entries") + more : "";
    if (this.search) {
      const among = `${plural(this.searched, "key")} ${this.isLoading ? "so far" : "looked at"}`;
      text = `${n.toLocaleString()} found, ${among}`;
      if (n >= FOUND_MAX) text += ": say more of the name to see the others";
    } else if (n >= ROWS_MAX) {
      text = `the first ${plural(n, "entry").replace("entrys", "entries")}: search for the others`;
    } else if (this.isLoading) {
      text = n ? `${text}...` : "asking...";
    } else if (!n) {
      text = this.prefix ? "There is nothing in this folder." : "There are no keys yet.";
    }
    at("count").textContent = this.failed || text;
  },

  crumbs() {
    const parts = this.prefix.split("/");
    const links = [this.crumb("all keys", "")];
    for (let n = 1; n < parts.length; n += 1) {
      const prefix = `${parts.slice(0, n).join("/")}/`;
      links.push(this.crumb(visible(parts[n - 1]) || "(no name)", prefix));
    }
    links.at(-1).firstChild.setAttribute("aria-current", "location");
    at("crumbs").replaceChildren(...links);
  },

  crumb(text, prefix) {
    const [item, link] = [make("li"), make("a")];
    link.append(make("bdi", "", text));
    link.href = place(prefix, "");
    item.append(link);
    return item;
  },

  // The folder around this one.
  above() {
    return this.prefix.replace(/[^/]*\/$/, "");
  },
};
