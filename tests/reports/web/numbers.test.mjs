import assert from "node:assert/strict";
import { test } from "node:test";

import { module, open, viewOf } from "./page.mjs";

open(viewOf(["The", " cat", "\n", ""], [[[1]]]));
const { asKept, brief, residualText, tokenName } = await module("numbers");
const { clipped, shown } = await module("letters");

test("few digits, and a power of ten for the small and the large", () => {
  assert.deepEqual([0, 0.5, -0.0001234, 123456, -12.3456].map((v) => brief(v)), ["0", "0.5000", "\u22121.23e\u22124", "1.23e+5", "\u221212.35"]);
});

test("an exact number is the shortest text of its float32", () => {
  for (const v of [0.1, 1 / 3, -1e-30, 16777217, 3.4e38].map(Math.fround)) {
    const text = asKept(v).replaceAll("\u2212", "-");
    assert.equal(Math.fround(Number(text)), v);
  }
  assert.equal(asKept(Math.fround(-0.1)), "\u22120.1");
});

test("a residual that is not there is none", () => {
  assert.deepEqual([null, 0, 2.5e-16].map(residualText), ["none", "0", "2.5e\u221216"]);
});

test("every character of a token is seen, and none turns the order of letters", () => {
  const hostile = ["", " a", "\n\t", "\u2028\u202e", "\u0000\ud800", "\u00a0\u200b", "</b>&"];
  assert.deepEqual(hostile.map(shown), ["\u2205", "\u00b7a", "\u23ce\u21e5", "U+2028U+202E", "U+0000U+D800", "\u237dU+200B", "</b>&"]);
});

test("a long text is cut at a letter, and a name stands in marks of its own", () => {
  assert.equal(clipped("\u{1f600}\u{1f600}\u{1f600}", 2), "\u{1f600}\u2026");
  assert.equal(clipped("ab", 2), "ab");
  assert.equal(tokenName(1), "\u2068\u201c\u00b7cat\u201d\u2069");
});
