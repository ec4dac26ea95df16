import assert from "node:assert/strict";
import { test } from "node:test";

import { module, open, viewOf } from "./page.mjs";

open(viewOf([..."abcdefgh"], [[Array(36).fill(1), Array(36).fill(1)]]));
const { fromAddress, toAddress } = await module("address");
const { set } = await module("state");

test("an address gives back what was looked at", () => {
  globalThis.history = { replaceState: (_, __, hash) => { globalThis.location = { hash }; } };
  set({ token: 3, mode: "head", head: 1, n: 4, r0: 2, c0: 1 });
  toAddress();
  assert.deepEqual(fromAddress(), { layer: 0, head: 1, token: 3, r0: 2, c0: 1, n: 4, mode: "head" });
  set({ n: 8 });
  toAddress();
  assert.deepEqual(fromAddress(), { layer: 0, head: 1, token: 3, mode: "head" });
});

test("what is no whole number, no way to join heads or no key of the page is not taken", () => {
  globalThis.location = { hash: "#token=1.5&layer=&head=1e999&mode=sum&n=two&theme=dark&c0=-3" };
  assert.deepEqual(fromAddress(), { layer: 0, c0: -3 }); // `set` bounds a number
});

test("a browser may forbid to write the address", () => {
  globalThis.history = { replaceState: () => { throw new Error("too often"); } };
  toAddress();
});
