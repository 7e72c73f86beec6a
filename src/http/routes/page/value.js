// One value: what it is, in the form that suits it.

// Bytes that are fetched to be shown: of a text a part will do.
const LOADED_MAX = 4 << 20;

const value = {
  key: null,
  version: "",
  type: "",
  bytes: new Uint8Array(0),
  // Bytes of all of it, where the answer says so.
  length: 0,
  expires: null,
  isGone: false,
  // The version that this tab has written, and what is said when it is shown.
  own: "",
  said: "",
  form: "",
  forms: {},
  stop: new AbortController(),
  url: "",

  // Opens a key; null for none.
  async open(key) {
    this.stop.abort();
    this.stop = new AbortController();
    this.key = key;
    this.form = "";
    document.body.classList.toggle("opened", key !== null);
    at("nothing").hidden = key !== null;
    at("shown").hidden = true;
    at("editor").hidden = true;
    editor.turn += 1;
    if (key === null) return;
    tell("told", this.said);
    this.said = "";
    await this.load();
    at("pane").scrollTop = 0;
  },

  async load() {
    const { key, stop: { signal } } = this;
    try {
      const answer = await ask(`kv?raw&${query({ key })}`, { signal });
      if (!answer.ok && answer.status !== 404) throw new Error(await why(answer));
      await this.take(answer);
      if (!signal.aborted) this.show();
    } catch (error) {
      if (signal.aborted) return;
      at("name").textContent = visible(key);
      at("shown").hidden = false;
      tell("told", error.message);
    }
  },

  async take(answer) {
    const { signal } = this.stop;
    const header = name => answer.headers.get(name) || "";
    const bytes = answer.ok ? await beginning(answer) : new Uint8Array(0);
    if (signal.aborted) return;
    const type = header("content-type");
    const ttl = header("ttl");
    Object.assign(this, {
      bytes,
      isGone: !answer.ok,
      version: header("etag").replace(/^W\/|"/g, ""),
      type: type === "application/octet-stream" ? "" : type,
      length: Number(header("content-length")) || bytes.length,
      expires: ttl ? Date.now() + 1000 * Number(ttl) : null,
    });
  },

  get isCut() {
    return this.length > this.bytes.length;
  },

  show() {
    at("name").textContent = visible(this.key);
    at("shown").hidden = !at("editor").hidden;
    if (this.isGone) tell("told", "There is no such key now.");
    for (const id of ["copy", "download", "delete"]) at(id).disabled = this.isGone;
    this.facts();
    const text = textOf(this.bytes) ?? (this.isCut ? textOf(this.bytes.subarray(0, -3)) : null);
    this.forms = {};
    if (text !== null) this.forms.Text = () => text;
    const laidOut = text === null || this.isCut ? null : pretty(text);
    if (laidOut !== null) this.forms.JSON = () => laidOut;
    if (!this.isCut && isPicture(this.type, this.bytes)) this.forms.Image = null;
    this.forms.Hex = () => hex(this.bytes);
    if (!(this.form in this.forms)) {
      const isJson = "JSON" in this.forms && /^\s*[{[]/.test(text);
      this.form = "Image" in this.forms ? "Image" : isJson ? "JSON" : Object.keys(this.forms)[0];
    }
    at("copy").hidden = !("Text" in this.forms) || this.isCut;
    this.draw();
  },

  facts() {
    const facts = [];
    if (!this.isGone) {
      facts.push(size(this.length), this.type || "no type");
      if (this.expires) facts.push(`expires ${new Date(this.expires).toLocaleString()}`);
    }
    if (this.version) {
      facts.push(`written ${written(this.version).toLocaleString()}`, `version ${this.version}`);
    }
    at("facts").replaceChildren(...facts.map(fact => make("span", "", visible(fact))));
  },

  draw() {
    const names = this.isGone ? [] : Object.keys(this.forms);
    at("forms").replaceChildren(...names.map(name => {
      const button = make("button", "", name);
      button.type = "button";
      button.setAttribute("aria-pressed", name === this.form ? "true" : "false");
      button.addEventListener("click", () => {
        this.form = name;
        this.draw();
      });
      return button;
    }));
    const isImage = this.form === "Image";
    at("text").hidden = isImage || this.isGone;
    at("picture").hidden = !isImage || this.isGone;
    URL.revokeObjectURL(this.url);
    if (isImage) {
      // As a picture it runs no script, whatever it is.
      this.url = URL.createObjectURL(new Blob([this.bytes], { type: this.type || "image/*" }));
      at("image").src = this.url;
      tell("cut", "");
    } else {
      at("image").removeAttribute("src");
      const whole = this.forms[this.form]();
      at("text").className = this.form === "Hex" ? "hex" : "";
      at("text").textContent = this.form === "Hex" ? whole : whole.slice(0, TEXT_MAX);
      const shown = this.form === "Hex" ? HEX_MAX : TEXT_MAX;
      const isShort = this.form === "Hex" ? this.length > HEX_MAX : whole.length > TEXT_MAX;
      tell("cut", isShort || this.isCut
        ? `This is the beginning, ${size(Math.min(shown, this.bytes.length))} of ` +
          `${size(this.length)}. Download it to have all.`
        : "");
    }
  },

  // The stream tells of a key.
  changed(event) {
    if (event.key !== this.key || event.version <= this.version) return;
    if (event.version === this.own) return;
    if (!at("editor").hidden && !editor.isNew) return editor.changed(event);
    if (at("shown").hidden) return;
    const when = new Date().toLocaleTimeString();
    if (event.event === "put") {
      tell("told", `Changed at ${when}.`);
      this.load();
    } else {
      this.version = event.version;
      tell("told", `${event.expired ? "Expired" : "Deleted"} at ${when}: this is what it was.`);
      at("delete").disabled = true;
    }
  },

  async download() {
    try {
      const answer = await ask(`kv?raw&${query({ key: this.key })}`);
      if (!answer.ok) throw new Error(await why(answer));
      const bytes = new Blob([await answer.arrayBuffer()], { type: "application/octet-stream" });
      const link = make("a");
      link.href = URL.createObjectURL(bytes);
      link.download = this.key.split("/").at(-1) || "value";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    } catch (error) {
      tell("told", error.message);
    }
  },

  async copy() {
    const text = textOf(this.bytes);
    try {
      await navigator.clipboard.writeText(text);
      tell("told", "Copied.");
    } catch {
      // Only pages of HTTPS or of this machine may; the text is marked for the person to copy.
      getSelection().selectAllChildren(at("text"));
      tell("told", "This browser lets no such page copy. The text is marked: copy it by hand.");
    }
  },

  // Deletes it, unless somebody has changed it since it was shown.
  async remove() {
    const { key, version } = this;
    const text = "It goes on every node. If somebody changes it meanwhile it stays, and you are " +
      "told.";
    if (this.isGone || !await sure("Delete this key?", key, text, "Delete")) return;
    const headers = { "If-Match": `"${version}"` };
    try {
      const answer = await ask(`kv?${query({ key })}`, { method: "DELETE", headers });
      if (answer.ok) {
        rows.remove(key);
        list.foot();
        // Whoever has begun something else meanwhile stays there.
        if (this.key === key && !editor.isOpen) go(list.prefix, null);
        return;
      }
      const isOther = answer.status === 412;
      const said = isOther ? "Not deleted: somebody has changed it." : await why(answer);
      if (this.key !== key) return;
      tell("told", said);
      if (isOther) this.load();
    } catch (error) {
      if (this.key === key) tell("told", error.message);
    }
  },
};

// The first bytes of an answer, as many as are shown at most.
async function beginning(answer) {
  const [reader, parts] = [answer.body.getReader(), []];
  let n = 0;
  while (n < LOADED_MAX) {
    const { value: part, done } = await reader.read();
    if (done) break;
    parts.push(part);
    n += part.length;
  }
  if (n >= LOADED_MAX) reader.cancel();
  const bytes = new Uint8Array(n);
  let from = 0;
  for (const part of parts) {
    bytes.set(part, from);
    from += part.length;
  }
  return bytes;
}
