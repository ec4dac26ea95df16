// What is looked at stands in the address, so that it can be sent to someone.

import { TIME } from "./source.js";
import { AGGREGATED, state } from "./state.js";

export const MODES = ["mean", "max", "head"];

export function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)), found = {};
  for (const key of ["layer", "head", "token", "r0", "c0", "n"]) {
    const value = Number(given.get(key));
    if (given.has(key) && Number.isInteger(value)) found[key] = value;
  }
  if (AGGREGATED && MODES.includes(given.get("mode"))) found.mode = given.get("mode");
  return found;
}

export function toAddress() {
  const whole = state.n === TIME ? {} : { r0: state.r0, c0: state.c0, n: state.n };
  const words = new URLSearchParams({ layer: state.layer, mode: state.mode, head: state.head, token: state.token, ...whole });
  try {
    history.replaceState(null, "", `#${words}`);
  } catch { /* a browser may forbid it for files, or when it comes too often */ }
}
