// As much of a browser as the page's modules need to be loaded: elements that hold what is set, and the view of the page.

import { deflateSync } from "node:zlib";

const web = new URL("../../../src/dualform/reports/web/", import.meta.url);

// The text of a map as it stands in a page: float32, the bytes of equal weight together, compressed.
export function mapText(numbers) {
  const bytes = Buffer.from(new Float32Array(numbers).buffer), count = numbers.length, planes = Buffer.alloc(bytes.length);
  for (let i = 0; i < count; i++) for (let k = 0; k < 4; k++) planes[k * count + i] = bytes[4 * i + k];
  return deflateSync(planes).toString("base64");
}

// A view of some tokens, all of whose maps are causal; `maps` are the packed maps of each layer's heads.
export function viewOf(tokens, maps, more = {}) {
  const layers = maps.map((heads, i) => ({
    name: `block ${i + 1}`, kind: "", residual: 0, heads: heads.map((_, h) => `head ${h + 1}`), alone: 0,
    small: [...heads.map((_, h) => ({ name: `head ${h + 1}`, peak: h + 1, text: "" })), { name: "mean", peak: 8, text: "" }, { name: "max", peak: 9, text: "" }],
  }));
  return { tokens, causal: true, precision: "float32", scales: maps.map((heads) => heads.map(() => 1)), layers, kept: null, ...more };
}

export const frames = []; // what waits for the next frame

// Put a page with this view in place of the browser's.
export function open(view, maps = []) {
  const elements = { view: { textContent: JSON.stringify(view) } };
  maps.forEach((heads, layer) => heads.forEach((numbers, head) => { elements[`map-${layer}-${head}`] = { textContent: mapText(numbers) }; }));
  globalThis.document = { readyState: "complete", getElementById: (id) => (elements[id] ??= { hidden: true }), createElement: () => ({}) };
  globalThis.requestAnimationFrame = (draw) => frames.push(draw);
}

// As much of a browser as the modules of the lens page need.
export function openLens(view) {
  const elements = { view: { textContent: JSON.stringify(view) } };
  globalThis.document = { getElementById: (id) => (elements[id] ??= { hidden: true }), createElement: () => ({}) };
  globalThis.requestAnimationFrame = (draw) => frames.push(draw);
}

export const module = (name) => import(new URL(`${name}.js`, web));
