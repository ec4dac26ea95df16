// What the chosen token takes from and gives to: its row and its column of the chosen map.

import { source, TIME } from "./source.js";
import { drawn, mapOf, newest, state } from "./state.js";

export let profile = { row: new Float32Array(TIME), column: new Float32Array(TIME), of: "" };
const readers = [];

// `show` runs when a profile has come.
export function profiled(show) {
  readers.push(show);
}

const readProfile = newest(
  async (layer, map, token) => {
    const [row, column] = await Promise.all([source.row(layer, map, token), source.column(layer, map, token)]);
    return { row, column, of: `${layer}/${map}/${token}` };
  },
  (came) => {
    profile = came;
    for (const show of readers) show();
  },
);

export function startProfile() {
  drawn(["token", "layer", "mode", "head"], () => readProfile(state.layer, mapOf(state.layer), state.token));
}
