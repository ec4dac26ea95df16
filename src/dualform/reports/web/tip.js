// What is said beside the pointer.

import { $, clamp, element } from "./elements.js";

export function showTip(event, text, ...values) {
  const tip = $("tip");
  tip.replaceChildren(...values.map((value) => element("b", { text: value })), element("span", { text }));
  tip.hidden = false;
  const { offsetWidth: wide, offsetHeight: high } = tip;
  tip.style.left = `${clamp(event.clientX + 14, 4, Math.max(4, innerWidth - wide - 4))}px`;
  tip.style.top = `${event.clientY + 18 + high > innerHeight ? event.clientY - high - 10 : event.clientY + 18}px`;
}

export function hideTip() {
  $("tip").hidden = true;
}
