// What every part uses: elements, text that shows what it is, and questions to this node.

const at = id => document.getElementById(id);

// An element with a class and a text. Nothing here ever reads text as markup.
const make = (name, kind = "", text = "") => {
  const element = document.createElement(name);
  element.className = kind;
  element.textContent = text;
  return element;
};

// Shows or hides an element, with this text if there is one.
const tell = (id, text) => {
  at(id).textContent = text || "";
  at(id).hidden = !text;
};

// Characters that nobody sees, or that turn the direction of what stands beside them.
const UNSEEN = new RegExp("[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b-\\u200f" +
  "\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb]|[\\u{e0000}-\\u{e007f}]", "gu");
const visible = text => text.replace(UNSEEN, c => `\\u{${c.codePointAt(0).toString(16)}}`)
  .replace(/^ | $/g, "\\u{20}");

// The order of the store: that of the bytes of UTF-8, which is that of the code points.
const before = (a, b) => {
  const n = Math.min(a.length, b.length);
  let i = 0;
  while (i < n && a.charCodeAt(i) === b.charCodeAt(i)) i += 1;
  if (i === n) return a.length < b.length;
  const rank = unit => unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
  return rank(a.charCodeAt(i)) < rank(b.charCodeAt(i));
};

const size = n => {
  if (n < 1024) return `${n} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let unit = -1;
  for (; n >= 1024 && unit < 3; unit += 1) n /= 1024;
  return `${n.toFixed(n < 10 ? 1 : 0)} ${units[unit]}`;
};
const plural = (n, what) => `${n.toLocaleString()} ${what}${n === 1 ? "" : "s"}`;

// A version begins with its time: 48 bits of milliseconds, in hex.
const written = version => new Date(parseInt(version.slice(0, 12), 16));

const pause = (ms, signal) => new Promise(done => {
  setTimeout(done, ms);
  signal?.addEventListener("abort", done);
});

// Kept here and nowhere else: it goes with the tab.
let token = "";
// Whether this token has been refused, so that nobody is asked over and over.
let isRefused = false;

// Asks this node. The page may stand below a prefix, so every path is relative.
async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  const answer = await fetch(path, { cache: "no-store", ...options, headers });
  if (answer.status === 401 && !isRefused) {
    isRefused = true;
    wantToken(token ? "This server does not know that token." : "This server wants its token.");
  }
  return answer;
}

// What a refusal says.
async function why(answer) {
  try {
    return (await answer.json()).error || `The answer was ${answer.status}.`;
  } catch {
    return `The answer was ${answer.status}.`;
  }
}

// The JSON of an answer, which must be a good one.
async function json(path, options) {
  const answer = await ask(path, options);
  if (!answer.ok) throw new Error(await why(answer));
  return answer.json();
}

const query = fields => new URLSearchParams(fields).toString();

function wantToken(text) {
  at("login-why").textContent =
    `${text} It is kept in the memory of this tab, and goes with it.`;
  at("token").value = "";
  if (!at("login").open) at("login").showModal();
}

// Asks for a yes; what is asked, of whom, and what follows.
function sure(title, name, text, yes) {
  at("sure-title").textContent = title;
  at("sure-name").textContent = visible(name);
  at("sure-text").textContent = text;
  at("sure-yes").textContent = yes;
  const dialog = at("sure");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise(done => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}
