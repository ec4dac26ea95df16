// What is looked at on the lens page, and what a cell of it says.

import { LAYERS, TIME, view } from "./lens_source.js";
import { clamp } from "./elements.js";
import { storeOf } from "./store.js";

export const SHOWS = ["probability", "entropy", "kl"];
export const UNITS = ["bits", "nats"];
export const state = { token: TIME - 1, layer: LAYERS - 1, lens: view.lenses.length - 1, shows: "probability", unit: "bits", theme: "light" };
const store = storeOf(state, bounded);
export const set = store.set;
export const drawAll = store.drawAll;
export const drawn = store.drawn;
export const choice = store.choice;

function bounded(state) {
  state.token = clamp(state.token, 0, TIME - 1);
  state.layer = clamp(state.layer, 0, LAYERS - 1);
  state.lens = clamp(state.lens, 0, view.lenses.length - 1);
}

export const reading = () => view.lenses[state.lens];
export const inUnit = (nats) => (state.unit === "bits" ? nats / Math.LN2 : nats);

// What a cell's colour stands for: the chance of the likeliest output, or entropy, or KL, in the unit that is chosen.
export function valueOf(layer, token) {
  const { chance, entropy, kl } = reading();
  return state.shows === "probability" ? chance[layer][token][0] : inUnit((state.shows === "entropy" ? entropy : kl)[layer][token]);
}

// What full colour stands for: 1, the entropy of knowing nothing, or the largest KL that there is.
export function fullColour() {
  if (state.shows === "probability") return 1;
  if (state.shows === "entropy") return inUnit(Math.log(view.outputs));
  return Math.max(1e-12, ...reading().kl.map((row) => inUnit(Math.max(...row))));
}

// Blue is sure; orange is unsure, or far from what the model says in the end, and grows as a root, so that small KL is seen.
export const signedValue = (value) => (state.shows === "probability" ? value : -Math.max(value, 0));
export const byRoot = () => state.shows === "kl";
