// The certificate, the keys, the theme; then the first drawing.

import { EXACT, plain, TIME, view } from "./source.js";
import { brief, residualText } from "./numbers.js";
import { AGGREGATED, drawAll, drawn, mapName, mapOf, set, state } from "./state.js";
import { $, element } from "./elements.js";
import { startFrame, startKeys } from "./frame.js";
import { fromAddress, MODES, toAddress } from "./address.js";
import { startProfile } from "./profile.js";
import { startTokens } from "./tokens.js";
import { startPlot } from "./plot.js";
import { startZoom, zoom, zoomAll } from "./zoom.js";
import { startTiles } from "./tiles.js";
import { startTables } from "./tables.js";
import { startKept } from "./kept.js";

function showCertificate() {
  $("residual").textContent = residualText(view.residual);
  $("method").textContent = view.method;
  $("target").textContent = view.target;
  const kept = view.precision === "float16" ? "float16" : "int8 with square-root steps";
  const rounding = EXACT ? "The maps' values are exact float32." : `The maps' values are kept as ${kept}: none is off by more than ${brief(view.error)}.`;
  $("foot").textContent = `${TIME} tokens, ${view.layers.length} layers. ${rounding} Small maps are overviews of ${view.overview} \u00d7 ${view.overview} cells.`;
  const rows = [...view.details, ["tokens", String(TIME)], ["layers", String(view.layers.length)], ["numbers", rounding]];
  $("details").append(...rows.flatMap(([key, value]) => [element("dt", { text: key }), element("dd", { text: value })]));
}

function showLayer() {
  const { name, residual, kind } = view.layers[state.layer];
  $("layer-name").textContent = name;
  $("layer-residual").textContent = residualText(residual);
  $("layer-kind").textContent = kind;
}

const MARKS = {
  exact: ["\u2713 exact", "good"], wrong: ["\u2717 not exact", "bad"], approximation: ["\u2248 approximation", "warn"],
  summary: ["summary", "plain"], none: ["no certificate", "warn"],
};

// What is true of the map that is shown; what it is over, and what proves it: of several, all that they are over, and the worst.
function showMap() {
  const { over = [], proofs = [], claims, alone, heads } = view.layers[state.layer], map = plain(state.layer, mapOf(state.layer));
  const [mark, sentence] = claims[typeof map === "number" ? map : heads.length + (map === "mean" ? 0 : 1)];
  const [words, colour] = MARKS[mark];
  $("verdict").textContent = words;
  $("verdict").className = `badge ${colour}`;
  $("claim").textContent = EXACT ? sentence : `${sentence} The numbers on this page are off from it by up to ${brief(view.error)}.`;
  const chosen = (all) => (typeof map === "number" ? all.slice(map, map + 1) : all.slice(alone));
  const worst = (all) => (all.includes(null) ? null : Math.max(...all));
  $("map-fact").hidden = !over.length;
  $("map-over").textContent = `${mapName(state.layer)}, over ${[...new Set(chosen(over))].join(" and ")}`;
  $("map-residual").textContent = proofs.length ? residualText(worst(chosen(proofs))) : "";
}

const moves = {
  ArrowLeft: (event) => set({ token: state.token - (event.shiftKey ? 10 : 1) }),
  ArrowRight: (event) => set({ token: state.token + (event.shiftKey ? 10 : 1) }),
  ArrowUp: () => set({ layer: state.layer - 1 }),
  ArrowDown: () => set({ layer: state.layer + 1 }),
  Home: () => set({ token: 0 }),
  End: () => set({ token: TIME - 1 }),
};
const letters = {
  "[": () => step(-1), "]": () => step(1),
  a: () => { if (AGGREGATED) set({ mode: MODES[(MODES.indexOf(state.mode) + 1) % 3] }); },
  "+": () => zoom(1 / 1.6), "=": () => zoom(1 / 1.6), "-": () => zoom(1.6), 0: zoomAll,
  c: () => set({ root: !state.root }), s: () => set({ shared: !state.shared }),
  d: () => frame.turn(),
  "?": () => $("help").showModal(),
};

// From head to head, on into the next layer.
function step(by) {
  if (state.mode !== "head") return set({ layer: state.layer + by });
  const head = mapOf(state.layer) + by, { heads } = view.layers[state.layer];
  if (head >= 0 && head < heads.length) return set({ head });
  const layer = state.layer + by;
  if (view.layers[layer]) set({ layer, head: by > 0 ? 0 : view.layers[layer].heads.length - 1 });
}

const frame = startFrame(state, set);

function start() {
  startKeys(letters, moves, (at) => at === $("strip") || at === $("map") || at.classList.contains("tile"));
  startTokens();
  startTiles();
  startPlot();
  startZoom();
  startTables();
  startProfile();
  startKept();
  let later = 0;
  drawn(["layer", "mode", "head", "token", "r0", "c0", "n"], () => { clearTimeout(later); later = setTimeout(toAddress, 300); });
  drawn(["layer"], showLayer);
  drawn(["layer", "mode", "head"], showMap);
  const beside = $("beside"); // the lens page of the same text, where there is one
  if (beside) drawn(["token"], () => { beside.hash = `token=${state.token}`; });
  frame.show();
  showCertificate();
  set(fromAddress());
  drawAll();
}

start();
