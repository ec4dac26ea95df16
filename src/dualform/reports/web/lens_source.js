// What a lens page shows, read once, and how its numbers are written.

import { clipped, shown, signed } from "./letters.js";

export const view = JSON.parse(document.getElementById("view").textContent);
export const TIME = view.tokens.length;
export const LAYERS = view.layers.length;

// Numbers are kept with four digits; three are shown.
export function brief(v) {
  if (v === 0) return "0";
  const size = Math.abs(v);
  if (size < 1e-3 || size >= 1e4) return signed(v.toExponential(1));
  return signed(v.toPrecision(3));
}

export function percent(p) {
  return p === 0 ? "0%" : p < 1e-5 ? `${signed((100 * p).toExponential(1))}%` : `${(100 * p).toPrecision(3)}%`;
}

// Between marks that keep a text's own direction of writing to itself.
export const quoted = (text, most = 28) => `\u2068\u201c${clipped(shown(text), most)}\u201d\u2069`;
export const tokenName = (i) => quoted(view.tokens[i]);
export const wordName = (word) => quoted(view.words[word]);
