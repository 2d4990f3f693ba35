// The views on what is behind the figures: drift, releases, the health of the data, one request.

import { COLORS, banded, color, colorbar, draw, escaped, isNarrow, onTime, scale, timeAxis, warm } from "./charts.js";
import { banner, card, clock, facts, h, milliseconds, percent, picture, seconds, table, threes, tile, tiles, whole } from "./parts.js";

export function drift(data) {
  const enough = data.rows.some((n) => n >= data.least_rows);
  if (!enough) return [card("Drift", `No day has ${whole(data.least_rows)} requests with inputs yet; fewer would show chance as drift. The log must keep the inputs: PredictionLog(..., features="all").`)];
  const heat = (rows, z, title, most, colors, format) => () => ({
    traces: [{ type: "heatmap", x: [...data.days, data.end], y: rows.map(escaped), z, zmin: 0, zmax: most, colorscale: colors, xgap: 1, ygap: 1,
      hovertemplate: `%{y}<br>%{x}<br>${title} %{z:${format}}<extra></extra>`, colorbar: colorbar(title, { tickformat: format }) }],
    layout: { ...onTime(data, []), height: (isNarrow() ? 240 : 140) + 19 * rows.length, yaxis: { title: "column", autorange: "reversed", showgrid: false, tickmode: "linear" },
      xaxis: { ...timeAxis({ ...data, is_daily: true }), range: [data.days[0], data.end], showgrid: false, nticks: 8, ...(data.days.length < 8 ? { dtick: 86400000 } : {}) } },
  });
  draw("drift-psi", heat(data.columns, data.psi, "PSI", 0.5, warm(), ".2f"));
  const most = Math.max(0.05, ...data.missing.flat().filter((share) => share !== null));
  const gaps = data.columns.map((_, i) => i).filter((i) => data.missing[i].some((share) => share > 0));
  if (gaps.length) draw("drift-missing", heat(gaps.map((i) => data.columns[i]), gaps.map((i) => data.missing[i]), "missing", most, scale(), ".0%"));
  const list = (told) => h("ul", { class: "told" }, told.map((one) => h("li", {}, h("time", {}, one.day), h("span", {}, one.text))));
  const newest = data.sentences.filter((one) => one.day === data.sentences[0].day), before = data.sentences.slice(newest.length);
  return [
    card("What is remarkable", newest.length ? "On the newest such day, the farthest column first." : null,
      newest.length ? list(newest) : h("p", { class: "quiet" }, "Nothing: in all days shown every column is as in training."),
      before.length ? h("details", {}, h("summary", {}, `Days before (${before.length})`), list(before)) : null),
    picture("drift-psi", "How far from training", "Population stability index of each column and day: 0.1 is worth a look, from 0.25 it is another distribution. Empty where a day has fewer than 1,000 requests."),
    gaps.length ? picture("drift-missing", "Missing values", "Share of the requests, of the columns in which any are missing.") : card("Missing values", "None, in any column on any of these days."),
  ];
}

export function releases(data) {
  const names = Object.keys(data.versions);
  draw("release-requests", () => ({
    traces: names.map((name, i) => ({ x: data.versions[name].time, y: data.versions[name].n, type: "bar", name: `version ${escaped(name)}`, marker: { color: color(COLORS[i % 6]) },
      hovertemplate: "%{x}<br>%{y:,.0f} requests" })),
    layout: { ...onTime(data, []), barmode: "stack", showlegend: true, xaxis: timeAxis(data), yaxis: { title: `requests ${data.is_daily ? "a day" : "an hour"}` } },
  }));
  draw("release-error", () => ({
    traces: names.flatMap((name, i) => {
      const one = data.versions[name];
      return banded(one.time, one.mae_s, one.mae_low_s, one.mae_high_s, `version ${escaped(name)}`, COLORS[i % 6], { hovertemplate: "%{x}<br>%{y:.0f} s" });
    }),
    layout: { ...onTime(data, []), showlegend: true, xaxis: timeAxis(data), yaxis: { title: "mean absolute error, s", rangemode: "tozero" } },
  }));
  const rows = data.standings.map((one) => {
    const failed = one.gates.filter((gate) => !gate.passed).map((gate) => `${gate.name} ✗ ${gate.text}`);
    const gates = one.gates.length ? (failed.length ? failed.join("; ") : `${one.gates.length} passed`) : "";
    return [one.version, one.state, one.since, one.run, one.mae_s === null ? "" : one.mae_s.toFixed(1), gates, one.by, one.why];
  });
  return [
    data.problem ? banner(data.problem, true) : null,
    picture("release-requests", "Who answered", `Now ${data.plan}. Dotted lines are releases.`),
    picture("release-error", "Error by version", "With 95 % bands; the newest points are still arriving."),
    card("Every version", "The newest first.", rows.length
      ? table([["version", "n"], ["state", "short"], [`since, ${data.timezone}`, "short"], ["run", "short"], ["MAE in its test, s", "n"], ["gates", ""], ["by", "short"], ["why", "why"]], rows)
      : h("p", {}, "Nothing is deployed yet: python scripts/deploy.py RUN")),
  ];
}

export function health(data) {
  const { time } = data;
  const age = data.read_age_s;
  draw("health-ends", () => ({
    traces: [["arrived", "a"], ["cancelled", "d"]].map(([name, tone]) => ({ x: time.time, y: time[name], name, mode: "lines", stackgroup: "ends", line: { color: color(tone), width: 1 },
      hovertemplate: "%{x}<br>%{y:.1%}" })),
    layout: { ...onTime(data, time.time, time.is_complete), showlegend: true, xaxis: timeAxis(data), yaxis: { title: "share of the requests", tickformat: ".0%", range: [0, 1] } },
  }));
  return [
    data.log_error && !data.trouble ? banner(`The log cannot be reached, so nothing new is read: ${data.log_error}`, true) : null,
    data.n_malformed ? banner(`Of the ends that were reported ${whole(data.n_malformed)} ${data.n_malformed === 1 ? "is" : "are"} no time a ride can take: below 0, above a day, or no number. They are left out of every figure.`) : null,
    threes(
      tile("Read until", data.read_at ?? "–", age === null ? "no pass has ended yet" : `${since(age)} ago; ${data.unread === null ? "the log is out of reach" : `${whole(data.unread)} rows wait`}`, { isWords: true, isBad: age > 600 }),
      tile("Cancelled", percent(data.cancelled), `${whole(data.n_cancelled)} of ${whole(data.n)} requests; who waits long cancels more often, so what arrived looks better than it was`),
      tile("Nobody told the end", percent(data.never_told), "of the requests in complete hours"),
      tile("Of unknown requests", whole(data.n_unmatched), "ends that were reported and match no answer in the log, since the store began"),
      tile("Contradicted", whole(data.n_changed), "requests whose end was reported again and otherwise; the last word counts"),
      tile("Late", whole(data.n_late), `ends reported more than ${whole(data.label_delay_s / 60)} min after the request`),
    ),
    picture("health-ends", "What became of the requests", "Above the coloured parts nobody has told yet what happened."),
    card("Alerts that were told", "The newest first.", data.messages.length
      ? table([[`at, ${data.timezone}`, "short"], ["", "short"], ["", "why"]], data.messages.map((one) => [one.at, one.kind, one.text])) : h("p", { class: "quiet" }, "None yet.")),
    card("Where it comes from", null, facts([["log", data.log]])),
  ];
}

const since = (s) => (s < 120 ? `${Math.round(s)} s` : s < 7200 ? `${Math.round(s / 60)} min` : s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`);

/** How far a time is from what happened; without it, from what was said. */
const apart = (one, p50_s) => {
  const from = one.pickup_time_s ?? one.p50_s, off = Math.round(p50_s - from);
  return one.pickup_time_s === null ? `${seconds(Math.abs(off))} ${off > 0 ? "more" : "less"} than was said` : `${seconds(Math.abs(off))} too ${off > 0 ? "much" : "little"}`;
};

/** `far`: requests worth a look; `found`: the answer to the id that was asked for, or null. */
export function request({ far, found, id }) {
  const input = h("input", { name: "id", id: "request-id", "aria-label": "request id", placeholder: "request id", value: id ?? "", autocomplete: "off", spellcheck: "false" });
  const rows = (far.requests ?? []).map((one) => [
    h("a", { href: `#request/${encodeURIComponent(one.request_id)}` }, one.request_id), one.asked_at, one.version, one.path, clock(one.p50_s), clock(one.pickup_time_s)]);
  return [
    card("Look up a request", "By the id that the backend gave it, or that the client's answer carries.", h("form", { id: "lookup" }, input, h("button", {}, "Look up"))),
    ...(found ? result(found, id) : []),
    far.error ? banner(far.error, true) : card("Farthest off lately", `Of the newest 2,000 that came true; asked at in ${far.timezone}.`, rows.length
      ? table([["request", "short"], ["asked at", "short spare"], ["version", "n spare"], ["path", "short spare"], ["said", "n"], ["actual", "n"]], rows) : h("p", {}, "Nothing has come true yet.")),
  ];
}

function result(found, id) {
  if (found.error) return [banner(found.error, true)];
  if (!found.answers.length) return [banner(`No request ${id} is in the log. Ids are as the backend gave them, with capitals; old rows leave the log.`)];
  const { shadows } = found;
  return found.answers.map((one) => {
    const happened = one.pickup_time_s !== null ? clock(one.pickup_time_s) : one.cancelled_after_s !== null ? "cancelled" : "not known yet";
    const off = one.pickup_time_s === null ? null : one.pickup_time_s - one.p50_s;
    const isInside = off !== null && one.p10_s <= one.pickup_time_s && one.pickup_time_s <= one.p90_s;
    const words = off === null ? (one.cancelled_after_s !== null ? `given up after ${clock(one.cancelled_after_s)}` : "nobody has told the end")
      : `${seconds(Math.abs(off))} ${off > 0 ? "later" : "earlier"} than said, ${isInside ? "between P10 and P90" : off > 0 ? "later than P90" : "sooner than P10"}`;
    const inputs = one.features.length ? facts(one.features.map(({ name, value, unit }) => [name, value === null ? "missing" : `${value} ${unit}`]))
      : h("p", { class: "quiet" }, "The log keeps no inputs: PredictionLog(..., features=\"all\") would.");
    return h("div", {},
      tiles(
        tile("Said (P50)", clock(one.p50_s), `8 in 10 times between ${clock(one.p10_s)} and ${clock(one.p90_s)}`),
        tile("Happened", happened, words + (one.n_changed ? `; reported ${one.n_changed + 1} times, differently` : ""), { isBad: off !== null && !isInside }),
        tile("Answered by", `version ${one.version || "–"}`, `path ${one.path}, in ${milliseconds(one.latency_s)}`),
        tile("Asked at", one.asked_at, `${found.timezone}; answered ${one.answered_at}${one.reported_at ? `, end reported ${one.reported_at}` : ""}`, { isWords: true }),
      ),
      shadows.length ? card("What a shadow would have said", "Asked beside it, to be compared; nobody was told.", table(
        [["version", "n"], ["P50", "n"], ["8 in 10 between", "short spare"], ["off", "short"], ["latency", "n spare"]],
        shadows.map((shadow) => [shadow.version, clock(shadow.p50_s), `${clock(shadow.p10_s)} and ${clock(shadow.p90_s)}`, apart(one, shadow.p50_s), milliseconds(shadow.latency_s)]))) : null,
      card("What was asked", null, inputs));
  });
}
