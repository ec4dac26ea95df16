// The table of layers by tokens: in each cell the likeliest output, and what is chosen in colour.

import { brief, LAYERS, percent, TIME, tokenName, view, wordName } from "./lens_source.js";
import { byRoot, drawn, fullColour, inUnit, reading, set, signedValue, state, valueOf } from "./lens_state.js";
import { clipped, shown } from "./letters.js";
import { colours, css, ink, place } from "./colour.js";
import { $, element } from "./elements.js";
import { hideTip, showTip } from "./tip.js";

const cells = []; // by layer and token
let markedCell = null;

function layTable() {
  const head = element("tr", {}, element("th", { scope: "col", class: "corner", text: "layer" }));
  for (let t = 0; t < TIME; t++) {
    const name = element("bdi", { text: clipped(shown(view.tokens[t]), 12) });
    const column = element("th", { scope: "col", class: "token-head", id: `token-${t}` }, name);
    column.dataset.token = t;
    head.append(column);
  }
  const body = element("tbody");
  for (let layer = LAYERS - 1; layer >= 0; layer--) { // the last layer on top, nearest to what the model says
    const row = element("tr", {}, element("th", { scope: "row", text: view.layers[layer] }));
    cells[layer] = [];
    for (let t = 0; t < TIME; t++) {
      const cell = element("td", { class: "cell", id: `cell-${layer}-${t}`, "aria-selected": "false" }, element("bdi"));
      cell.dataset.layer = layer;
      cell.dataset.token = t;
      cells[layer].push(cell);
      row.append(cell);
    }
    body.append(row);
  }
  $("cells").append(element("thead", {}, head), body);
}

function fillWords() {
  const { top } = reading();
  cells.forEach((row, layer) => row.forEach((cell, t) => {
    const word = top[layer][t][0];
    cell.firstChild.textContent = clipped(shown(view.words[word]), 12);
    cell.classList.toggle("came", view.following[t] === word);
  }));
}

function colourCells() {
  const lut = colours(state.theme), full = fullColour(), root = byRoot();
  cells.forEach((row, layer) => row.forEach((cell, t) => {
    const word = lut[place(signedValue(valueOf(layer, t)), full, root)];
    cell.style.backgroundColor = css(word);
    cell.style.color = ink(word);
  }));
  drawLegend(lut, full, root);
}

function drawLegend(lut, full, root) {
  const canvas = $("legend"), context = canvas.getContext("2d"), wide = (canvas.width = 256);
  canvas.height = 1;
  const image = context.createImageData(wide, 1), points = new Uint32Array(image.data.buffer);
  for (let i = 0; i < wide; i++) points[i] = lut[place(signedValue((full * i) / (wide - 1)), full, root)];
  context.putImageData(image, 0, 0);
  const most = state.shows === "probability" ? "100%" : `${brief(full)} ${state.unit}`;
  $("legend-most").textContent = most;
  canvas.setAttribute("aria-label", `Colours from 0 to ${most}`);
}

function markCell() {
  hideTip(); // it spoke of the cell before
  if (markedCell) {
    markedCell.classList.remove("chosen");
    markedCell.setAttribute("aria-selected", "false");
  }
  markedCell = cells[state.layer][state.token];
  markedCell.classList.add("chosen");
  markedCell.setAttribute("aria-selected", "true");
  $("cells").setAttribute("aria-activedescendant", markedCell.id);
  const around = $("around"), head = around.querySelector(".corner"), { offsetLeft: left, offsetWidth: wide } = markedCell;
  if (left - head.offsetWidth < around.scrollLeft) around.scrollLeft = left - head.offsetWidth;
  if (left + wide > around.scrollLeft + around.clientWidth) around.scrollLeft = left + wide - around.clientWidth;
  const { offsetTop: top, offsetHeight: high } = markedCell;
  if (top - head.offsetHeight < around.scrollTop) around.scrollTop = top - head.offsetHeight;
  if (top + high > around.scrollTop + around.clientHeight) around.scrollTop = top + high - around.clientHeight;
}

function tipOf(event, layer, t) {
  const { top, chance, entropy, kl } = reading();
  const ranks = top[layer][t].map((word, rank) => `${percent(chance[layer][t][rank])} ${wordName(word)}`);
  const far = `entropy ${brief(inUnit(entropy[layer][t]))}, KL ${brief(inUnit(kl[layer][t]))} ${state.unit}`;
  showTip(event, `${view.layers[layer]}, after ${tokenName(t)} (${t}): ${far}`, ...ranks);
}

export function startTable() {
  layTable();
  const table = $("cells");
  table.addEventListener("click", (event) => {
    const at = event.target.closest("[data-token]");
    if (!at) return;
    set({ token: Number(at.dataset.token), ...(at.dataset.layer === undefined ? {} : { layer: Number(at.dataset.layer) }) });
  });
  table.addEventListener("pointermove", (event) => {
    const cell = event.target.closest(".cell");
    if (!cell) return hideTip();
    tipOf(event, Number(cell.dataset.layer), Number(cell.dataset.token));
  });
  table.addEventListener("pointerleave", hideTip);
  drawn(["lens"], fillWords);
  drawn(["lens", "shows", "unit", "theme"], colourCells);
  drawn(["layer", "token"], markCell);
}
