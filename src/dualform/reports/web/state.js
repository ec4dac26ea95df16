// What is looked at on the attention page, and who draws it.

import { small, TIME, view } from "./source.js";
import { $, clamp } from "./elements.js";
import { storeOf } from "./store.js";

export const AGGREGATED = view.layers.some((layer) => layer.heads.length > 1);
export const state = {
  layer: 0, mode: "mean", head: 0, token: Math.max(0, TIME - 1), direction: view.causal ? "both" : "takes",
  r0: 0, c0: 0, n: TIME, root: true, shared: false, count: 10, theme: "light",
};
const store = storeOf(state, bounded);
export const set = store.set;
export const drawAll = store.drawAll;
export const drawn = store.drawn;
export const choice = store.choice;

export const mapOf = (layer) => (state.mode === "head" ? Math.min(state.head, view.layers[layer].heads.length - 1) : state.mode);
export const mapName = (layer) => {
  const { heads, alone } = view.layers[layer], joined = heads.length - alone;
  if (state.mode === "head") return heads[mapOf(layer)];
  return joined === 1 ? heads[alone] : `${state.mode === "mean" ? "mean" : "strongest"} of ${joined}`;
};

// What full colour stands for in a map.
export function peakOf(layer, map) {
  if (!state.shared) return small(layer, map).peak;
  return Math.max(...view.layers.flatMap((each, l) => (typeof map === "number" ? each.heads.map((_, h) => small(l, h).peak) : [small(l, map).peak])));
}

function bounded(state) {
  state.layer = clamp(state.layer, 0, view.layers.length - 1);
  state.head = clamp(state.head, 0, view.layers[state.layer].heads.length - 1);
  state.token = clamp(state.token, 0, TIME - 1);
  state.n = clamp(Math.round(state.n), Math.min(4, TIME), TIME);
  state.r0 = clamp(Math.round(state.r0), 0, TIME - state.n);
  state.c0 = clamp(Math.round(state.c0), 0, TIME - state.n);
}

// A request whose answer comes after a newer one is dropped.
export function newest(work, use) {
  let last = 0;
  return (...given) => {
    const mine = ++last;
    work(...given).then((found) => {
      $("notice").hidden = true;
      if (mine === last) use(found, ...given);
    }).catch((error) => complain(error));
  };
}

function complain(error) {
  $("notice").textContent = `The map could not be read: ${error.message || error}`;
  $("notice").hidden = false;
}
