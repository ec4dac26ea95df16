// How texts that may hold anything are written: every character is seen.

const MINUS = "\u2212";
const NAMED = { "\n": "\u23ce", "\r": "\u240d", "\t": "\u21e5", " ": "\u00b7", "\u00a0": "\u237d" };
// Nothing that is unseen or that turns the order of letters round stays as it is: control characters, the halves of a pair,
// spaces other than U+0020, zero-width characters, marks of direction, line separators, tags.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u034f\u115f\u1160\u2800\u3164]|(?! )\p{Zs}/gu;

// A number with a minus as long as a plus.
export function signed(text) {
  return text.replaceAll("-", MINUS);
}

// A token as it is shown: every character visible.
export function shown(token) {
  if (token === "") return "\u2205";
  return token.replace(/ /g, NAMED[" "]).replace(UNSEEN, (c) => NAMED[c] || "U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0"));
}

export function clipped(text, most) {
  const letters = Array.from(text);
  return letters.length <= most ? text : letters.slice(0, most - 1).join("") + "\u2026";
}
