// The chosen token's strongest sources and readers as tables: the text that says what the maps show.

import { view } from "./source.js";
import { asKept, brief, tokenName } from "./numbers.js";
import { clipped, shown } from "./letters.js";
import { choice, drawn, set, state } from "./state.js";
import { $, element } from "./elements.js";
import { profile, profiled } from "./profile.js";

export function strongestOf(a, most) {
  const order = Array.from(a.keys()).filter((i) => a[i] !== 0);
  order.sort((i, j) => Math.abs(a[j]) - Math.abs(a[i]) || i - j);
  return { first: order.slice(0, most), all: order.length };
}

function fillTable(table, a, word) {
  const { first, all } = strongestOf(a, state.count), peak = first.length ? Math.abs(a[first[0]]) : 1;
  const body = element("tbody");
  for (const i of first) {
    const bar = element("i", { class: a[i] < 0 ? "less" : "more" });
    bar.style.width = `${(100 * Math.abs(a[i])) / peak}%`;
    const pick = element("button", { type: "button", class: "pick", title: "Choose this token" }, element("bdi", { text: clipped(shown(view.tokens[i]), 28) }));
    pick.addEventListener("click", () => set({ token: i }));
    body.append(element("tr", {}, element("td", { class: "number", text: i }), element("td", {}, pick), element("td", { class: "number", text: brief(a[i]), title: asKept(a[i]) }), element("td", { class: "bar", "aria-hidden": "true" }, bar)));
  }
  let more = 0, less = 0;
  for (const v of a) if (v > 0) more += v; else less += v;
  const foot = element("tfoot", {}, element("tr", {}, element("td", { colspan: "4", text: all ? `sum ${brief(more + less)} = ${brief(more)} ${less < 0 ? "\u2212 " + brief(-less) : "+ 0"} over ${all} ${word}${all === 1 ? "" : "s"}${all > first.length ? `, ${first.length} shown` : ""}` : `no ${word}s` })));
  const head = element("thead", {}, element("tr", {}, ...["at", "token", "value", ""].map((text, k) => element("th", { scope: "col", class: k === 0 || k === 2 ? "number" : "", text }))));
  table.replaceChildren(head, body, foot);
  table.dataset.of = `${profile.of}/${state.count}`; // layer, map, token and rows that it is of
}

// Which output a row of a layer's maps explains, "" where the view does not say.
function explained(layer, t) {
  const { explains } = view.layers[layer], which = explains.length === 1 ? explains[0] : explains[t];
  return which ? `This row explains ${which}.` : "";
}

function showTables() {
  $("tables-title").replaceChildren("Token ", `${tokenName(state.token)} (${state.token})`);
  $("explains").textContent = explained(state.layer, state.token);
  $("takes-title").textContent = "takes from";
  $("gives-title").textContent = "gives to";
  fillTable($("takes"), profile.row, "source");
  fillTable($("gives"), profile.column, "reader");
}

export function startTables() {
  choice("count", "count", [[10, "10"], [50, "50"], [Infinity, "all"]]);
  drawn(["count"], showTables);
  profiled(showTables);
}
