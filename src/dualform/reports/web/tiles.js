// The small maps, side by side: one for each layer, or for each head of each layer. Only those in sight are painted.

import { bytesOf, fromInt8 } from "./decode.js";
import { small, TIME, view } from "./source.js";
import { brief } from "./numbers.js";
import { paint } from "./colour.js";
import { AGGREGATED, choice, drawn, mapOf, peakOf, set, state } from "./state.js";
import { $, element } from "./elements.js";

const tiles = []; // { layer, map, button, canvas, painted }
const ready = new IntersectionObserver((seen) => {
  for (const each of seen) {
    const tile = tiles.find(({ button }) => button === each.target);
    if (!tile) continue;
    tile.seen = each.isIntersecting;
    if (tile.seen && !tile.painted) paintTile(tile);
  }
}, { rootMargin: "200px" });

function paintTile(tile) {
  const { text, peak } = small(tile.layer, tile.map), side = view.overview, bytes = bytesOf(text);
  const values = new Float32Array(side * side).fill(NaN), root = fromInt8(bytes, peak);
  let at = 0;
  for (let i = 0; i < side; i++) for (let j = 0; j < (view.causal ? i + 1 : side); j++) values[i * side + j] = root[at++];
  paint(tile.canvas, values, side, peakOf(tile.layer, tile.map), state.root, state.theme);
  tile.painted = true;
}

function repaintTiles() {
  for (const tile of tiles) {
    tile.painted = false;
    if (tile.seen) paintTile(tile);
  }
}

function makeTile(layer, map, name) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  const picture = element("span", { class: "picture" }, canvas, element("i", { class: "at-row" }), element("i", { class: "at-column" }));
  const long = `${view.layers[layer].name}, ${typeof map === "number" ? view.layers[layer].heads[map] : map === "mean" ? "mean" : "strongest"}`;
  const button = element("button", { type: "button", class: "tile", "aria-label": `Show ${long}`, title: `${long}: up to ${brief(small(layer, map).peak)}` }, picture, element("bdi", { class: "name", text: name }));
  button.addEventListener("click", () => {
    set(typeof map === "number" && state.mode === "head" ? { layer, head: map } : { layer });
    const box = $("big-title").getBoundingClientRect();
    if (box.top > innerHeight || box.bottom < 0) document.querySelector(".big").scrollIntoView({ block: "start" });
  });
  const tile = { layer, map, button, canvas, painted: false, seen: false };
  tiles.push(tile);
  ready.observe(button);
  return button;
}

function layTiles() {
  ready.disconnect();
  tiles.length = 0;
  const room = $("tiles");
  room.className = state.mode === "head" ? "by-head" : "by-layer";
  const all = view.layers.map(({ name, heads }, layer) => {
    if (state.mode !== "head") return makeTile(layer, state.mode, name);
    const group = element("div", { class: "heads", role: "group", "aria-label": name });
    group.append(element("h3", { text: name }), element("div", { class: "in" }, ...heads.map((head, h) => makeTile(layer, h, head))));
    return group;
  });
  room.replaceChildren(...all);
  markTile();
}

function markTile() {
  const map = mapOf(state.layer);
  for (const tile of tiles) {
    const on = tile.layer === state.layer && (state.mode !== "head" || tile.map === map);
    tile.button.setAttribute("aria-pressed", on);
    if (on) {
      const room = $("tiles"), box = tile.button.getBoundingClientRect(), frame = room.getBoundingClientRect();
      if (box.top < frame.top) room.scrollTop -= frame.top - box.top + 8;
      else if (box.bottom > frame.bottom) room.scrollTop += box.bottom - frame.bottom + 8;
    }
  }
}

export function startTiles() {
  const options = [["mean", "mean", "The mean of a layer's heads"], ["max", "max |\u00b7|", "In each entry, the head of largest magnitude, with its sign"], ["head", "each head"]];
  if (AGGREGATED) choice("mode", "mode", options);
  else $("mode").hidden = true;
  drawn(["mode"], layTiles);
  drawn(["layer", "head"], (changed) => { if (!changed.has("mode")) markTile(); });
  drawn(["root", "shared", "theme"], (changed) => { if (!changed.has("mode")) repaintTiles(); });
  drawn(["token"], () => {
    $("tiles").style.setProperty("--at", `${(100 * (state.token + 0.5)) / TIME}%`);
  });
}
