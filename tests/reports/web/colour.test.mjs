import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./page.mjs";

const { colours, css, ink, place } = await module("colour");
const parts = (word) => [word & 255, (word >> 8) & 255, (word >> 16) & 255];

test("a value has its place between -peak and peak, which is where all beyond are, too", () => {
  assert.deepEqual([-2, -1, 0, 1, 2].map((v) => place(v, 1, false)), [0, 0, 255, 510, 510]);
  assert.deepEqual([0.25, -0.25].map((v) => place(v, 1, true)), [255 + 128, 255 - 127]);
  assert.equal(place(0, 0, true), 255);
});

for (const theme of ["light", "dark"]) {
  test(`blue adds, orange takes away, in ${theme}`, () => {
    const lut = colours(theme), [less, more] = [parts(lut[60]), parts(lut[450])];
    assert.ok(less[0] > less[2] && more[2] > more[0]);
    assert.match(css(lut[255]), /^rgb\(\d+,\d+,\d+\)$/);
  });

  test(`text is read on every colour of ${theme}: a contrast of at least 4 to 1`, () => {
    const linear = (c) => ((c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const inks = { "#ffffff": [255, 255, 255], "#101214": [16, 18, 20] };
    for (const word of colours(theme)) {
      const [high, low] = [light(parts(word)), light(inks[ink(word)])].sort((a, b) => b - a);
      assert.ok((high + 0.05) / (low + 0.05) >= 4, `${parts(word)}`);
    }
  });
}
