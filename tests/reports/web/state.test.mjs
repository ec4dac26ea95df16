import assert from "node:assert/strict";
import { test } from "node:test";

import { frames, module, open, viewOf } from "./page.mjs";

const map = [Array(55).fill(1), Array(55).fill(1), Array(55).fill(1)];
open(viewOf([..."abcdefghij"], [map, [map[0]]]));
const { drawn, mapName, mapOf, newest, peakOf, set, state } = await module("state");
const { zoom, zoomAll } = await module("zoom");
const { ticks } = await module("plot");
const { strongestOf } = await module("tables");
const flush = () => frames.splice(0).forEach((draw) => draw());

test("what is set stays within what there is", () => {
  set({ token: 99, layer: -3, head: 9, n: 1, r0: 50, c0: -2 });
  assert.deepEqual([state.token, state.layer, state.head, state.n, state.r0, state.c0], [9, 0, 2, 4, 6, 0]);
  zoomAll();
  flush();
  assert.deepEqual([state.n, state.r0, state.c0], [10, 0, 0]);
});

test("several changes are drawn once, in the next frame, by those who asked for one of them", () => {
  const calls = [];
  drawn(["token", "layer"], (changed) => calls.push([...changed].sort()));
  drawn(["theme"], () => calls.push("theme"));
  set({ token: 3 });
  set({ layer: 1 });
  set({ token: 3 }); // no change
  assert.equal(frames.length, 1);
  flush();
  assert.deepEqual(calls, [["head", "layer", "token"]]); // the head is bounded by the layer's
  set({ layer: 0 });
  flush();
});

test("a map has a name, and full colour a value", () => {
  set({ mode: "head", head: 1 });
  assert.deepEqual([mapOf(0), mapOf(1), mapName(0), mapName(1)], [1, 0, "head 2", "head 1"]);
  set({ mode: "max" });
  assert.equal(mapName(0), "strongest of 3");
  assert.equal(peakOf(0, 1), 2);
  set({ shared: true });
  assert.equal(peakOf(0, 1), 3); // the largest of all heads
  flush();
});

test("an answer that comes after a newer one is dropped", async () => {
  const waiting = [], used = [];
  const ask = newest((name) => new Promise((done) => waiting.push(() => done(name))), (answer) => used.push(answer));
  ask("first");
  ask("second");
  waiting[1]();
  waiting[0]();
  await new Promise((done) => setTimeout(done, 0));
  assert.deepEqual(used, ["second"]);
});

test("zoom goes about the chosen token, and no nearer than four tokens", () => {
  set({ token: 8 });
  zoom(0.5);
  assert.deepEqual([state.n, state.r0, state.c0], [5, 4, 4]);
  zoom(0.1);
  assert.equal(state.n, 4);
  assert.ok(state.r0 <= 8 && 8 < state.r0 + 4);
  zoomAll();
  flush();
});

test("an axis names every token where there is room, else round numbers", () => {
  assert.deepEqual(ticks(3, 4, 400, true), [3, 4, 5, 6]);
  assert.deepEqual(ticks(130, 300, 480, false), [150, 200, 250, 300, 350, 400]);
});

test("the strongest come first, equals in their order, and zeros not at all", () => {
  assert.deepEqual(strongestOf(Float32Array.from([0, -2, 1, 2, 0.5]), 3), { first: [1, 3, 2], all: 4 });
});
