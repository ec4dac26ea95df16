// How numbers and tokens are written.

import { DIGITS, EXACT, view } from "./source.js";

const MINUS = "\u2212";

function signed(text) {
  return text.replaceAll("-", MINUS);
}

// Few digits: for tables and legends.
export function brief(v, digits = DIGITS) {
  if (v === 0) return "0";
  const size = Math.abs(v);
  if (size < 1e-3 || size >= 1e4) return signed(v.toExponential(Math.max(1, digits - 2)));
  return signed(size >= 10 ** digits ? v.toFixed(0) : v.toPrecision(digits));
}

// The shortest text that gives the same float32.
function exact(v) {
  for (let digits = 1; digits < 9; digits++) {
    const text = Number(v.toPrecision(digits));
    if (Math.fround(text) === v) return signed(String(text));
  }
  return signed(String(Number(v.toPrecision(9))));
}

// As exactly as this page has it.
export function asKept(v) {
  return EXACT || v === 0 ? exact(v) : `\u2248\u2009${brief(v)}`;
}

export function residualText(r) {
  return r === null ? "none" : r === 0 ? "0" : signed(r.toExponential(1));
}

const NAMED = { "\n": "\u23ce", "\r": "\u240d", "\t": "\u21e5", " ": "\u00b7", "\u00a0": "\u237d" };
// Nothing that is unseen or that turns the order of letters round stays as it is: control characters, the halves of a pair,
// spaces other than U+0020, zero-width characters, marks of direction, line separators, tags.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u034f\u115f\u1160\u2800\u3164]|(?! )\p{Zs}/gu;

// A token as it is shown: every character visible.
export function shown(token) {
  if (token === "") return "\u2205";
  return token.replace(/ /g, NAMED[" "]).replace(UNSEEN, (c) => NAMED[c] || "U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0"));
}

export function clipped(text, most) {
  const letters = Array.from(text);
  return letters.length <= most ? text : letters.slice(0, most - 1).join("") + "\u2026";
}

// Between marks that keep a token's own direction of writing to itself.
export const tokenName = (i) => `\u2068\u201c${clipped(shown(view.tokens[i]), 28)}\u201d\u2069`;
