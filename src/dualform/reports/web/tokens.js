// The tokens on top: the chosen one, and what it takes from and gives to in colour.

import { TIME, view } from "./source.js";
import { asKept, brief, tokenName } from "./numbers.js";
import { clipped, shown } from "./letters.js";
import { colours, css, ink, place } from "./colour.js";
import { choice, drawn, mapName, mapOf, peakOf, set, state } from "./state.js";
import { $, clamp, element } from "./elements.js";
import { hideTip, showTip } from "./tip.js";
import { profile, profiled } from "./profile.js";

export const MOST_TOKENS = 2048; // on the page at once
const chips = [];
let chipsFrom = -1;

// What token i shows: the chosen one takes from those before it, and gives to those after it.
function shareOf(i) {
  const takes = state.direction === "takes" || (state.direction === "both" && i <= state.token);
  return takes ? { value: profile.row[i], takes: true } : { value: profile.column[i], takes: false };
}

function layTokens() {
  const from = TIME <= MOST_TOKENS ? 0 : clamp(state.token - MOST_TOKENS / 2, 0, TIME - MOST_TOKENS);
  const near = chipsFrom >= 0 && (from === chipsFrom || Math.abs(state.token - chipsFrom - MOST_TOKENS / 2) < MOST_TOKENS / 2 - 64);
  if (near && chips.length) return;
  chipsFrom = from;
  chips.length = 0;
  const strip = $("strip");
  strip.replaceChildren();
  for (let i = from; i < Math.min(TIME, from + MOST_TOKENS); i++) {
    const chip = element("bdi", { class: "token", role: "option", id: `token-${i}`, "aria-selected": "false", text: clipped(shown(view.tokens[i]), 24) });
    chip.dataset.i = i;
    chips.push(chip);
    strip.append(chip);
    if (/\n$/.test(view.tokens[i])) strip.append(element("br"));
  }
  $("strip-note").hidden = TIME <= MOST_TOKENS;
  $("strip-note").textContent = `Tokens ${from} to ${from + chips.length - 1} of ${TIME}; choose one further on in the map or with the keys.`;
}

function colourTokens() {
  const lut = colours(state.theme), map = mapOf(state.layer), peak = peakOf(state.layer, map);
  for (let k = 0; k < chips.length; k++) {
    const i = chipsFrom + k, { value } = shareOf(i), word = lut[place(value, peak, state.root)];
    chips[k].style.backgroundColor = css(word);
    chips[k].style.color = ink(word);
  }
}

let marked = null;
function markToken() {
  hideTip(); // it spoke of the token before
  layTokens();
  if (marked) {
    marked.classList.remove("chosen");
    marked.setAttribute("aria-selected", "false");
  }
  marked = chips[state.token - chipsFrom];
  marked.classList.add("chosen");
  marked.setAttribute("aria-selected", "true");
  const strip = $("strip");
  strip.setAttribute("aria-activedescendant", marked.id);
  const top = marked.offsetTop;
  if (top < strip.scrollTop || top + marked.offsetHeight > strip.scrollTop + strip.clientHeight) strip.scrollTop = top - strip.clientHeight / 2;
}

function say() {
  const strongest = (a, skip) => a.reduce((best, v, i) => (i !== skip && Math.abs(v) > Math.abs(best < 0 ? 0 : a[best]) ? i : best), -1);
  const from = strongest(profile.row, state.token), to = strongest(profile.column, state.token);
  const parts = [
    from < 0 ? "takes from no other token" : `takes most from ${tokenName(from)} (${from}): ${brief(profile.row[from])}`,
    to < 0 ? "gives to no other" : `gives most to ${tokenName(to)} (${to}): ${brief(profile.column[to])}`,
  ];
  $("said").replaceChildren(element("span", { class: "name", text: tokenName(state.token) }), ` (${state.token}) ${parts.join("; ")}`);
  $("live").textContent = `${view.layers[state.layer].name}, ${mapName(state.layer)}. Token ${state.token}, ${tokenName(state.token)}, ${parts.join("; ")}.`;
}

export function startTokens() {
  const words = [["takes", "takes from"], ["gives", "gives to"]];
  choice("direction", "direction", view.causal ? [["both", "both", "Before the chosen token: what it takes; after it: what it gives"], ...words] : words);
  const strip = $("strip");
  const chipAt = (event) => event.target.closest(".token");
  strip.addEventListener("click", (event) => {
    const chip = chipAt(event);
    if (chip) set({ token: Number(chip.dataset.i) });
  });
  strip.addEventListener("pointermove", (event) => {
    const chip = chipAt(event);
    if (!chip) return hideTip();
    const i = Number(chip.dataset.i), { value, takes } = shareOf(i);
    const [reader, read] = takes ? [state.token, i] : [i, state.token];
    showTip(event, `${tokenName(reader)} (${reader}) takes from ${tokenName(read)} (${read})`, asKept(value));
  });
  strip.addEventListener("pointerleave", hideTip);
  drawn(["token"], markToken);
  profiled(colourTokens);
  profiled(say);
  drawn(["direction", "root", "shared", "theme"], colourTokens);
}
