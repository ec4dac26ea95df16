// The big map: a region of one map, its axes, and the chosen token's row and column.

import { source, view } from "./source.js";
import { asKept, brief, tokenName } from "./numbers.js";
import { shown } from "./letters.js";
import { colours, css, paint, place } from "./colour.js";
import { choice, drawn, mapName, mapOf, newest, peakOf, state } from "./state.js";
import { $ } from "./elements.js";
import { hideTip, showTip } from "./tip.js";

export const MOST_CELLS = 512; // along a side; beyond, a cell stands for several tokens
export const plot = { values: null, cells: 0, r0: 0, c0: 0, n: 0, left: 0, top: 6, size: 0, image: document.createElement("canvas") };

const cellsFor = (n) => Math.min(n, MOST_CELLS);

const readRegion = newest(
  (layer, map, r0, c0, n) => source.region(layer, map, r0, c0, n, cellsFor(n)),
  (values, layer, map, r0, c0, n) => {
    Object.assign(plot, { values, cells: cellsFor(n), r0, c0, n });
    paintRegion();
    drawPlot();
    if (!performance.getEntriesByName("first map").length) performance.mark("first map");
  },
);

function paintRegion() {
  if (!plot.values) return;
  paint(plot.image, plot.values, plot.cells, peakOf(state.layer, mapOf(state.layer)), state.root, state.theme);
}

const ink2d = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const LEAST = 11; // points for each token where all are written along an axis

// Positions to write along an axis: every token where there is room, else round numbers.
export function ticks(from, n, room, named) {
  if (named) return Array.from({ length: n }, (_, i) => from + i);
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000];
  const step = steps.find((s) => (s * room) / n >= 48) || 100000;
  const out = [];
  for (let i = Math.ceil(from / step) * step; i < from + n; i += step) out.push(i);
  return out;
}

// Letters are of many widths: a label is measured, and cut to fit.
function fitted(context, text, most) {
  if (context.measureText(text).width <= most) return text;
  const letters = Array.from(text);
  while (letters.length > 1 && context.measureText(letters.join("") + "\u2026").width > most) letters.pop();
  return letters.join("") + "\u2026";
}

function drawPlot() {
  const canvas = $("map"), wide = $("canvases").clientWidth;
  if (!plot.values || wide < 60) return;
  const ratio = devicePixelRatio || 1, context = canvas.getContext("2d");
  const margin = Math.min(92, Math.round(wide * 0.2)), named = Math.floor(wide - margin - 6) / plot.n >= LEAST;
  const left = named ? margin : 40, bottom = named ? margin - 10 : 22;
  const size = Math.floor(wide - left - 6);
  Object.assign(plot, { left, size });
  const high = plot.top + size + bottom;
  canvas.width = Math.round(wide * ratio);
  canvas.height = Math.round(high * ratio);
  canvas.style.height = `${high}px`;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.imageSmoothingEnabled = false;
  context.fillStyle = ink2d("--ground");
  context.fillRect(left, plot.top, size, size);
  context.drawImage(plot.image, left, plot.top, size, size);
  context.strokeStyle = ink2d("--line");
  context.lineWidth = 1;
  context.strokeRect(left - 0.5, plot.top - 0.5, size + 1, size + 1);
  Object.assign($("rail-rows").style, { marginTop: `${plot.top}px`, height: `${size}px` });
  Object.assign($("rail-columns").style, { marginLeft: `${left}px`, width: `${size}px` });
  drawAxes(context, named, left, bottom, size);
  drawCross(context, left, size);
  canvas.setAttribute("aria-label", `Map of ${view.layers[state.layer].name}, ${mapName(state.layer)}: rows ${plot.r0} to ${plot.r0 + plot.n - 1} take from columns ${plot.c0} to ${plot.c0 + plot.n - 1}. The tables name the strongest.`);
}

function drawAxes(context, named, left, bottom, size) {
  const step = size / plot.n, top = plot.top;
  for (const [from, across] of [[plot.r0, false], [plot.c0, true]]) {
    for (const i of ticks(from, plot.n, size, named)) {
      const at = (i - from + 0.5) * step, chosen = i === state.token;
      context.fillStyle = ink2d(chosen ? "--ink" : "--soft");
      context.font = `${chosen ? "bold " : ""}11px system-ui, sans-serif`;
      const text = named ? fitted(context, shown(view.tokens[i]), left - 12) : String(i);
      context.save();
      if (across) context.translate(left + at, top + size + 6);
      else context.translate(left - 6, top + at);
      if (across && named) context.rotate(-Math.PI / 2.6);
      context.textAlign = across && !named ? "center" : "right";
      context.textBaseline = across ? (named ? "middle" : "top") : "middle";
      context.fillText(text, 0, 0);
      context.restore();
    }
  }
}

function drawCross(context, left, size) {
  const step = size / plot.n, thick = Math.max(2, step), top = plot.top;
  context.save();
  context.beginPath();
  context.rect(left, top, size, size);
  context.clip();
  context.strokeStyle = ink2d("--mark");
  context.lineWidth = 1.5;
  const y = top + (state.token - plot.r0 + 0.5) * step - thick / 2, x = left + (state.token - plot.c0 + 0.5) * step - thick / 2;
  context.strokeRect(left - 2, y, size + 4, thick);
  context.strokeRect(x, top - 2, thick, size + 4);
  context.restore();
}

// The cell under a pointer: its tokens and its value; null beside the map.
export function cellAt(event) {
  if (!plot.values) return null;
  const box = $("map").getBoundingClientRect();
  const x = (event.clientX - box.left - plot.left) / plot.size, y = (event.clientY - box.top - plot.top) / plot.size;
  if (x < 0 || y < 0 || x >= 1 || y >= 1) return null;
  const column = Math.floor(x * plot.cells), row = Math.floor(y * plot.cells);
  const first = (i, from) => from + Math.floor((i * plot.n) / plot.cells);
  return {
    x, y, value: plot.values[row * plot.cells + column],
    t: [first(row, plot.r0), first(row + 1, plot.r0) - 1], s: [first(column, plot.c0), first(column + 1, plot.c0) - 1],
  };
}

const span = ([from, to]) => (from === to ? `${tokenName(from)} (${from})` : `tokens ${from}\u2013${to}`);

export function tipAt(event) {
  const cell = cellAt(event);
  if (!cell || cell.value !== cell.value) return hideTip();
  const one = cell.t[0] === cell.t[1] && cell.s[0] === cell.s[1];
  showTip(event, `${span(cell.t)} ${one ? "takes from" : "take from"} ${span(cell.s)}${one ? "" : ", strongest"}`, asKept(cell.value));
}

function drawLegend() {
  const canvas = $("legend"), ratio = devicePixelRatio || 1, wide = canvas.parentElement.clientWidth, context = canvas.getContext("2d");
  if (wide < 60) return;
  const peak = peakOf(state.layer, mapOf(state.layer)), lut = colours(state.theme), left = 34, size = wide - 2 * left;
  canvas.width = Math.round(wide * ratio);
  canvas.height = Math.round(34 * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  for (let i = 0; i < size; i++) {
    context.fillStyle = css(lut[Math.round((i / (size - 1)) * 510)]);
    context.fillRect(left + i, 2, 1, 12);
  }
  context.fillStyle = ink2d("--soft");
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "top";
  context.textAlign = "center";
  const shares = wide < 260 ? [-1, 0, 1] : [-1, -0.25, 0, 0.25, 1];
  for (const share of shares) {
    const at = left + (place(share, 1, state.root) / 510) * size;
    context.fillRect(Math.round(at), 14, 1, 3);
    context.fillText(`${share > 0 ? "+" : ""}${brief(share * peak, 3)}`, at, 19);
  }
  canvas.setAttribute("aria-label", `Colours from ${brief(-peak)} (orange) over 0 to ${brief(peak)} (blue)${state.root ? ", growing as the square root" : ""}.`);
}

export function startPlot() {
  choice("colour", "root", [[true, "\u221a colour", "Colours grow as the square root of values: small ones are seen"], [false, "linear", "Colours grow as values do"]]);
  choice("scale", "shared", [[false, "own scale", "Full colour is this map's largest value"], [true, "one scale", "Full colour is the largest value of all layers"]]);
  drawn(["layer", "mode", "head", "r0", "c0", "n"], () => readRegion(state.layer, mapOf(state.layer), state.r0, state.c0, state.n));
  drawn(["root", "shared", "theme"], () => { paintRegion(); drawPlot(); });
  drawn(["token"], drawPlot);
  drawn(["layer", "mode", "head", "root", "shared", "theme"], drawLegend);
  drawn(["layer", "mode", "head"], () => { $("big-title").textContent = `${view.layers[state.layer].name} \u00b7 ${mapName(state.layer)}`; });
  new ResizeObserver(drawPlot).observe($("canvases"));
  new ResizeObserver(drawLegend).observe($("legend").parentElement);
}
