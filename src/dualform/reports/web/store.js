// What is looked at, and who draws it: everything that changes goes through `set`, which draws once for each frame.

import { $, element } from "./elements.js";

// `bound` brings what is held, when it was changed, back within what there is.
export function storeOf(held, bound) {
  const painters = [];
  let pending = null;

  function put(change) {
    const before = { ...held };
    Object.assign(held, change);
    bound(held);
    const changed = new Set(Object.keys(held).filter((key) => held[key] !== before[key]));
    if (!changed.size) return;
    if (pending) changed.forEach((key) => pending.add(key));
    else {
      pending = changed;
      requestAnimationFrame(draw);
    }
  }

  function draw() {
    if (!pending) return;
    const changed = pending;
    pending = null;
    for (const painter of painters) if (painter.on.some((key) => changed.has(key))) painter.draw(changed);
  }

  function everything() {
    pending = new Set(Object.keys(held));
    draw();
  }

  // `draw` runs when one of these changes.
  function whenever(on, draw) {
    painters.push({ on, draw });
  }

  // A row of buttons of which one is chosen; arrow keys move within it, as in any group of radio buttons.
  function buttonsFor(id, key, options) {
    const group = $(id), buttons = options.map(([value, text, title]) => {
      const button = element("button", { type: "button", role: "radio", text, title: title || text });
      button.addEventListener("click", () => put({ [key]: value }));
      return button;
    });
    group.append(...buttons);
    const show = () => buttons.forEach((button, i) => {
      const on = options[i][0] === held[key];
      button.setAttribute("aria-checked", on);
      button.tabIndex = on ? 0 : -1;
    });
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const i = (buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length;
      buttons[i].focus();
      buttons[i].click();
    });
    whenever([key], show);
    show();
  }

  return { set: put, drawAll: everything, drawn: whenever, choice: buttonsFor };
}
