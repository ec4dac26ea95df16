// Elements of the page: found, made, and numbers kept within bounds.

export const $ = (id) => document.getElementById(id);
export const clamp = (v, low, high) => Math.max(low, Math.min(high, v));

export function element(name, words = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(words)) {
    if (key === "class") made.className = value;
    else if (key === "text") made.textContent = value;
    else made.setAttribute(key, value);
  }
  made.append(...inside);
  return made;
}
