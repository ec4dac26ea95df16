// What is looked at stands in the address, so that it can be sent to someone; `token` is that of the attention page, too.

import { SHOWS, state, UNITS } from "./lens_state.js";

export function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)), found = {};
  for (const key of ["token", "layer", "lens"]) {
    const value = Number(given.get(key));
    if (given.has(key) && Number.isInteger(value)) found[key] = value;
  }
  if (SHOWS.includes(given.get("shows"))) found.shows = given.get("shows");
  if (UNITS.includes(given.get("unit"))) found.unit = given.get("unit");
  return found;
}

export function toAddress() {
  const { token, layer, lens, shows, unit } = state;
  try {
    history.replaceState(null, "", `#${new URLSearchParams({ token, layer, lens, shows, unit })}`);
  } catch { /* a browser may forbid it for files, or when it comes too often */ }
}
