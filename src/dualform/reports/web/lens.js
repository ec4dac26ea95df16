// What a lens page says of itself, its keys; then the first drawing.

import { LAYERS, TIME, view } from "./lens_source.js";
import { choice, drawAll, drawn, reading, set, SHOWS, state, UNITS } from "./lens_state.js";
import { $, element } from "./elements.js";
import { startFrame, startKeys } from "./frame.js";
import { fromAddress, toAddress } from "./lens_address.js";
import { startTable } from "./lens_table.js";
import { startSide } from "./lens_side.js";

const SAYS = {
  "logit lens": "Each cell is what the model's final norm and unembedding make of that layer, as if the model ended there. An early layer need not speak their language: what it seems to say may be nothing that it means.",
  "tuned lens": "Each cell is what the model's final norm and unembedding make of that layer behind an affine map, which was trained for this model to come as near to its last layer as it can.",
};

const next = (all, one) => all[(all.indexOf(one) + 1) % all.length];
const moves = {
  ArrowLeft: (event) => set({ token: state.token - (event.shiftKey ? 10 : 1) }),
  ArrowRight: (event) => set({ token: state.token + (event.shiftKey ? 10 : 1) }),
  ArrowUp: () => set({ layer: state.layer + 1 }),
  ArrowDown: () => set({ layer: state.layer - 1 }),
  Home: () => set({ token: 0 }),
  End: () => set({ token: TIME - 1 }),
};
const frame = startFrame(state, set);
const letters = {
  v: () => set({ shows: next(SHOWS, state.shows) }),
  u: () => set({ unit: next(UNITS, state.unit) }),
  l: () => set({ lens: (state.lens + 1) % view.lenses.length }),
  d: () => frame.turn(),
  "?": () => $("help").showModal(),
};

function showFacts() {
  const { name } = reading();
  $("lens-name").textContent = name;
  $("claim").textContent = SAYS[name] || "";
}

function showDetails() {
  const rows = [...view.details, ["tokens", String(TIME)], ["layers", String(LAYERS)], ["numbers", "rounded to four digits"]];
  $("details").append(...rows.flatMap(([key, value]) => [element("dt", { text: key }), element("dd", { text: value })]));
  const short = view.details.filter(([, value]) => value.length <= 60); // the rest is in the help
  $("facts").append(...short.map(([key, value]) => element("span", { class: "fact" }, element("span", { class: "label", text: key }), " ", element("b", { text: value }))));
  $("foot").textContent = `${TIME} tokens, ${LAYERS} layers, ${view.outputs.toLocaleString("en")} outputs. Probabilities, entropy and KL are rounded to four digits.`;
}

function start() {
  startKeys(letters, moves, (at) => at === $("cells") || at.classList.contains("pick"));
  choice("lens", "lens", view.lenses.map((each, i) => [i, each.name]));
  choice("shows", "shows", [["probability", "probability", "Of the likeliest output"], ["entropy", "entropy", "Of all outputs"], ["kl", "KL", "KL(final || lens): how far from what the model says in the end"]]);
  choice("unit", "unit", UNITS.map((unit) => [unit, unit]));
  startTable();
  startSide();
  let later = 0;
  drawn(["token", "layer", "lens", "shows", "unit"], () => { clearTimeout(later); later = setTimeout(toAddress, 300); });
  drawn(["lens"], showFacts);
  const beside = $("beside"); // the attention page of the same text, where there is one
  if (beside) drawn(["token"], () => { beside.hash = `token=${state.token}`; });
  frame.show();
  showDetails();
  set(fromAddress());
  drawAll();
}

start();
