// Which view is shown, when it is read anew, in which colours, and what the keys do.

import { drawAgain, forget } from "./charts.js";
import { banner, h } from "./parts.js";
import * as views from "./views.js";
import * as states from "./views_state.js";

const AGAIN_MS = 15000;
const VIEWS = [
  ["now", "Now", views.now], ["accuracy", "Predicted / actual", views.accuracy], ["places", "Zones and hours", views.places],
  ["intervals", "Intervals", views.intervals], ["drift", "Drift", states.drift], ["releases", "Releases", states.releases],
  ["health", "Data health", states.health], ["request", "A request", states.request],
];
const THEMES = { auto: "◐ auto", light: "○ light", dark: "● dark" };
const main = document.getElementById("main"), days = document.getElementById("days");
let shown = "", last = "", turn = 0;

const here = () => {
  const [name, id] = location.hash.slice(1).split("/");
  const found = VIEWS.find((view) => view[0] === name) ?? VIEWS[0];
  return { name: found[0], id: id ? decodeURIComponent(id) : null, render: found[2] };
};

async function ask(path) {
  try {
    const answer = await fetch(path, { headers: { Accept: "application/json" } });
    if (answer.status === 401) return { error: "The token is no longer right: load the page anew." };
    if (answer.ok || answer.status === 503) return await answer.json();
    return { error: `The monitor answered ${answer.status} to ${path}.` };
  } catch {
    return { error: "The monitor does not answer. Is scripts/monitor.py serve still running?" };
  }
}

async function dataOf({ name, id }) {
  if (name === "request") {
    const [far, found] = await Promise.all([ask("/api/farthest"), id ? ask(`/api/request?id=${encodeURIComponent(id)}`) : null]);
    return { far, found, id };
  }
  return ask(name === "now" ? "/api/now" : `/api/${name}?days=${days.value}`);
}

function paint(view, data) {
  main.replaceChildren(...(data.error ? [banner(data.error, true)] : [data.trouble ? banner(data.trouble, true) : null, ...view.render(data)].filter(Boolean)));
  main.dataset.view = view.name;
  document.getElementById("lookup")?.addEventListener("submit", (event) => {
    event.preventDefault();
    const id = document.getElementById("request-id").value.trim();
    location.hash = id ? `request/${encodeURIComponent(id)}` : "request";
  });
  const until = data.until ? `${data.since} to ${data.until}, ${data.timezone}` : "";
  document.getElementById("status").textContent = until;
}

/** Reads the view and shows it; what has not changed is left alone. */
async function show(isNew) {
  const view = here(), mine = ++turn;
  if (isNew) {
    forget();
    shown = "";
    for (const link of document.querySelectorAll("#views a")) {
      if (link.hash === `#${view.name}`) {
        link.setAttribute("aria-current", "page");
        link.scrollIntoView({ block: "nearest", inline: "center" });
      } else link.removeAttribute("aria-current");
    }
    document.getElementById("span").hidden = ["now", "request"].includes(view.name);
    document.title = `${VIEWS.find((one) => one[0] === view.name)[1]} · Hailtime monitor`;
  }
  const data = await dataOf(view);
  if (mine !== turn) return; // another view was asked for meanwhile
  const text = JSON.stringify(data);
  if (text !== shown) paint(view, data);
  if (isNew && view.name !== last) scrollTo(0, 0);
  last = view.name;
  shown = text;
}

function dress(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = THEMES[theme];
  localStorage.setItem("theme", theme);
  drawAgain();
}

function nextTheme() {
  const names = Object.keys(THEMES);
  dress(names[(names.indexOf(localStorage.getItem("theme") ?? "auto") + 1) % names.length]);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const number = Number(event.key);
  if (number >= 1 && number <= VIEWS.length) location.hash = VIEWS[number - 1][0];
  else if (event.key === "t") nextTheme();
  else if (event.key === "/") {
    event.preventDefault();
    location.hash = "request";
    setTimeout(() => document.getElementById("request-id")?.focus(), 300);
  } else if (["+", "-", "−"].includes(event.key) && !document.getElementById("span").hidden) {
    days.selectedIndex = Math.min(Math.max(days.selectedIndex + (event.key === "+" ? 1 : -1), 0), days.options.length - 1);
    show(true);
  }
}

document.getElementById("views").append(...VIEWS.map(([name, title]) => h("li", {}, h("a", { href: `#${name}` }, title))));
document.getElementById("footer").append(h("p", { class: "keys" }, "Keys: ", h("kbd", {}, "1"), " to ", h("kbd", {}, String(VIEWS.length)), " views, ", h("kbd", {}, "+"), " ", h("kbd", {}, "−"),
  " how far back, ", h("kbd", {}, "/"), " a request, ", h("kbd", {}, "t"), " light or dark. Times are the city's."));
document.getElementById("theme").addEventListener("click", nextTheme);
days.addEventListener("change", () => show(true));
addEventListener("hashchange", () => show(true));
addEventListener("keydown", onKey);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAgain);
setInterval(() => document.hidden || here().name === "request" || show(false), AGAIN_MS);

dress(localStorage.getItem("theme") ?? "auto");
if (here().name === "now") { // its figures came with the page
  paint(here(), JSON.parse(document.getElementById("first").textContent));
}
show(true);
