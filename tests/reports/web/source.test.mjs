import assert from "node:assert/strict";
import { test } from "node:test";

import { module, open, viewOf } from "./page.mjs";

// Rows of a causal map up to the diagonal, one after the other; a layer of two heads, and one of one.
const first = [1, 2, 3, -4, 5, 6, 7, -8, 9, 10], second = [-1, -6, 1, 2, -7, 0, 8, 8, 8, -30], alone = first.map((v) => v / 2);
const maps = [[first, second], [alone]];
open(viewOf(["a", "b", "c", "d"], maps), maps);
const { small, source } = await module("source");

test("rows and columns of a head are the map's", async () => {
  assert.deepEqual([...(await source.row(0, 0, 2))], [-4, 5, 6, 0]);
  assert.deepEqual([...(await source.column(0, 0, 1))], [0, 3, 5, -8]);
});

test("heads are joined by their mean, and by the strongest, with its sign", async () => {
  assert.deepEqual([...(await source.row(0, "mean", 3))], [7.5, 0, 8.5, -10]);
  assert.deepEqual([...(await source.row(0, "max", 3))], [8, -8, 9, -30]);
  assert.deepEqual([...(await source.row(0, "max", 1))], [-6, 3, 0, 0]);
});

test("a layer of one head is that head, however it is asked for", async () => {
  for (const map of [0, "mean", "max"]) assert.deepEqual([...(await source.row(1, map, 1))], [1, 1.5, 0, 0]);
  assert.equal(small(1, "max").name, "head 1");
  assert.deepEqual([0, "mean", "max"].map((map) => small(0, map).name), ["head 1", "mean", "max"]);
});

test("a region is the map's entries, and nothing above the diagonal", async () => {
  const found = [...(await source.region(0, 0, 1, 1, 2, 2))];
  assert.deepEqual(found, [3, NaN, 5, 6]);
});

test("a cell of several tokens is their strongest entry", async () => {
  assert.deepEqual([...(await source.region(0, 0, 0, 0, 4, 2))], [3, NaN, -8, 10]);
});
