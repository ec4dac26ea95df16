import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";

import { module } from "./page.mjs";

const { bytesOf, fromInt8, fromPlanes, inflated } = await module("decode");

test("base64 and zlib give the bytes back", async () => {
  const bytes = Uint8Array.from({ length: 300 }, (_, i) => i % 251);
  assert.deepEqual(await inflated(bytesOf(deflateSync(bytes).toString("base64"))), bytes);
});

test("float32 comes back to the bit", () => {
  const numbers = new Float32Array([0, -0, 1, -1e-30, 3.4e38, 0.1]), bytes = new Uint8Array(numbers.buffer), planes = new Uint8Array(24);
  for (let i = 0; i < 6; i++) for (let k = 0; k < 4; k++) planes[6 * k + i] = bytes[4 * i + k];
  assert.deepEqual(new Uint32Array(fromPlanes(planes, "float32", 1).buffer), new Uint32Array(numbers.buffer));
});

test("float16 is that of IEEE 754, times its scale", () => {
  const words = [0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0x0000], planes = Uint8Array.from([...words.map((w) => w & 255), ...words.map((w) => w >> 8)]);
  assert.deepEqual([...fromPlanes(planes, "float16", 0.5)], [0.5, -1, 32752, 2 ** -25, 2 ** -15, 0]);
});

test("int8 is steps of a square root, with their sign", () => {
  const found = fromInt8(Uint8Array.from([0, 127, 256 - 127, 64]), 2);
  assert.deepEqual([...found], [0, 2, -2, Math.fround(2 * (64 / 127) ** 2)]);
});
