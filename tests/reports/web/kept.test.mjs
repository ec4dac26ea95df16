import assert from "node:assert/strict";
import { test } from "node:test";

import { module, open, viewOf } from "./page.mjs";

const lives = (numbers) => Buffer.from(new Uint16Array(numbers).buffer).toString("base64");
// Of four tokens the first is kept to the end; head 2 of the second layer drops each at once but the last.
const layers = [
  { name: "block 1", heads: 3, lives: [lives([4, 2, 1, 1])] },
  { name: "block 2", heads: 2, lives: [lives([4, 3, 2, 1]), lives([0, 0, 0, 1])] },
];
open(viewOf(["a", "b", "c", "d"], [[Array(10).fill(1)], [Array(10).fill(1)]], { kept: { policy: "tova", layers, kinds: [] } }));
const { keptLayers, keptOverTime } = await module("kept");
const { set } = await module("state");

test("a layer keeps each token until it is dropped, and has not read those that come", () => {
  const found = [...keptOverTime(keptLayers(), 4)];
  assert.deepEqual(found, [1, NaN, NaN, NaN, 1, 1, NaN, NaN, 1, 1, 1, NaN, 1, 0, 0, 1]);
});

test("of several heads it is the share that keeps a token", () => {
  set({ layer: 1 });
  const found = [...keptOverTime(keptLayers(), 4)];
  assert.deepEqual(found, [0.5, NaN, NaN, NaN, 0.5, 0.5, NaN, NaN, 0.5, 0.5, 0.5, NaN, 0.5, 0.5, 0.5, 1]);
});

test("a cell of several tokens is their mean, after its last token", () => {
  set({ layer: 0 });
  assert.deepEqual([...keptOverTime(keptLayers(), 2)], [1, NaN, 0.5, 0.5]);
});
