// What a bounded model keeps: for each layer and head the token after which each one is dropped, and so what is kept after any.

import { bytesOf } from "./decode.js";
import { TIME, view } from "./source.js";
import { tokenName } from "./numbers.js";
import { clipped, shown } from "./letters.js";
import { colours, css, ink, paint, place } from "./colour.js";
import { drawn, set, state } from "./state.js";
import { $, clamp, element } from "./elements.js";
import { hideTip, showTip } from "./tip.js";
import { MOST_TOKENS } from "./tokens.js";
import { MOST_CELLS } from "./plot.js";

const kept = view.kept && {
  layers: view.kept.layers.map(({ name, heads, lives }) => ({ name, heads, dropped: lives.map(droppedOf) })),
  under: null, // the token under the pointer, for as long as it is there
};
const keptChips = [];
let keptFrom = -1;

// Two bytes for each token: after how many it is dropped.
function droppedOf(text) {
  const bytes = bytesOf(text), out = new Uint32Array(TIME);
  for (let s = 0; s < TIME; s++) out[s] = s + (bytes[2 * s] | (bytes[2 * s + 1] << 8));
  return out;
}

// The layer that is looked at, or all where that one is not bounded.
export function keptLayers() {
  const own = kept.layers.filter(({ name }) => name === view.layers[state.layer].name);
  return own.length ? own : kept.layers;
}
const keptName = (layers) => (layers.length === 1 ? layers[0].name : `all ${layers.length} layers`);
const keptAt = () => kept.under ?? state.token;

// The share of the layers' heads that keep token s after token t.
function keptShare(layers, s, t) {
  let sum = 0;
  for (const { dropped } of layers) for (const head of dropped) sum += (t < head[s] ? 1 : 0) / dropped.length;
  return sum / layers.length;
}

const keptCells = () => Math.min(TIME, MOST_CELLS);
const firstOf = (cell, cells) => Math.floor((cell * TIME) / cells);
const cellOfToken = (s, cells) => Math.min(cells - 1, Math.floor(((s + 1) * cells - 1) / TIME));

// Rows: after the last token of each cell; columns: the mean share of the tokens of each cell; NaN where none is read yet.
export function keptOverTime(layers, cells) {
  const out = new Float32Array(cells * cells), ends = Array.from({ length: cells }, (_, i) => firstOf(i + 1, cells) - 1);
  for (const { dropped } of layers) for (const head of dropped) {
    for (let s = 0; s < TIME; s++) {
      const column = cellOfToken(s, cells);
      for (let i = column; i < cells && ends[i] < head[s]; i++) if (ends[i] >= s) out[i * cells + column] += 1 / (dropped.length * layers.length);
    }
  }
  for (let i = 0; i < cells; i++) for (let j = 0; j < cells; j++) {
    const read = Math.min(ends[i], ends[j]) - firstOf(j, cells) + 1;
    out[i * cells + j] = read > 0 ? out[i * cells + j] / read : NaN;
  }
  return out;
}

// One row for each layer: what it keeps after token t.
function keptByLayer(t, cells) {
  const out = new Float32Array(kept.layers.length * cells).fill(NaN);
  kept.layers.forEach((layer, i) => {
    for (let j = 0; j < cells; j++) {
      const first = firstOf(j, cells), end = Math.min(t + 1, firstOf(j + 1, cells));
      if (first >= end) continue;
      let sum = 0;
      for (let s = first; s < end; s++) sum += keptShare([layer], s, t);
      out[i * cells + j] = sum / (end - first);
    }
  });
  return out;
}

function layKept() {
  const from = TIME <= MOST_TOKENS ? 0 : clamp(keptAt() - MOST_TOKENS / 2, 0, TIME - MOST_TOKENS);
  if (keptChips.length && (TIME <= MOST_TOKENS || Math.abs(from - keptFrom) < MOST_TOKENS / 2 - 64)) return;
  keptFrom = from;
  keptChips.length = 0;
  const strip = $("kept-strip");
  strip.replaceChildren();
  for (let i = from; i < Math.min(TIME, from + MOST_TOKENS); i++) {
    const chip = element("bdi", { class: "token", text: clipped(shown(view.tokens[i]), 24) });
    chip.dataset.i = i;
    keptChips.push(chip);
    strip.append(chip);
    if (/\n$/.test(view.tokens[i])) strip.append(element("br"));
  }
}

function keptSentence(layers, t) {
  let all = 0, none = 0;
  const now = [];
  for (let s = 0; s <= t; s++) {
    const share = keptShare(layers, s, t);
    if (share > 1 - 1e-9) all++;
    else if (share === 0) none++;
    if (share < 1 - 1e-9 && layers.some(({ dropped }) => dropped.some((head) => head[s] === t))) now.push(s);
  }
  const dropped = now.length ? `drops ${now.slice(0, 3).map((s) => `${tokenName(s)} (${s})`).join(", ")}${now.length > 3 ? ` and ${now.length - 3} more` : ""}` : "drops nothing";
  return `${keptName(layers)}: of ${t + 1} tokens ${all} kept by every head, ${none} by none; here it ${dropped}.`;
}

function showKept() {
  const t = keptAt(), layers = keptLayers(), lut = colours(state.theme), cells = keptCells();
  layKept();
  for (const chip of keptChips) {
    const s = Number(chip.dataset.i), share = s > t ? 0 : keptShare(layers, s, t), word = lut[place(share, 1, false)];
    chip.className = s > t ? "token unread" : share ? "token" : "token dropped";
    chip.style.backgroundColor = share ? css(word) : "";
    chip.style.color = share ? ink(word) : "";
  }
  const strip = $("kept-strip"), chip = keptChips[t - keptFrom], top = chip.offsetTop;
  if (top < strip.scrollTop || top + chip.offsetHeight > strip.scrollTop + strip.clientHeight) strip.scrollTop = top - strip.clientHeight / 2;
  paint($("kept-layers"), keptByLayer(t, cells), kept.layers.length, 1, false, state.theme, cells);
  const at = `${(100 * (t + 0.5)) / TIME}%`;
  $("kept-body").style.setProperty("--at", at);
  const said = keptSentence(layers, t);
  $("kept-time").replaceChildren(`after ${tokenName(t)} (${t})`);
  $("kept-said").textContent = said;
  $("kept-slider").value = t;
  $("kept-slider").setAttribute("aria-valuetext", `after token ${t}, ${shown(view.tokens[t])}. ${said}`);
  $("kept-layers").setAttribute("aria-label", `What each layer keeps after token ${t}: one row for each of ${kept.layers.length} layers.`);
  $("kept-body").dataset.of = `${state.layer}/${t}`; // layer and token that it is of
}

function paintKept() {
  const layers = keptLayers(), cells = keptCells();
  paint($("kept-map"), keptOverTime(layers, cells), cells, 1, false, state.theme);
  $("kept-map").setAttribute("aria-label", `${keptName(layers)}: row t is what is kept after token t.`);
  $("kept-of").textContent = `${keptName(layers)}, after each token`;
}

// The token of a column, and of a row, under a pointer.
function keptUnder(event, rows) {
  const box = event.target.getBoundingClientRect();
  const part = (v, low, size, count) => clamp(Math.floor(((v - low) / size) * count), 0, count - 1);
  return { s: part(event.clientX, box.left, box.width, TIME), row: part(event.clientY, box.top, box.height, rows) };
}

function keptTip(event, layers, s, t) {
  if (s > t) return hideTip();
  const ends = layers.flatMap(({ dropped, heads }) => (dropped.length === 1 ? Array(heads).fill(dropped[0][s]) : dropped.map((head) => head[s])));
  const here = ends.filter((end) => t < end).length, last = Math.max(...ends);
  const after = last === TIME ? "to the end by some" : last === s ? "dropped at once by all" : `dropped by all after token ${last}`;
  showTip(event, `${tokenName(s)} (${s}), after token ${t}, ${keptName(layers)}: ${after}`, `kept by ${here} of ${ends.length} heads`);
}

function lookAt(t) {
  if (kept.under === t) return;
  kept.under = t;
  showKept();
}

function showKinds() {
  const part = (v) => (v === null ? "\u2013" : `${(100 * v).toFixed(1)}%`);
  const head = element("thead", {}, element("tr", {}, ...["kind of token", "tokens", "kept in the end", "kept k later", "mean life"].map((text, k) => element("th", { scope: "col", class: k ? "number" : "", text }))));
  const body = element("tbody", {}, ...view.kept.kinds.map(([kind, tokens, end, later, life]) => element("tr", {}, element("th", { scope: "row", text: kind }), ...[tokens, part(end), part(later), life.toFixed(1)].map((text) => element("td", { class: "number", text })))));
  $("kept-kinds").append(head, body);
}

export function startKept() {
  if (!kept) return;
  $("kept").hidden = $("kept-help").hidden = false;
  $("kept-policy").textContent = view.kept.policy;
  showKinds();
  const slider = $("kept-slider");
  slider.max = TIME - 1;
  slider.addEventListener("input", () => { kept.under = null; set({ token: Number(slider.value) }); showKept(); });
  const map = $("kept-map"), rows = $("kept-layers");
  map.addEventListener("pointermove", (event) => {
    const { s, row } = keptUnder(event, TIME);
    lookAt(row);
    keptTip(event, keptLayers(), s, row);
  });
  map.addEventListener("click", (event) => set({ token: keptUnder(event, TIME).row }));
  rows.addEventListener("pointermove", (event) => {
    const { s, row } = keptUnder(event, kept.layers.length);
    keptTip(event, [kept.layers[row]], s, keptAt());
  });
  rows.addEventListener("click", (event) => {
    const { name } = kept.layers[keptUnder(event, kept.layers.length).row];
    const layer = view.layers.findIndex((each) => each.name === name);
    if (layer >= 0) set({ layer });
  });
  for (const canvas of [map, rows]) canvas.addEventListener("pointerleave", () => { hideTip(); lookAt(null); });
  const strip = $("kept-strip"), chipAt = (event) => event.target.closest(".token");
  strip.addEventListener("pointermove", (event) => {
    const chip = chipAt(event);
    if (chip) keptTip(event, keptLayers(), Number(chip.dataset.i), keptAt());
    else hideTip();
  });
  strip.addEventListener("pointerleave", hideTip);
  strip.addEventListener("click", (event) => { if (chipAt(event)) set({ token: Number(chipAt(event).dataset.i) }); });
  rows.style.height = `${kept.layers.length * clamp(150 / kept.layers.length, 4, 16)}px`;
  drawn(["layer", "theme"], paintKept);
  drawn(["layer", "theme", "token"], showKept);
}
