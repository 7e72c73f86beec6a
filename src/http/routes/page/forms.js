// The forms in which the bytes of a value can be shown.

// What is shown of a text, in characters, and of anything as hex, in bytes.
const TEXT_MAX = 256 << 10;
const HEX_MAX = 32 << 10;

// The text that these bytes are, or null.
const textOf = bytes => {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
};

// The same JSON with line breaks, every token as it was written: a number may have more digits than
// a script can keep, and a name may come twice. Null for what is no JSON.
function pretty(text) {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  const out = [];
  let depth = 0;
  const line = () => out.push("\n", "  ".repeat(Math.min(depth, 40)));
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g) || [];
  tokens.forEach((part, n) => {
    const isOpen = part === "{" || part === "[";
    const isEmpty = isOpen && (tokens[n + 1] === "}" || tokens[n + 1] === "]");
    if (isOpen) {
      out.push(part);
      depth += 1;
      if (!isEmpty) line();
    } else if (part === "}" || part === "]") {
      depth -= 1;
      if (tokens[n - 1] !== "{" && tokens[n - 1] !== "[") line();
      out.push(part);
    } else if (part === ",") {
      out.push(part);
      line();
    } else {
      out.push(part === ":" ? ": " : part);
    }
  });
  return out.join("");
}

function hex(bytes) {
  const lines = [];
  for (let from = 0; from < Math.min(bytes.length, HEX_MAX); from += 16) {
    const part = [...bytes.subarray(from, from + 16)];
    const digits = part.map(byte => byte.toString(16).padStart(2, "0"));
    const left = digits.slice(0, 8).join(" ").padEnd(23);
    const right = digits.slice(8).join(" ").padEnd(23);
    const text = part.map(byte => byte > 31 && byte < 127 ? String.fromCharCode(byte) : ".");
    lines.push(`${from.toString(16).padStart(8, "0")}  ${left}  ${right}  ${text.join("")}`);
  }
  return lines.join("\n");
}

const PICTURES = [[0x89, 0x50, 0x4e, 0x47], [0xff, 0xd8, 0xff], [0x47, 0x49, 0x46, 0x38]];
const isPicture = (type, bytes) => type.startsWith("image/") ||
  PICTURES.some(magic => magic.every((byte, n) => bytes[n] === byte));
