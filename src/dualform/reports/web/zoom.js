// Zoom: a square of n x n tokens from row r0 and column c0, by rectangle, wheel, buttons, keys, or the bars beside the map.

import { TIME } from "./source.js";
import { drawn, set, state } from "./state.js";
import { $, clamp, element } from "./elements.js";
import { hideTip } from "./tip.js";
import { cellAt, plot, tipAt } from "./plot.js";

// By `factor` about the point (x, y) of the map, each in 0 ... 1.
export function zoom(factor, x = null, y = null) {
  if (x === null) { // about the chosen token where it is in sight
    const inside = (from) => state.token >= from && state.token < from + state.n;
    x = inside(state.c0) ? (state.token - state.c0 + 0.5) / state.n : 0.5;
    y = inside(state.r0) ? (state.token - state.r0 + 0.5) / state.n : 0.5;
  }
  const n = clamp(Math.round(state.n * factor), Math.min(4, TIME), TIME);
  set({ n, r0: state.r0 + y * (state.n - n), c0: state.c0 + x * (state.n - n) });
}

export const zoomAll = () => set({ n: TIME, r0: 0, c0: 0 });

// Keeps the chosen token's row in sight when it moves.
function follow() {
  if (state.token < state.r0) set({ r0: state.token });
  else if (state.token >= state.r0 + state.n) set({ r0: state.token - state.n + 1 });
}

export function startZoom() {
  $("zoom-in").addEventListener("click", () => zoom(1 / 1.6));
  $("zoom-out").addEventListener("click", () => zoom(1.6));
  $("zoom-all").addEventListener("click", zoomAll);
  const map = $("map");
  map.addEventListener("dblclick", zoomAll);
  map.addEventListener("wheel", (event) => {
    const cell = cellAt(event);
    if (!cell || !event.ctrlKey) return; // without Ctrl the page scrolls
    event.preventDefault();
    zoom(1.0015 ** clamp(event.deltaY, -400, 400), cell.x, cell.y);
  }, { passive: false });
  startBox(map);
  startRail($("rail-rows"), "r0", true);
  startRail($("rail-columns"), "c0", false);
  drawn(["n", "r0", "c0"], () => {
    $("zoom-all").disabled = $("zoom-out").disabled = state.n === TIME;
    $("zoom-in").disabled = state.n <= 4;
    $("plot").classList.toggle("whole", state.n === TIME);
  });
  drawn(["token"], (changed) => { if (!changed.has("n")) follow(); });
}

// A click chooses the row's token; a drag zooms to the rectangle.
function startBox(map) {
  const box = $("box");
  let from = null;
  const rectangle = (event) => {
    const edge = map.getBoundingClientRect();
    const inside = (v, low) => clamp(v, low, low + plot.size);
    const x = inside(event.clientX - edge.left, plot.left), y = inside(event.clientY - edge.top, plot.top);
    return { left: Math.min(x, from.x), top: Math.min(y, from.y), wide: Math.abs(x - from.x), high: Math.abs(y - from.y) };
  };
  map.addEventListener("pointerdown", (event) => {
    const edge = map.getBoundingClientRect();
    if (event.button || !cellAt(event)) return;
    from = { x: event.clientX - edge.left, y: event.clientY - edge.top, drag: false };
    if (event.pointerType === "mouse") map.setPointerCapture(event.pointerId);
  });
  map.addEventListener("pointermove", (event) => {
    if (!from || event.pointerType !== "mouse") return from ? undefined : tipAt(event);
    const r = rectangle(event);
    from.drag = from.drag || Math.max(r.wide, r.high) > 6;
    if (!from.drag) return;
    hideTip();
    box.hidden = false;
    Object.assign(box.style, { left: `${r.left}px`, top: `${r.top}px`, width: `${r.wide}px`, height: `${r.high}px` });
  });
  map.addEventListener("pointerup", (event) => {
    if (!from) return;
    const cell = cellAt(event), r = rectangle(event), { drag } = from;
    from = null;
    box.hidden = true;
    if (!drag) {
      if (cell) set({ token: cell.t[1] });
      tipAt(event);
      return;
    }
    const unit = state.n / plot.size, side = Math.max(r.wide, r.high) * unit;
    set({ n: side, r0: state.r0 + (r.top - plot.top + r.high / 2) * unit - side / 2, c0: state.c0 + (r.left - plot.left + r.wide / 2) * unit - side / 2 });
  });
  map.addEventListener("pointercancel", () => { from = null; box.hidden = true; });
  map.addEventListener("pointerleave", hideTip);
}

// A bar beside the map: its thumb is the part in sight; drag it to move, its ends to make it longer or shorter.
function startRail(rail, key, down) {
  const thumb = element("div", { class: "thumb", role: "scrollbar", tabindex: "0", "aria-controls": "map", "aria-orientation": down ? "vertical" : "horizontal", "aria-label": down ? "Rows in sight" : "Columns in sight" }, element("i"), element("i"));
  rail.append(thumb);
  let held = null;
  const at = (event) => (down ? event.clientY : event.clientX);
  thumb.addEventListener("pointerdown", (event) => {
    const box = thumb.getBoundingClientRect(), low = down ? box.top : box.left, long = down ? box.height : box.width;
    const p = at(event) - low, grip = Math.min(10, long / 4);
    held = { at: at(event), from: state[key], n: state.n, part: p < grip ? "low" : p > long - grip ? "high" : "all" };
    thumb.setPointerCapture(event.pointerId);
    event.preventDefault();
    thumb.focus();
  });
  thumb.addEventListener("pointermove", (event) => {
    if (!held) return;
    const moved = ((at(event) - held.at) / (down ? rail.clientHeight : rail.clientWidth)) * TIME;
    if (held.part === "all") set({ [key]: held.from + moved });
    else if (held.part === "high") set({ n: Math.min(held.n + moved, TIME - held.from) });
    else {
      const start = clamp(held.from + moved, 0, held.from + held.n - 4);
      set({ [key]: start, n: held.from + held.n - start });
    }
  });
  for (const over of ["pointerup", "pointercancel"]) thumb.addEventListener(over, () => { held = null; });
  thumb.addEventListener("keydown", (event) => {
    const back = down ? "ArrowUp" : "ArrowLeft", on = down ? "ArrowDown" : "ArrowRight";
    if (event.key !== back && event.key !== on) return;
    event.preventDefault();
    event.stopPropagation();
    set({ [key]: state[key] + (event.key === on ? 1 : -1) * Math.max(1, Math.round(state.n / 10)) });
  });
  drawn([key, "n"], () => {
    const low = `${(100 * state[key]) / TIME}%`, long = `${(100 * state.n) / TIME}%`;
    Object.assign(thumb.style, down ? { top: low, height: long } : { left: low, width: long });
    for (const [name, value] of [["min", 0], ["max", TIME - state.n], ["now", state[key]]]) thumb.setAttribute(`aria-value${name}`, value);
    thumb.setAttribute("aria-valuetext", `${state[key]} to ${state[key] + state.n - 1}`);
  });
}
