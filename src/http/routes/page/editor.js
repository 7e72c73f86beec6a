// Writing a value, so that nobody else's change is lost.

const editor = {
  isNew: false,
  key: null,
  // The version that this one is to replace; null when there must be none.
  base: null,
  // The bytes to write where they are no text.
  bytes: null,
  began: "",
  expires: null,
  ttl: "",
  // How often it was begun or ended: an answer that comes later is not about what is open now.
  turn: 0,

  // Begins with a new key, or with the value that is shown.
  begin(isNew) {
    if (!isNew && (value.isGone || value.isCut)) {
      const text = value.isGone ? "There is nothing to edit." : "It is too long to edit here.";
      return tell("told", text);
    }
    const text = isNew ? "" : textOf(value.bytes);
    at("save").disabled = false;
    Object.assign(this, {
      turn: this.turn + 1,
      isNew,
      key: isNew ? null : value.key,
      base: isNew ? null : value.version,
      bytes: text === null ? value.bytes : null,
      expires: isNew ? null : value.expires,
    });
    at("editing").textContent = isNew ? "New key" : visible(value.key);
    at("key-field").hidden = !isNew;
    at("key").value = list.prefix;
    at("value").value = text ?? "";
    at("type").value = isNew ? "" : value.type;
    this.ttl = this.expires ? `${this.left()}s` : "";
    at("ttl").value = this.ttl;
    at("file").value = "";
    // What a field makes of a text may differ: of its line breaks, say.
    this.began = this.draft();
    this.original = text;
    this.drawBytes();
    this.clash(null);
    at("shown").hidden = at("nothing").hidden = true;
    at("editor").hidden = false;
    document.body.classList.add("opened");
    at(isNew ? "key" : "value").focus();
  },

  left() {
    return Math.max(1, Math.ceil((this.expires - Date.now()) / 1000));
  },

  draft() {
    return ["key", "value", "type", "ttl"].map(id => at(id).value).join("\0");
  },

  get isOpen() {
    return !at("editor").hidden;
  },

  get isChanged() {
    return this.isOpen && (this.draft() !== this.began || at("file").value !== "");
  },

  drawBytes() {
    at("value-field").hidden = this.bytes !== null;
    tell("bytes", this.bytes &&
      `${size(this.bytes.length)} that are no text: they stay as they are, or a file replaces them.`);
  },

  async body() {
    const [file] = at("file").files;
    if (file) return new Uint8Array(await file.arrayBuffer());
    if (this.bytes) return this.bytes;
    const text = at("value").value;
    const isSame = text === this.original?.replace(/\r\n?/g, "\n");
    return new TextEncoder().encode(isSame ? this.original : text);
  },

  async save() {
    const key = this.isNew ? at("key").value : this.key;
    if (!key) return this.clash("A key has 1 to 512 bytes.");
    let ttl = at("ttl").value.trim();
    // One that nobody has touched goes on where it is.
    if (ttl && ttl === this.ttl) ttl = `${this.left()}s`;
    const fields = ttl ? { key, ttl } : { key };
    const headers = this.base === null
      ? { "If-None-Match": "*" }
      : { "If-Match": `"${this.base}"` };
    const type = at("type").value.trim();
    if (type) headers["Content-Type"] = type;
    at("save").disabled = true;
    const { turn } = this;
    const isOpen = () => turn === this.turn;
    try {
      const body = await this.body();
      const answer = await ask(`kv?${query(fields)}`, { method: "PUT", headers, body });
      const said = answer.ok ? (await answer.json()).version : await why(answer);
      if (!isOpen()) return;
      if (answer.ok) return this.saved(key, said);
      if (answer.status === 412) return await this.met(key);
      this.clash(said);
    } catch (error) {
      if (isOpen()) this.clash(error.message);
    } finally {
      if (isOpen()) at("save").disabled = false;
    }
  },

  saved(key, version) {
    this.end();
    Object.assign(value, { said: "Saved.", own: version });
    const parent = key.replace(/[^/]*$/, "");
    const prefix = key.startsWith(list.prefix) ? list.prefix : parent;
    if (value.key === key) value.open(key); else go(prefix, key);
  },

  // Somebody else was there: what is there now?
  async met(key) {
    const { turn } = this;
    const answer = await ask(`kv?raw&${query({ key })}`);
    const isFound = answer.ok || answer.status === 404;
    const version = (answer.headers.get("etag") || "").replace(/^W\/|"/g, "");
    const said = isFound ? "" : await why(answer);
    const bytes = answer.ok ? await beginning(answer) : null;
    if (turn !== this.turn) return;
    if (!isFound) return this.clash(said);
    const when = version ? ` at ${written(version).toLocaleTimeString()}` : "";
    this.other = { key, version: answer.ok ? version : null, bytes };
    const what = answer.ok
      ? this.isNew ? "There is such a key already" : "Somebody has changed this key"
      : "Somebody has deleted this key";
    this.clash(`${what}${when}. Yours is not saved.`, true);
  },

  // The stream tells of the key that is edited.
  changed(event) {
    if (event.version <= this.base) return;
    this.met(this.key).catch(error => this.clash(error.message));
  },

  clash(text, hasOther = false) {
    tell("conflict", text);
    at("choices").hidden = !hasOther;
    tell("other", "");
    at("theirs").hidden = hasOther && this.other.bytes === null;
  },

  showOther() {
    const text = textOf(this.other.bytes);
    tell("other", text === null ? hex(this.other.bytes) : text.slice(0, TEXT_MAX) || "(empty)");
  },

  // Takes the place of the version that was told of, and of no later one.
  overwrite() {
    this.base = this.other.version;
    return this.save();
  },

  end() {
    this.turn += 1;
    at("editor").hidden = true;
    at("nothing").hidden = value.key !== null;
    at("shown").hidden = value.key === null;
    document.body.classList.toggle("opened", value.key !== null);
  },

  // Whether what is written here may go.
  async mayLeave() {
    if (!this.isChanged) return true;
    const name = this.isNew ? at("key").value : this.key;
    return sure("Leave what is not saved?", name, "Your changes go.", "Leave it");
  },

  async cancel() {
    if (!await this.mayLeave()) return;
    this.end();
    if (value.key !== null) value.load();
  },
};
