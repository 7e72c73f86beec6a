// The rows of a list that may have very many: only those in sight are elements.

// The height of a row in pixels, as the style has it.
const ROW = 34;

const rows = {
  // In order: {key, isFolder, size, version, expires, type, isNew}.
  all: [],
  chosen: -1,
  // Called when the end comes into sight.
  onEnd: () => {},
  isDrawing: false,

  clear() {
    this.all = [];
    this.chosen = -1;
    at("rows").scrollTop = 0;
    this.draw();
  },

  // Where a key is, or would be.
  place(key) {
    let [low, high] = [0, this.all.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (before(this.all[middle].key, key)) low = middle + 1; else high = middle;
    }
    return low;
  },

  has(key) {
    return this.all[this.place(key)]?.key === key;
  },

  // Puts a row where it belongs, in place of the one of that key.
  put(row) {
    const index = this.place(row.key);
    const isThere = this.all[index]?.key === row.key;
    this.all.splice(index, isThere ? 1 : 0, row);
    if (!isThere && index <= this.chosen) this.chosen += 1;
    this.draw();
  },

  remove(key) {
    const index = this.place(key);
    if (this.all[index]?.key !== key) return;
    this.all.splice(index, 1);
    if (index < this.chosen) this.chosen -= 1;
    this.chosen = Math.min(this.chosen, this.all.length - 1);
    this.draw();
  },

  choose(index) {
    if (!this.all.length) return;
    this.chosen = Math.max(0, Math.min(index, this.all.length - 1));
    const [box, top] = [at("rows"), this.chosen * ROW];
    if (top < box.scrollTop) box.scrollTop = top;
    const bottom = top + ROW - box.clientHeight;
    if (bottom > box.scrollTop) box.scrollTop = bottom;
    this.draw();
  },

  // Draws before the next picture, once, whatever has changed.
  draw() {
    if (this.isDrawing) return;
    this.isDrawing = true;
    requestAnimationFrame(() => {
      this.isDrawing = false;
      this.paint();
    });
  },

  paint() {
    const box = at("rows");
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 8);
    const end = Math.ceil((box.scrollTop + box.clientHeight) / ROW) + 8;
    const floor = make("div");
    floor.setAttribute("role", "presentation");
    floor.style.height = `${this.all.length * ROW}px`;
    const shown = this.all.slice(first, end).map((row, n) => this.element(row, first + n));
    box.replaceChildren(floor, ...shown);
    const chosen = document.getElementById(`row-${this.chosen}`);
    if (chosen) box.setAttribute("aria-activedescendant", chosen.id);
    else box.removeAttribute("aria-activedescendant");
    if (end >= this.all.length) this.onEnd();
  },

  element(row, index) {
    const isNew = row.newUntil > performance.now();
    const kind = (row.isFolder ? "row folder" : "row") + (isNew ? " new" : "");
    const element = make("div", kind);
    element.id = `row-${index}`;
    element.setAttribute("role", "option");
    element.setAttribute("aria-selected", index === this.chosen ? "true" : "false");
    element.setAttribute("aria-posinset", index + 1);
    element.setAttribute("aria-setsize", list.next === null ? this.all.length : -1);
    element.style.top = `${index * ROW}px`;
    element.title = row.key.length > 40 ? visible(row.key) : "";
    element.dataset.index = index;
    const rest = row.key.slice(list.prefix.length);
    element.append(make("bdi", "", visible(rest || row.key)));
    if (row.expires) element.append(make("small", "", "expires"));
    if (!row.isFolder && row.size !== undefined) element.append(make("small", "", size(row.size)));
    return element;
  },
};
