// Where the numbers of the maps come from: this page itself, decoded when first asked for, or the server that sent it.

import { bytesOf, fromPlanes, inflated } from "./decode.js";

export const view = JSON.parse(document.getElementById("view").textContent);
export const TIME = view.tokens.length;
export const EXACT = !view.precision || view.precision === "float32";
export const DIGITS = EXACT ? 4 : view.precision === "float16" ? 3 : 2; // that can be relied on

const begin = (t) => (view.causal ? (t * (t + 1)) / 2 : t * TIME);
const end = (t) => (view.causal ? t + 1 : TIME);
// A layer with one head has nothing to put together.
export const plain = (layer, map) => (view.layers[layer].heads.length === 1 ? 0 : map);

// Maps that are part of the page.
const embedded = {
  kept: new Map(),
  most: 96e6,

  async head(layer, head) {
    const find = () => document.getElementById(`map-${layer}-${head}`);
    // While the page is still being read, an element is whole once another one follows it.
    while (document.readyState === "loading" && !find()?.nextElementSibling) await new Promise((done) => setTimeout(done, 4));
    const holder = find();
    return fromPlanes(await inflated(bytesOf(holder.textContent)), view.precision, view.scales[layer][head]);
  },

  async join(layer, map) {
    const { heads, alone } = view.layers[layer], count = heads.length - alone;
    let out = null;
    for (let h = alone; h < heads.length; h++) {
      const next = await this.load(layer, h);
      if (out === null) out = new Float32Array(next.length);
      if (map === "mean") for (let i = 0; i < out.length; i++) out[i] += next[i] / count;
      else for (let i = 0; i < out.length; i++) if (Math.abs(next[i]) > Math.abs(out[i])) out[i] = next[i];
    }
    return out;
  },

  load(layer, asked) {
    const map = plain(layer, asked), key = `${layer}/${map}`;
    let found = this.kept.get(key);
    if (found) this.kept.delete(key); // the one used last stands last
    else found = typeof map === "number" ? this.head(layer, map) : this.join(layer, map);
    this.kept.set(key, found);
    const room = Math.max(3, Math.floor(this.most / (4 * begin(TIME))));
    for (const old of this.kept.keys()) {
      if (this.kept.size <= room) break;
      this.kept.delete(old);
    }
    return found;
  },

  async row(layer, map, t) {
    const a = await this.load(layer, map), out = new Float32Array(TIME);
    out.set(a.subarray(begin(t), begin(t) + end(t)));
    return out;
  },

  async column(layer, map, s) {
    const a = await this.load(layer, map), out = new Float32Array(TIME);
    for (let t = view.causal ? s : 0; t < TIME; t++) out[t] = a[begin(t) + s];
    return out;
  },

  // Rows r0 ... r0 + n and columns c0 ... c0 + n in cells x cells: of each cell the entry of largest magnitude, or NaN for none.
  async region(layer, map, r0, c0, n, cells) {
    const a = await this.load(layer, map), out = new Float32Array(cells * cells).fill(NaN);
    const cellOf = new Uint16Array(n);
    for (let i = 0; i < cells; i++) {
      for (let k = Math.floor((i * n) / cells); k < Math.floor(((i + 1) * n) / cells); k++) cellOf[k] = i;
    }
    for (let k = 0; k < n; k++) {
      const t = r0 + k, base = begin(t) + c0, line = cellOf[k] * cells, most = Math.min(n, end(t) - c0);
      for (let j = 0; j < most; j++) {
        const v = a[base + j], at = line + cellOf[j];
        if (!(Math.abs(v) <= Math.abs(out[at]))) out[at] = v;
      }
    }
    return out;
  },
};

// Maps that the server reads from its folder, piece by piece.
const served = {
  kept: new Map(),

  read(path) {
    let found = this.kept.get(path);
    if (!found) {
      found = fetch(path).then(async (answer) => {
        if (!answer.ok) throw new Error(await answer.text());
        return new Float32Array(await answer.arrayBuffer());
      });
      found.catch(() => this.kept.delete(path));
      this.kept.set(path, found);
      if (this.kept.size > 64) this.kept.delete(this.kept.keys().next().value);
    }
    return found;
  },

  at: (layer, map) => `/map/${layer}/${plain(layer, map)}`,
  row(layer, map, t) { return this.read(`${this.at(layer, map)}/row/${t}`); },
  column(layer, map, s) { return this.read(`${this.at(layer, map)}/column/${s}`); },
  region(layer, map, r0, c0, n, cells) { return this.read(`${this.at(layer, map)}/region/${r0}/${c0}/${n}/${cells}`); },
};

export const source = view.served ? served : embedded;

// The small map of a layer: bytes of square-root steps, and the value that 127 stands for.
export function small(layer, map) {
  const list = view.layers[layer].small, at = plain(layer, map);
  return typeof at === "number" ? list[at] : list[list.length - (at === "mean" ? 2 : 1)];
}
