// Beside the table: all that is known of the chosen cell, and the chosen token layer by layer.

import { brief, LAYERS, percent, tokenName, view, wordName } from "./lens_source.js";
import { drawn, inUnit, reading, set, state } from "./lens_state.js";
import { clipped, shown } from "./letters.js";
import { $, element } from "./elements.js";

const number = (text) => element("td", { class: "number", text });
const heads = (...words) => element("thead", {}, element("tr", {}, ...words.map(([text, kind = ""]) => element("th", { scope: "col", class: kind, text }))));

function bar(share) {
  const line = element("i", { class: "more" });
  line.style.width = `${Math.max(0, Math.min(100, 100 * share))}%`;
  return element("td", { class: "bar" }, line);
}

function showRanks() {
  const { layer, token } = state, { top, chance, entropy, kl } = reading(), next = view.following[token] ?? null;
  $("ranks-title").replaceChildren(`${view.layers[layer]}, after `, `${tokenName(token)} (${token})`);
  const came = next === null ? "" : `; what came next is ${wordName(next)}`;
  $("ranks-said").textContent = `Entropy ${brief(inUnit(entropy[layer][token]))} ${state.unit}, KL ${brief(inUnit(kl[layer][token]))} ${state.unit}${came}.`;
  const rows = top[layer][token].map((word, rank) => element("tr", { class: word === next ? "came" : "" },
    number(String(rank + 1)), element("td", {}, element("bdi", { text: clipped(shown(view.words[word]), 40) })),
    number(percent(chance[layer][token][rank])), bar(chance[layer][token][rank])));
  $("ranks").replaceChildren(heads(["", "number"], ["output"], ["probability", "number"], [""]), element("tbody", {}, ...rows));
  $("ranks").dataset.of = `${state.lens}/${layer}/${token}/${state.unit}`;
  const [word] = top[layer][token];
  $("live").textContent = `${view.layers[layer]}, after token ${token}, ${tokenName(token)}: ${wordName(word)}, ${percent(chance[layer][token][0])}.`;
}

function showLayers() {
  const { token } = state, { top, chance, entropy, kl } = reading(), next = view.following[token] ?? null, rows = [];
  $("by-layer-title").replaceChildren("By layer, after ", `${tokenName(token)} (${token})`);
  for (let layer = LAYERS - 1; layer >= 0; layer--) {
    const [word] = top[layer][token], pick = element("button", { type: "button", class: "pick", text: view.layers[layer] });
    pick.addEventListener("click", () => set({ layer }));
    rows.push(element("tr", { class: word === next ? "came" : "" }, element("td", {}, pick),
      element("td", {}, element("bdi", { text: clipped(shown(view.words[word]), 24) })),
      number(percent(chance[layer][token][0])), number(brief(inUnit(entropy[layer][token]))), number(brief(inUnit(kl[layer][token])))));
  }
  const names = heads(["layer"], ["likeliest"], ["probability", "number"], [`entropy, ${state.unit}`, "number"], [`KL, ${state.unit}`, "number"]);
  $("by-layer").replaceChildren(names, element("tbody", {}, ...rows));
}

function showMeans() {
  const mean = (row) => row.reduce((sum, v) => sum + v, 0) / row.length, { kl, entropy } = reading(), rows = [];
  for (let layer = LAYERS - 1; layer >= 0; layer--) {
    const cells = view.lenses.map((each) => number(brief(inUnit(mean(each.kl[layer])))));
    rows.push(element("tr", {}, element("td", { text: view.layers[layer] }), ...cells, number(brief(inUnit(mean(entropy[layer]))))));
  }
  const names = view.lenses.map((each) => [`KL, ${each.name}`, "number"]);
  $("means").replaceChildren(heads(["layer"], ...names, [`entropy, ${reading().name}`, "number"]), element("tbody", {}, ...rows));
  $("means-title").textContent = `Mean over all ${kl[0].length} tokens, in ${state.unit}`;
}

export function startSide() {
  drawn(["layer", "token", "lens", "unit"], showRanks);
  drawn(["token", "lens", "unit"], showLayers);
  drawn(["lens", "unit"], showMeans);
}
