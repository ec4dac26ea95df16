import assert from "node:assert/strict";
import { test } from "node:test";

import { frames, module, openLens } from "./page.mjs";

const row = (...values) => values;
const lens = (name, scale) => ({
  name, top: [[row(0, 1), row(1, 0)], [row(1, 0), row(1, 0)]], chance: [[row(0.6, 0.4), row(0.9, 0.1)], [row(0.7, 0.3), row(0.8, 0.2)]],
  kl: [row(scale, 0.25 * scale), row(0, -1e-9)], entropy: [row(Math.LN2, 0), row(0.5, 0.1)],
});
openLens({ tokens: ["a", "b"], layers: ["embedding", "block 1"], outputs: 8, words: ["x", " y"], following: [1, null], lenses: [lens("logit lens", 4), lens("tuned lens", 1)], details: [] });
const { brief, percent, tokenName, wordName } = await module("lens_source");
const { fullColour, inUnit, set, signedValue, state, valueOf } = await module("lens_state");
const flush = () => frames.splice(0).forEach((draw) => draw());

test("the page opens at the last layer and token, with the last lens", () => {
  assert.deepEqual([state.layer, state.token, state.lens], [1, 1, 1]);
  set({ layer: 9, token: -4, lens: 7 });
  assert.deepEqual([state.layer, state.token, state.lens], [1, 0, 1]);
  flush();
});

test("a cell's value is the chance of the likeliest, or entropy, or KL, in the unit that is chosen", () => {
  assert.equal(valueOf(0, 1), 0.9);
  set({ shows: "entropy" });
  assert.equal(valueOf(0, 0), 1);
  assert.equal(fullColour(), 3); // of eight outputs
  set({ unit: "nats" });
  assert.equal(valueOf(0, 0), Math.LN2);
  set({ shows: "kl", lens: 0 });
  assert.equal(valueOf(0, 0), 4);
  assert.equal(fullColour(), 4);
  set({ unit: "bits" });
  assert.equal(inUnit(Math.LN2), 1);
  flush();
});

test("sure is blue, far is orange, and rounding below 0 is 0", () => {
  set({ shows: "kl" });
  assert.equal(signedValue(2), -2);
  assert.equal(Math.abs(signedValue(-1e-9)), 0);
  set({ shows: "probability" });
  assert.equal(signedValue(0.5), 0.5);
  flush();
});

test("numbers are short, and texts are seen", () => {
  assert.deepEqual([0, 1.23456, 1e-5, -1e-9].map(brief), ["0", "1.23", "1.0e\u22125", "\u22121.0e\u22129"]);
  assert.deepEqual([0, 1, 0.4321, 1e-7].map(percent), ["0%", "100%", "43.2%", "1.0e\u22125%"]);
  assert.equal(tokenName(0), "\u2068\u201ca\u201d\u2069");
  assert.equal(wordName(1), "\u2068\u201c\u00b7y\u201d\u2069");
});
