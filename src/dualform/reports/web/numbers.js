// How numbers and tokens are written.

import { DIGITS, EXACT, view } from "./source.js";
import { clipped, shown, signed } from "./letters.js";

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

// Between marks that keep a token's own direction of writing to itself.
export const tokenName = (i) => `\u2068\u201c${clipped(shown(view.tokens[i]), 28)}\u201d\u2069`;
