// What both pages share: the links, light and dark, asking the backend, the city's clock, and the map.

import { h } from "./parts.js";

const THEMES = { auto: "◐ auto", light: "○ light", dark: "● dark" };
const SVG = "http://www.w3.org/2000/svg";

export function dressUp(page, onDress = () => {}) {
  document.body.dataset.page = page;
  const monitor = document.body.dataset.monitor;
  const links = [["rider", "/", "Rider"], ["driver", "/driver", "Drivers"]];
  if (monitor) links.push(["monitor", monitor, "Monitor"]);
  document.getElementById("pages").append(...links.map(([name, href, title]) =>
    h("li", {}, h("a", { href, "aria-current": name === page ? "page" : null }, title))));
  const button = document.getElementById("theme");
  const dress = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = THEMES[theme];
    localStorage.setItem("theme", theme);
    onDress();
  };
  const next = () => {
    const names = Object.keys(THEMES);
    dress(names[(names.indexOf(localStorage.getItem("theme") ?? "auto") + 1) % names.length]);
  };
  button.addEventListener("click", next);
  addEventListener("keydown", (event) => {
    if (event.key === "t" && !event.ctrlKey && !event.metaKey && !event.altKey) next();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onDress);
  dress(localStorage.getItem("theme") ?? "auto");
}

/** The answer, or { error } in words. */
export async function ask(path, content) {
  try {
    const answer = await fetch(path, content === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
    });
    if (answer.ok) return await answer.json();
    return { error: `The backend answered ${answer.status}.`, status: answer.status };
  } catch {
    return { error: "The backend does not answer. Is it still running?" };
  }
}

/** The city's clock between two answers of the backend. */
export class CityClock {
  set(now_s, speed) {
    [this.from_s, this.speed, this.began] = [now_s, speed, performance.now()];
  }
  now() {
    return this.from_s === undefined ? 0 : this.from_s + (performance.now() - this.began) / 1000 * this.speed;
  }
  text() {
    const time = new Date(this.now() * 1000).toLocaleTimeString("en-GB", { timeZone: "America/New_York", hour: "2-digit", minute: "2-digit" });
    const fast = this.speed > 1 ? `, a minute of the city in ${(60 / this.speed).toLocaleString("en", { maximumSignificantDigits: 2 })} s` : "";
    return this.from_s === undefined ? "" : `${time} in the city${fast}`;
  }
}

export function shape(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x} ${-y}`).join("");

/** The map in kilometres; north is up. `over` is where a page puts its own shapes. */
export class CityMap {
  constructor(box, drawn) {
    const r = drawn.radius_km + 0.4;
    [this.box, this.drawn, this.r] = [box, drawn, r];
    this.svg = shape("svg", { viewBox: `${-r} ${-r} ${2 * r} ${2 * r}`, "aria-hidden": "true" });
    const circle = shape("clipPath", { id: "city" });
    circle.append(shape("circle", { r: drawn.radius_km }));
    const land = shape("g", { "clip-path": "url(#city)" });
    this.zones = drawn.zones.map((zone) => shape("path", { class: `zone ${zone.group}`, d: `${line(zone.outline)}Z` }));
    land.append(...this.zones, ...drawn.streets.map((street) => shape("path", { class: "street", d: line(street) })),
      shape("path", { class: "river", d: line(drawn.river) }), shape("path", { class: "highway", d: line(drawn.highway) }),
      ...drawn.bridges.map(([x, y]) => shape("circle", { class: "bridge", cx: x, cy: -y, r: 0.26 })));
    this.closed = shape("g", {});
    this.over = shape("g", {});
    this.svg.append(circle, land, this.closed, ...this.names(), this.over);
    box.append(this.svg);
  }
  names() {
    const major = ["Old Town", "Airport", "Stadium", "West Docks", "Beacon Hill", "Northfield", "Marsh End"];
    const minor = ["University", "Lakeside", "Willow Bend", "Summit", "Central Station", "Quarry Hill", "Garden District", "Outer Harbour"];
    return this.drawn.zones.filter((zone) => [...major, ...minor].includes(zone.name)).map((zone) =>
      shape("text", { class: `name${minor.includes(zone.name) ? " minor" : ""}`, x: zone.centre[0], y: -zone.centre[1] }, zone.name));
  }
  /** Degrees to kilometres east and north. */
  place(lat, lon) {
    const [centre, km] = [this.drawn.centre, this.drawn.km_per_degree];
    return [(lon - centre[1]) * km[1], (lat - centre[0]) * km[0]];
  }
  degrees(x, y) {
    const [centre, km] = [this.drawn.centre, this.drawn.km_per_degree];
    return [centre[0] + y / km[0], centre[1] + x / km[1]];
  }
  zoneAt(x, y) {
    const away = this.drawn.zones.map(({ centre }) => Math.hypot(centre[0] - x, centre[1] - y));
    return away.indexOf(Math.min(...away));
  }
  inside(x, y) {
    const far = Math.hypot(x, y) / (this.drawn.radius_km - 0.2);
    return far > 1 ? [x / far, y / far] : [x, y];
  }
  ofEvent(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return this.inside(point.x, -point.y);
  }
  /** The closed kilometres, in degrees. */
  setClosed(places) {
    const text = JSON.stringify(places);
    if (text === this.shut) return;
    this.shut = text;
    const points = places.map(([lat, lon]) => this.place(lat, lon));
    const beside = points[Math.floor(points.length * 0.8)];
    this.closed.replaceChildren(...(points.length < 2 ? [] : [
      shape("path", { class: "closed-under", d: line(points) }), shape("path", { class: "closed", d: line(points) }),
      shape("text", { class: "name shut", x: beside[0] - 1.7, y: -beside[1] - 0.6 }, "closed")]));
  }
}
