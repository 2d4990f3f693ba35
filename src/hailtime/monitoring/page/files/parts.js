// The pieces that views are put together from. Texts come in plain and stay texts.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A card with a picture; the picture that is already there is kept, so that it only changes. */
export function picture(id, title, words, label) {
  const plot = document.getElementById(id) ?? h("div", { id, class: "plot", role: "img" });
  plot.setAttribute("aria-label", label ?? `${title}. ${words ?? ""}`);
  return h("section", { class: "card" }, h("h2", {}, title), words ? h("p", {}, words) : null, plot);
}

export const card = (title, words, ...body) =>
  h("section", { class: "card" }, title ? h("h2", {}, title) : null, words ? h("p", {}, words) : null, ...body);
export const pair = (...cards) => h("div", { class: "pair" }, ...cards);
export const banner = (text, isBad) => h("div", { class: `card banner${isBad ? " bad" : ""}`, role: "alert" }, h("p", {}, text));

export function tile(name, figure, words, { isWords = false, isBad = false, isBroad = false } = {}) {
  const kind = `figure${isWords ? " words" : ""}${isBad ? " bad-figure" : ""}`;
  return h("dl", { class: `card tile${isBroad ? " broad" : ""}` }, h("dt", {}, name),
    h("dd", {}, h("div", { class: kind }, figure), words ? h("small", {}, words) : null));
}
export const threes = (...all) => h("div", { class: "tiles threes" }, ...all);
export const tiles = (...all) => h("div", { class: "tiles" }, ...all);

/** heads: [text, kind]; kind "n" for numbers, "short" for what stays in a line, "why" for many words. */
export function table(heads, rows) {
  const top = heads.map(([text, kind]) => h("th", { class: kind, scope: "col" }, text));
  const lines = rows.map((row) => h("tr", {}, row.map((cell, i) => h("td", { class: heads[i][1] }, cell ?? "–"))));
  return h("div", { class: "wide" }, h("table", {}, h("thead", {}, h("tr", {}, top)), h("tbody", {}, lines)));
}

export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value ?? "–"))));

const isNone = (value) => value === null || value === undefined;
export const whole = (value) => (isNone(value) ? "–" : Math.round(value).toLocaleString("en"));
export const seconds = (value) => (isNone(value) ? "–" : `${whole(value)} s`);
export const percent = (value, digits = 1) => (isNone(value) ? "–" : `${(value * 100).toFixed(digits)} %`);
export const milliseconds = (value) => (isNone(value) ? "–" : `${(value * 1000).toFixed(value < 0.01 ? 2 : 0)} ms`);
export const between = (low, high) => (isNone(low) ? "" : `${whole(low)} to ${whole(high)} s`);
/** 727 → 12:07 min */
export function clock(value) {
  if (isNone(value)) return "–";
  const all = Math.round(value);
  return `${Math.floor(all / 60)}:${String(all % 60).padStart(2, "0")} min`;
}
export const early = (bias) => (isNone(bias) ? "–" : `${whole(Math.abs(bias))} s ${bias < 0 ? "later" : "earlier"}`);
export const later = (bias) =>
  isNone(bias) ? "" : Math.abs(bias) < 0.5 ? "neither late nor early" : `drivers came ${early(bias)} than was said`;
