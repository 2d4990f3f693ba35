// The rider's page: a pin, a product, a promise, and how it went.

import { ask, CityClock, CityMap, dressUp, shape } from "./common.js";
import { banner, h } from "./parts.js";

const PRODUCTS = [["standard", "Standard", "four seats"], ["shared", "Shared", "with others"], ["xl", "XL", "six seats"], ["accessible", "Accessible", "with a ramp"]];
const POLL_MS = 200, CITY_MS = 2000, FOUND_WITHIN_MS = 15000, STEP_KM = 0.4;
const $ = (id) => document.getElementById(id);
const clock = new CityClock(), mine = [];
let map, pin = [0.6, 0.4], ride = null, isAsking = false;

const minutes = (s) => Math.max(1, Math.round(s / 60));
const clockTime = (s) => `${Math.floor(s / 60)}:${String(Math.round(s) % 60).padStart(2, "0")} min`;

function movePin(x, y) {
  pin = map.inside(x, y);
  const zone = map.zoneAt(...pin);
  map.zones.forEach((one, k) => one.classList.toggle("here", k === zone));
  $("where").textContent = `The pin is in ${map.drawn.zones[zone].name}.`;
  draw();
}

/** Pin, way and car. The car's place on its way is by the promise: only the driver's phone knows better. */
function draw() {
  const [x, y] = [pin[0], -pin[1]], shapes = [];
  if (ride?.driver && ride.pickup_time_s === null && ride.cancelled_s === null) {
    const from = map.place(...ride.driver), to = ride.at;
    const part = Math.min((clock.now() - ride.requested_s) / Math.max(ride.p50_s, 1), 0.96);
    const car = from.map((a, i) => a + (to[i] - a) * Math.max(part, 0));
    shapes.push(shape("path", { class: "way", d: `M${car[0]} ${-car[1]}L${to[0]} ${-to[1]}` }), shape("circle", { class: "car", cx: car[0], cy: -car[1], r: 0.38 }));
  }
  shapes.push(shape("path", { class: "pin", d: `M${x} ${y}c-.2-.5-.75-.95-.75-1.55a.75.75 0 0 1 1.5 0c0 .6-.55 1.05-.75 1.55z` }));
  map.over.replaceChildren(...shapes);
}

const saidBy = (ride) => ride.path === "triton" ? `Said by version ${ride.version} of the model, on Triton.`
  : ride.path === "local" ? `Said by version ${ride.version} of the model from a local file: no server answered in time.`
    : "Said by a rule of thumb: no model answered in time.";

function howItWent() {
  if (ride.cancelled_s !== null) return [`You gave up after ${clockTime(ride.cancelled_s)}.`, ""];
  const waited = clock.now() - ride.requested_s;
  if (ride.pickup_time_s === null) {
    return waited > ride.p90_s ? [`Your driver is late: ${clockTime(waited)} so far.`, "late-text"] : [`Your driver is on the way: ${clockTime(Math.max(waited, 0))} so far.`, ""];
  }
  const off = ride.pickup_time_s - ride.p50_s, isKept = ride.pickup_time_s >= ride.p10_s && ride.pickup_time_s <= ride.p90_s;
  const words = Math.abs(off) < 30 ? "just as we said" : `${clockTime(Math.abs(off))} ${off > 0 ? "later" : "sooner"} than we said`;
  return [`Your driver was there after ${clockTime(ride.pickup_time_s)}, ${words}${isKept ? "" : ", outside the range"}.`, isKept ? "good-text" : "late-text"];
}

function showAnswer() {
  const isOver = ride.pickup_time_s !== null || ride.cancelled_s !== null;
  const waited = ride.pickup_time_s ?? ride.cancelled_s ?? Math.max(clock.now() - ride.requested_s, 0);
  const end = Math.max(ride.p90_s * 1.35, waited * 1.05), at = (s) => `${(s / end * 100).toFixed(1)}%`;
  const [how, mood] = howItWent();
  const now = `now${ride.pickup_time_s !== null ? " there" : waited > ride.p90_s ? " late" : ""}`;
  const bar = h("div", { class: "bar", role: "img", "aria-label": `P10 ${clockTime(ride.p10_s)}, P50 ${clockTime(ride.p50_s)}, P90 ${clockTime(ride.p90_s)}` },
    styled("rail", {}), styled("range", { left: at(ride.p10_s), width: `${((ride.p90_s - ride.p10_s) / end * 100).toFixed(1)}%` }),
    styled("middle", { left: at(ride.p50_s) }), styled(now, { left: at(waited) }));
  const about = h("p", { class: "about" }, `about ${minutes(ride.p50_s)} minute${minutes(ride.p50_s) === 1 ? "" : "s"}`);
  const between = h("p", { class: "between" }, `8 in 10 times between ${minutes(ride.p10_s)} and ${minutes(ride.p90_s)}`);
  const parts = [about, between, bar, h("div", { class: "scale" }, h("span", {}, "0"), h("span", {}, `${Math.round(end / 60)} min`)),
    h("p", { class: `how ${mood}` }, how), h("p", { class: "who" }, saidBy(ride))];
  if (!isOver) {
    const cancel = h("button", { type: "button", id: "cancel" }, "Cancel the ride");
    cancel.addEventListener("click", giveUp);
    parts.push(cancel);
  }
  $("answer").hidden = false;
  const had = document.activeElement?.id === "cancel";
  $("answer").replaceChildren(...parts);
  if (had) $("cancel")?.focus();
}

function styled(name, style) {
  const element = h("div", { class: name });
  Object.assign(element.style, style);
  return element;
}

async function giveUp() {
  await ask("/api/cancellations", [{ request_id: ride.request_id, after_s: Math.max(clock.now() - ride.requested_s, 0) }]);
  await follow();
}

function listRides() {
  $("earlier").hidden = mine.length < 2;
  $("rides").replaceChildren(...mine.slice(0, -1).reverse().slice(0, 8).map((one) => {
    const went = one.pickup_time_s !== null ? clockTime(one.pickup_time_s) : one.cancelled_s !== null ? "cancelled" : "on the way";
    return h("li", {}, h("span", {}, `${one.zone}, ${one.product}`), h("span", { class: "quiet" }, `said ${clockTime(one.p50_s)}, really ${went}`));
  }));
}

async function request(event) {
  event?.preventDefault();
  if (isAsking) return;
  isAsking = true;
  document.querySelector("button.main").disabled = true;
  const product = document.querySelector("#products input:checked").value, at = [...pin];
  const [lat, lon] = map.degrees(...at);
  $("answer").hidden = false;
  $("answer").replaceChildren(h("p", { class: "how" }, "Looking for a driver …"));
  const hail = await ask("/api/hails", { lat, lon, product });
  const found = hail.error ? hail : await driverFor(hail.request_id);
  if (found.error) {
    $("answer").replaceChildren(banner(found.error, true));
  } else {
    ride = { ...found, at, product };
    mine.push(ride);
    showAnswer();
    listRides();
  }
  isAsking = false;
  document.querySelector("button.main").disabled = false;
}

async function driverFor(id) {
  const until = performance.now() + FOUND_WITHIN_MS;
  while (performance.now() < until) {
    const answered = await ask("/api/hails/answered", [id]);
    if (answered.error) return answered;
    if (answered[0]) return answered[0];
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
  return { error: "No driver was found. Does the city play (make live)?" };
}

/** How the rides that are under way go. */
async function follow() {
  const open = mine.filter((one) => one.pickup_time_s === null && one.cancelled_s === null);
  if (!open.length) return;
  const answered = await ask("/api/hails/answered", open.map((one) => one.request_id));
  open.forEach((one, k) => Object.assign(one, answered[k]));
  showAnswer();
  listRides();
}

async function lookAtCity() {
  const city = await ask("/api/roads");
  if (city.error) {
    $("status").textContent = city.error;
    return;
  }
  clock.set(city.now_s, city.speed);
  map.setClosed(city.closed);
}

function onKey(event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  if (moves[event.key]) {
    event.preventDefault();
    const step = event.shiftKey ? STEP_KM * 5 : STEP_KM;
    movePin(pin[0] + moves[event.key][0] * step, pin[1] + moves[event.key][1] * step);
  } else if (event.key === "Enter") request(event);
}

dressUp("rider");
$("products").append(...PRODUCTS.map(([value, name, words], k) => h("label", {},
  h("input", { type: "radio", name: "product", value, checked: k === 0 ? "" : null }), h("span", {}, name, h("small", {}, words)))));
map = new CityMap($("map"), await ask("/api/map"));
movePin(...pin);
$("map").addEventListener("click", (event) => movePin(...map.ofEvent(event)));
$("map").addEventListener("dblclick", request);
$("map").addEventListener("keydown", onKey);
$("ask").addEventListener("submit", request);
await lookAtCity();
setInterval(() => document.hidden || lookAtCity(), CITY_MS);
setInterval(() => document.hidden || follow(), POLL_MS * 2);
setInterval(() => {
  $("status").textContent = clock.text();
  draw();
}, 100);
document.body.dataset.ready = "1";
