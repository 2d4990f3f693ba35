// The drivers' page: the cars that are on their way, and how the latest promises were kept.

import { ask, CityClock, CityMap, dressUp, shape } from "./common.js";
import { banner, clock as minutes, h, later, percent, seconds, table, tile, whole } from "./parts.js";

const AGAIN_MS = 1000, ROWS = 12, LONGEST_MIN = 25;
const $ = (id) => document.getElementById(id);
const clock = new CityClock();
let map, canvas, cars = [], colours = {}, isPaused = false;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["a", "b", "bad", "quiet", "card"]) colours[name] = style.getPropertyValue(`--${name}`).trim();
  if (map) {
    $("legend").replaceChildren(...[["a", "a car on its way"], ["bad", "later than its P90: the rider still waits"], ["quiet", "a rider who waits"]]
      .map(([name, words]) => h("li", {}, dot(colours[name]), words)));
  }
}

function dot(colour) {
  const element = h("i");
  element.style.background = colour;
  return element;
}

/** Each car's place on its way is by its promise; one whose rider still waits after that stands before his door. */
function drawCars() {
  const box = $("map").getBoundingClientRect(), scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(box.width * scale)) [canvas.width, canvas.height] = [box.width * scale, box.height * scale].map(Math.round);
  const pen = canvas.getContext("2d"), side = Math.min(canvas.width, canvas.height), km = side / (2 * map.r);
  pen.setTransform(km, 0, 0, -km, canvas.width / 2, canvas.height / 2);
  pen.clearRect(-100, -100, 200, 200);
  const now = clock.now();
  for (const car of cars) {
    const waited = now - car.asked, part = Math.max(0, Math.min(waited / car.p50, 0.96)), isLate = waited > car.p90;
    const [x, y] = [0, 1].map((i) => car.from[i] + (car.to[i] - car.from[i]) * part);
    pen.strokeStyle = isLate ? colours.bad : colours.a;
    pen.globalAlpha = 0.22;
    pen.lineWidth = 0.05;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(...car.to);
    pen.stroke();
    pen.globalAlpha = 0.8;
    circle(pen, ...car.to, 0.06, colours.quiet);
    pen.globalAlpha = 1;
    circle(pen, x, y, isLate ? 0.2 : 0.13, isLate ? colours.bad : colours.a);
  }
}

function circle(pen, x, y, radius, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
}

function showFigures(city) {
  const { n, mae_s, bias_s, late } = city.figures, versions = Object.entries(city.by_version);
  const of_versions = versions.map(([version, one]) => `version ${version}: ${whole(one.n)}, off by ${seconds(one.mae_s)}`).join("; ");
  const served = city.counts["answered by triton"] ?? 0;
  const others = Object.values(city.counts).reduce((a, b) => a + b, 0) - served;
  $("figures").replaceChildren(
    tile("On their way", whole(city.n_on_way), "cars to riders who wait"),
    tile("Mean error", seconds(mae_s), n ? `${whole(n)} arrivals in the last half hour` : "nobody has arrived yet"),
    tile("Bias", bias_s === null ? "–" : seconds(Math.abs(bias_s)), later(bias_s)),
    tile("Later than P90", percent(late, 0), "10 % were promised", { isBad: late > 0.15 }),
    tile("Answered by the model", whole(served), others ? `${whole(others)} in another way` : of_versions || "and nobody in another way", { isBad: others > 0 }));
}

function showArrivals(arrived) {
  const rows = arrived.slice(0, ROWS).map((one) => {
    const off = one.pickup_time_s - one.p50_s, isLate = one.pickup_time_s > one.p90_s;
    return [one.zone, minutes(one.p50_s).replace(" min", ""), minutes(one.pickup_time_s).replace(" min", ""),
      h("span", { class: isLate ? "late-text" : "" }, `${off < 0 ? "−" : "+"}${minutes(Math.abs(off)).replace(" min", "")}`), one.version];
  });
  $("latest").replaceChildren(table([["where", ""], ["said", "n"], ["really", "n"], ["off, min", "n"], ["version", "n"]], rows));
}

function showScatter(arrived) {
  const [left, bottom, size] = [30, 30, 300], at = (s) => Math.min(s / 60, LONGEST_MIN) / LONGEST_MIN * (size - left);
  const marks = [0, 5, 10, 15, 20, 25].flatMap((m) => {
    const d = at(m * 60);
    return [shape("line", { x1: left + d, x2: left + d, y1: 0, y2: size - bottom }), shape("line", { x1: left, x2: size, y1: size - bottom - d, y2: size - bottom - d }),
      shape("text", { x: left + d, y: size - bottom + 14, "text-anchor": m === 25 ? "end" : "middle" }, String(m)),
      ...(m ? [shape("text", { x: left - 6, y: size - bottom - d + (m === 25 ? 10 : 4), "text-anchor": "end" }, String(m))] : [])];
  });
  const svg = shape("svg", { viewBox: `0 0 ${size} ${size + 6}` });
  svg.append(...marks, shape("line", { class: "kept", x1: left, y1: size - bottom, x2: size, y2: 0 }),
    ...arrived.map((one) => shape("circle", { class: one.pickup_time_s > one.p90_s ? "late" : "", r: 2.6, cx: left + at(one.p50_s), cy: size - bottom - at(one.pickup_time_s) })),
    shape("text", { x: size, y: size + 2, "text-anchor": "end" }, "said, min"), shape("text", { x: left + 4, y: 10 }, "really, min"));
  $("scatter").replaceChildren(svg);
}

async function look() {
  if (isPaused || document.hidden) return;
  const city = await ask("/api/city");
  $("banner").replaceChildren(...(city.error ? [banner(city.error, true)] : []));
  if (city.error) return;
  clock.set(city.now_s, city.speed);
  map.setClosed(city.closed);
  cars = city.on_way.map(([id, asked, lat, lon, fromLat, fromLon, p50, p90]) =>
    ({ id, asked, p50, p90, to: map.place(lat, lon), from: map.place(fromLat, fromLon) }));
  showFigures(city);
  showArrivals(city.arrived);
  showScatter(city.arrived);
  document.body.dataset.ready = "1";
}

function pause() {
  isPaused = !isPaused;
  $("pause").textContent = isPaused ? "▶ go on" : "❚❚ pause";
  $("pause").setAttribute("aria-pressed", String(isPaused));
}

map = new CityMap($("map"), await ask("/api/map"));
canvas = document.createElement("canvas");
$("map").append(canvas);
dressUp("driver", readColours);
$("pause").addEventListener("click", pause);
addEventListener("keydown", (event) => event.key === "p" && !event.ctrlKey && !event.metaKey && pause());
await look();
setInterval(look, AGAIN_MS);
(function frame() {
  if (!isPaused) {
    $("status").textContent = clock.text();
    drawCars();
  }
  setTimeout(() => requestAnimationFrame(frame), 60);
})();
