// The views on time and error: now, predicted against actual, places and hours, intervals.

import { COLORS, banded, color, colorbar, draw, escaped, isNarrow, level, minutes, onTime, scale, timeAxis, warm } from "./charts.js";
import { banner, between, card, early, h, later, milliseconds, pair, percent, picture, seconds, table, threes, tile, tiles, whole } from "./parts.js";

const MINUTES = [0.5, 1, 2, 5, 10, 20, 60, 120];

export function now(data) {
  const { newest, pace, complete, expected, time } = data;
  const paths = newest ? Object.entries(newest.paths) : [];
  const direct = newest ? (newest.paths.triton ?? 0) / newest.n : null;
  const cards = [
    tile("Live", data.plan, newest ? Object.entries(newest.versions).map(([v, n]) => `version ${v}: ${whole(n)} answers since ${newest.since}`).join("; ") : "",
      { isWords: true, isBroad: true }),
    tile("Requests a second", pace ? pace.rate.toFixed(pace.rate < 10 ? 2 : 0) : "–",
      [pace ? `in the ${pace.minutes} minutes to ${pace.until}` : null, newest ? `since ${newest.since} ${percent(direct)} were answered by the server` : null].filter(Boolean).join("; ")),
    tile("Latency, P99", milliseconds(newest?.latency_p99_s), newest ? `P50 ${milliseconds(newest.latency_p50_s)}; since ${newest.since}` : ""),
    tile("Error, last complete hour", seconds(complete?.mae_s),
      complete ? `${between(complete.mae_low_s, complete.mae_high_s)} (95 %), ${whole(complete.n_arrived)} trips of ${complete.hour}; ${later(complete.bias_s)}; P90 ${seconds(complete.p90_error_s)}`
        : "no hour is complete yet: trips are still arriving"),
    tile("Arrived", percent(newest?.arrived), newest ? `of the ${whole(newest.n)} requests since ${newest.since}; ${data.arriving} hours are still arriving` : ""),
    tile("Expected error, before arrivals", seconds(newest?.expected_mae_s), expected
      ? `by the model itself; in the complete hours shown it expected ${seconds(expected.expected_s)}, ${seconds(expected.proved_s)} came true (× ${expected.ratio?.toFixed(2)})`
      : "by the model itself; nothing to hold it against yet", { isBroad: true, isBad: Boolean(expected) && expected.ratio > 1.25 }),
  ];
  draw("now-error", () => ({
    traces: [
      ...banded(time.time, time.mae_s, time.mae_low_s, time.mae_high_s, "error", "a", { hovertemplate: "%{x}<br>%{y:.0f} s<extra>error</extra>" }),
      { x: time.time, y: time.expected_mae_s, name: "expected by the model", mode: "lines", line: { color: color("d"), width: 2, dash: "dot" },
        hovertemplate: "%{x}<br>%{y:.0f} s<extra>expected</extra>" },
    ],
    layout: { ...onTime(data, time.time, time.is_complete), xaxis: timeAxis(data), yaxis: { title: "mean absolute error, s", rangemode: "tozero" } },
  }));
  bars("now-rate", data, time.rate, "requests a second", "%{y:.2f} a second");
  bars("now-latency", data, time.latency_p99_ms, "P99, ms", "%{y:.2f} ms");
  return [
    ...data.alerts.map((one) => banner(`Since ${one.since}: ${one.text}`, true)),
    data.stopped ? banner(data.stopped) : null,
    data.ahead ? banner(data.ahead) : null,
    paths.length && direct < 0.98 ? banner(`${percent(1 - direct)} of the answers came from a fallback: ${paths.map(([p, n]) => `${p} ${whole(n)}`).join(", ")}.`) : null,
    threes(...cards),
    picture("now-error", "Error of the last 24 hours", "By the hour of the request, with its 95 % band; dotted is what the model's own quantiles expect."),
    pair(picture("now-rate", "Requests", "By hour."), picture("now-latency", "Latency", "As the backend saw it, P99 by hour.")),
  ];
}

function bars(id, data, y, title, text) {
  draw(id, () => ({
    traces: [{ x: data.time.time, y, type: "bar", marker: { color: color("a") }, hovertemplate: `%{x}<br>${text}<extra></extra>` }],
    layout: { ...onTime(data, data.time.time), height: 230, xaxis: timeAxis(data), yaxis: { title, rangemode: "tozero" } },
  }));
}

const NOTHING = "No trip of these days has come true yet, so no error can be told. The backend reports ends with report_actual or report_cancelled.";

export function accuracy(data) {
  const { total, hours, time, versions, grid } = data;
  if (!total?.n_arrived) return [banner(NOTHING)];
  draw("grid", () => againstActual(grid));
  draw("said-by-hour", () => ({
    traces: [
      { x: hours.local_hour, y: minutes(hours.said_s), name: "said", mode: "lines+markers", line: { color: color("a"), width: 2 } },
      { x: hours.local_hour, y: minutes(hours.actual_s), name: "actual", mode: "lines+markers", line: { color: color("b"), width: 2 } },
    ].map((trace) => ({ ...trace, hovertemplate: "%{x}:00<br>%{y:.1f} min<extra>" + trace.name + "</extra>" })),
    layout: { height: 380, xaxis: hourAxis(data), yaxis: { title: "mean pickup time, min", rangemode: "tozero" } },
  }));
  const names = Object.keys(versions);
  draw("error-by-version", () => ({
    traces: names.flatMap((name, i) => {
      const one = versions[name];
      return banded(one.time, one.mae_s, one.mae_low_s, one.mae_high_s, `version ${escaped(name)}`, COLORS[i], { hovertemplate: "%{x}<br>%{y:.0f} s" });
    }),
    layout: { ...onTime(data, time.time, time.is_complete), showlegend: true, xaxis: timeAxis(data), yaxis: { title: "mean absolute error, s", rangemode: "tozero" } },
  }));
  draw("bias", () => ({
    traces: banded(time.time, time.bias_s, time.bias_low_s, time.bias_high_s, "bias", "c", { hovertemplate: "%{x}<br>%{y:.0f} s", showlegend: false }),
    layout: { ...onTime(data, time.time, time.is_complete), height: 240, xaxis: timeAxis(data), yaxis: { title: "said minus actual, s" } },
  }));
  return [
    tiles(
      tile("Mean absolute error", seconds(total.mae_s), `${between(total.mae_low_s, total.mae_high_s)} (95 %)`),
      tile("Bias", `${total.bias_s > 0 ? "+" : "−"}${whole(Math.abs(total.bias_s))} s`, later(total.bias_s)),
      tile("Trips", whole(total.n_arrived), `came true, ${percent(total.arrived)} of ${whole(total.n)} requests`),
      tile("Expected by the model", seconds(total.expected_arrived_mae_s), "of the same trips, from its own P10 and P90"),
    ),
    pair(
      picture("grid", "Predicted against actual", "On the dashed line both are equal; above it the driver came later than was said."),
      picture("said-by-hour", "By hour of day", "Means of the trips that came true."),
    ),
    picture("error-by-version", "Error over time, by version", "With 95 % bands."),
    picture("bias", "Bias over time", "Below 0 drivers come later than was said."),
  ];
}

function againstActual(grid) {
  const edges = minutes(grid.edges_s), total = grid.counts.flat().reduce((a, b) => a + b, 0) || 1;
  // said is x: a row of the picture is one actual time
  const z = edges.slice(1).map((_, actual) => edges.slice(1).map((_, said) => grid.counts[said][actual]));
  const shown = z.map((row) => row.map((n) => (n ? Math.log10(n) : null)));
  const ticks = [1, 10, 100, 1000, 10000, 100000, 1000000].filter((n) => n <= Math.max(...z.flat(), 1));
  const spread = used(grid.counts, edges);
  return {
    traces: [
      { type: "heatmap", x: edges, y: edges, z: shown, customdata: z.map((row) => row.map((n) => (100 * n) / total)), colorscale: scale(),
        hovertemplate: "said %{x:.1f} min, actual %{y:.1f} min<br>%{customdata:.2f} % of the trips<extra></extra>",
        colorbar: colorbar("trips", { tickvals: ticks.map(Math.log10), ticktext: ticks.map((n) => n.toLocaleString("en")) }) },
      { x: [edges[0], edges.at(-1)], y: [edges[0], edges.at(-1)], mode: "lines", line: { color: color("text"), width: 1, dash: "dash" }, hoverinfo: "skip" },
    ],
    layout: { height: 380, showlegend: false,
      xaxis: { title: "said (P50), min", type: "log", range: spread, tickvals: MINUTES, showgrid: false },
      yaxis: { title: "actual, min", type: "log", range: spread, tickvals: MINUTES, showgrid: false } },
  };
}

/** The part of the grid in which there are trips, in the logarithms that Plotly wants. */
function used(counts, edges) {
  const has = edges.slice(1).map((_, i) => counts[i].some(Boolean) || counts.some((row) => row[i]));
  const first = has.indexOf(true), last = has.lastIndexOf(true);
  return first < 0 ? [0, 2] : [Math.log10(edges[first]), Math.log10(edges[last + 1])];
}

const hourAxis = (data) => ({ title: `hour of day, ${data.timezone}`, tickvals: [0, 3, 6, 9, 12, 15, 18, 21], range: [-0.6, 23.6] });

export function places(data) {
  const { zones, hours } = data;
  if (!hours.n_arrived.some(Boolean)) return [banner(NOTHING)];
  const isMap = zones.lat.some((lat) => lat !== null);
  const order = zones.value.map((_, i) => i).sort((i, j) => zones.mae_s[j] - zones.mae_s[i]);
  if (order.length) draw("map", () => (isMap ? cityMap(zones) : zoneBars(zones, order)));
  draw("error-by-hour", () => ({
    traces: [{ x: hours.local_hour, y: hours.mae_s, type: "bar", marker: { color: color("a") }, hovertemplate: "%{x}:00<br>%{y:.0f} s<extra></extra>",
      error_y: { type: "data", symmetric: true, array: hours.mae_high_s.map((high, i) => high - hours.mae_s[i]), color: color("text"), thickness: 1, width: 2 } }],
    layout: { height: 380, xaxis: hourAxis(data), yaxis: { title: "mean absolute error, s", rangemode: "tozero" } },
  }));
  const worst = order.slice(0, 10).map((i) => [zones.value[i], whole(zones.n_arrived[i]), whole(zones.mae_s[i]), between(zones.mae_low_s[i], zones.mae_high_s[i]), early(zones.bias_s[i])]);
  return [
    !order.length ? card("Error by zone", "The schema names no zone, or no zone has 20 trips that came true.") : picture("map", isMap ? "Error by zone, on the map" : "Error by zone", isMap ? "Each zone where its pickups are; as large as it has trips." : "The schema names no coordinates of the pickup, so there is no map."),
    pair(
      picture("error-by-hour", "Error by hour of day", "With 95 % bands."),
      !order.length ? h("div") : card("Zones with the largest error", "Of those with 20 trips or more.", table([["zone", "short"], ["trips", "n"], ["error, s", "n"], ["95 %", "short spare"], ["drivers came", "short"]], worst)),
    ),
  ];
}

function cityMap(zones) {
  const most = Math.max(...zones.n_arrived, 1), here = zones.lat.filter((lat) => lat !== null);
  const stretch = 1 / Math.cos((here.reduce((a, b) => a + b, 0) / here.length) * (Math.PI / 180));
  return {
    traces: [{
      x: zones.lon, y: zones.lat, mode: "markers", text: zones.value.map(escaped),
      customdata: zones.value.map((_, i) => [zones.n_arrived[i], zones.bias_s[i], zones.mae_low_s[i], zones.mae_high_s[i]]),
      marker: { size: zones.n_arrived.map((n) => (isNarrow() ? 5 : 9) + (isNarrow() ? 15 : 27) * Math.sqrt(n / most)), color: zones.mae_s, colorscale: warm(), opacity: 0.9,
        line: { color: color("quiet"), width: 1 }, colorbar: colorbar("mean absolute error, s") },
      hovertemplate: "<b>%{text}</b><br>%{marker.color:.0f} s (%{customdata[2]:.0f} to %{customdata[3]:.0f})<br>bias %{customdata[1]:.0f} s<br>%{customdata[0]:,.0f} trips<extra></extra>",
    }],
    layout: { height: Math.min(560, Math.max(360, innerWidth * 0.6)), xaxis: { title: "longitude, °" }, yaxis: { title: "latitude, °", scaleanchor: "x", scaleratio: stretch } },
  };
}

function zoneBars(zones, order) {
  const up = [...order].reverse();
  return {
    traces: [{ y: up.map((i) => escaped(zones.value[i])), x: up.map((i) => zones.mae_s[i]), type: "bar", orientation: "h", marker: { color: color("a") },
      error_x: { type: "data", array: up.map((i) => zones.mae_high_s[i] - zones.mae_s[i]), color: color("text"), thickness: 1, width: 2 } }],
    layout: { height: 80 + 18 * up.length, xaxis: { title: "mean absolute error, s", rangemode: "tozero" }, yaxis: { title: "zone" } },
  };
}

export function intervals(data) {
  const { time, slices, total } = data;
  if (!total.n_arrived[0]) return [banner(NOTHING)];
  draw("coverage", () => {
    const at = level(0.8, "80 %"), on = onTime(data, time.time, time.is_complete);
    return {
      traces: banded(time.time, time.coverage, time.coverage_low, time.coverage_high, "between P10 and P90", "a", { hovertemplate: "%{x}<br>%{y:.1%}<extra></extra>", showlegend: false }),
      layout: { shapes: [...on.shapes, at.shape], annotations: [...on.annotations, at.annotation], xaxis: timeAxis(data),
        yaxis: { title: "share between P10 and P90", tickformat: ".0%", range: [Math.min(0.5, ...time.coverage_low.filter((v) => v !== null)), 1] } },
    };
  });
  const zones = farthest(slices.zone, 24);
  if (zones.value.length) draw("coverage-by-zone", () => dots(zones, "zone"));
  if (slices.weather.value.length) draw("coverage-by-weather", () => dots(slices.weather, "weather"));
  const above = total.above[0] ?? null;
  return [
    tiles(
      tile("Between P10 and P90", percent(total.coverage[0]), `${percent(total.coverage_low[0])} to ${percent(total.coverage_high[0])} (95 %); 80 % is promised`, { isBad: total.coverage_high[0] < 0.75 }),
      tile("Later than P90", percent(above), "10 % is promised", { isBad: above > 0.15 }),
      tile("Sooner than P10", percent(above === null ? null : 1 - above - total.coverage[0]), "10 % is promised"),
    ),
    picture("coverage", "What P10 to P90 holds, over time", "With Wilson's 95 % bands."),
    pair(
      zones.value.length ? picture("coverage-by-zone", "By zone", `The ${zones.value.length} that are farthest from 80 %.`) : card("By zone", "The schema names no zone, or no zone has 20 trips yet."),
      h("div", {},
        slices.weather.value.length ? picture("coverage-by-weather", "By weather", "Wet: 0.1 mm/h of rain or more at the request.") : card("By weather", "The log keeps no rain_mm_h, or too few trips have come true."),
        card("Most often later than P90", "One in ten is promised.", table([["zone", "short"], ["trips", "n"], ["later than P90", "n"]], latest(slices.zone)))),
    ),
  ];
}

const latest = (zones) => zones.value.map((_, i) => i).sort((i, j) => zones.above[j] - zones.above[i]).slice(0, 10)
  .map((i) => [zones.value[i], whole(zones.n_arrived[i]), percent(zones.above[i])]);

function farthest(slice, n) {
  const order = slice.value.map((_, i) => i).sort((i, j) => Math.abs(slice.coverage[j] - 0.8) - Math.abs(slice.coverage[i] - 0.8)).slice(0, n);
  const chosen = order.sort((i, j) => slice.coverage[j] - slice.coverage[i]);
  return Object.fromEntries(Object.entries(slice).map(([name, values]) => [name, chosen.map((i) => values[i])]));
}

function dots(slice, title) {
  return {
    traces: [{ y: slice.value.map(escaped), x: slice.coverage, mode: "markers", marker: { size: 8, color: color("a") }, customdata: slice.n_arrived,
      error_x: { type: "data", symmetric: false, array: slice.coverage_high.map((v, i) => v - slice.coverage[i]), arrayminus: slice.coverage_low.map((v, i) => slice.coverage[i] - v),
        color: color("quiet"), thickness: 1.2, width: 3 },
      hovertemplate: "%{y}<br>%{x:.1%} of %{customdata:,.0f} trips<extra></extra>" }],
    layout: { height: 110 + 20 * slice.value.length, shapes: [{ ...level(0, "").shape, xref: "x", yref: "paper", x0: 0.8, x1: 0.8, y0: 0, y1: 1 }],
      xaxis: { title: "share between P10 and P90", tickformat: ".0%" }, yaxis: { title, tickmode: "linear", type: "category" } },
  };
}
