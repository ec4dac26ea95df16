// What stands around every page: light or dark, the help, and keys.

import { $ } from "./elements.js";

// Light or dark as the system has it, until a button or a key says otherwise; and the help.
export function startFrame(held, put) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    $("theme").textContent = theme === "dark" ? "Light" : "Dark";
    put({ theme });
  };
  const turn = () => show(held.theme === "dark" ? "light" : "dark");
  dark.addEventListener("change", () => show(dark.matches ? "dark" : "light"));
  $("theme").addEventListener("click", turn);
  $("ask").addEventListener("click", () => $("help").showModal());
  $("help-close").addEventListener("click", () => $("help").close());
  held.theme = dark.matches ? "dark" : "light";
  return { show: () => show(held.theme), turn };
}

// Letters act wherever the focus is; `moves`, by arrows, are the page's own to scroll with where something that is not `ours` has it.
export function startKeys(letters, moves, ours) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || $("help").open) return;
    const act = letters[event.key.toLowerCase()];
    if (act) {
      act();
      return event.preventDefault();
    }
    const at = document.activeElement;
    if ((at === document.body || ours(at)) && moves[event.key]) {
      moves[event.key](event);
      event.preventDefault();
    }
  });
}
