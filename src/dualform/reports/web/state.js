// What is looked at, and who draws it. Everything that changes goes through `set`, which draws once for each frame.

import { small, TIME, view } from "./source.js";

export const $ = (id) => document.getElementById(id);
export const AGGREGATED = view.layers.some((layer) => layer.heads.length > 1);
export const state = {
  layer: 0, mode: "mean", head: 0, token: Math.max(0, TIME - 1), direction: view.causal ? "both" : "takes",
  r0: 0, c0: 0, n: TIME, root: true, shared: false, count: 10, theme: "light",
};
const painters = [];
let pending = null;

export const mapOf = (layer) => (state.mode === "head" ? Math.min(state.head, view.layers[layer].heads.length - 1) : state.mode);
export const mapName = (layer) => {
  const { heads, alone } = view.layers[layer], joined = heads.length - alone;
  if (state.mode === "head") return heads[mapOf(layer)];
  return joined === 1 ? heads[alone] : `${state.mode === "mean" ? "mean" : "strongest"} of ${joined}`;
};
export const clamp = (v, low, high) => Math.max(low, Math.min(high, v));

// What full colour stands for in a map.
export function peakOf(layer, map) {
  if (!state.shared) return small(layer, map).peak;
  return Math.max(...view.layers.flatMap((each, l) => (typeof map === "number" ? each.heads.map((_, h) => small(l, h).peak) : [small(l, map).peak])));
}

export function set(change) {
  const before = { ...state };
  Object.assign(state, change);
  state.layer = clamp(state.layer, 0, view.layers.length - 1);
  state.head = clamp(state.head, 0, view.layers[state.layer].heads.length - 1);
  state.token = clamp(state.token, 0, TIME - 1);
  state.n = clamp(Math.round(state.n), Math.min(4, TIME), TIME);
  state.r0 = clamp(Math.round(state.r0), 0, TIME - state.n);
  state.c0 = clamp(Math.round(state.c0), 0, TIME - state.n);
  const changed = new Set(Object.keys(state).filter((key) => state[key] !== before[key]));
  if (!changed.size) return;
  if (pending) changed.forEach((key) => pending.add(key));
  else {
    pending = changed;
    requestAnimationFrame(draw);
  }
}

function draw() {
  if (!pending) return;
  const changed = pending;
  pending = null;
  for (const painter of painters) if (painter.on.some((key) => changed.has(key))) painter.draw(changed);
}

export function drawAll() {
  pending = new Set(Object.keys(state));
  draw();
}

// `draw` runs when one of these changes.
export function drawn(on, draw) {
  painters.push({ on, draw });
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

export function element(name, words = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(words)) {
    if (key === "class") made.className = value;
    else if (key === "text") made.textContent = value;
    else made.setAttribute(key, value);
  }
  made.append(...inside);
  return made;
}

// A row of buttons of which one is chosen; arrow keys move within it, as in any group of radio buttons.
export function choice(id, key, options) {
  const group = $(id), buttons = options.map(([value, text, title]) => {
    const button = element("button", { type: "button", role: "radio", text, title: title || text });
    button.addEventListener("click", () => set({ [key]: value }));
    return button;
  });
  group.append(...buttons);
  const show = () => buttons.forEach((button, i) => {
    const on = options[i][0] === state[key];
    button.setAttribute("aria-checked", on);
    button.tabIndex = on ? 0 : -1;
  });
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const i = (buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length;
    buttons[i].focus();
    buttons[i].click();
  });
  drawn([key], show);
  show();
}
