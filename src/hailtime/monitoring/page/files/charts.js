// Pictures in the page's own colours: Plotly's, with the same axes, bands and marks everywhere.

const ready = new Promise((resolve, reject) => {
  const script = document.getElementById("plotly");
  if (window.Plotly) resolve();
  script.addEventListener("load", () => resolve());
  script.addEventListener("error", () => reject(new Error("Plotly could not be loaded")));
});

// Resolves when what was put into the page can be on the screen: figures do not wait for pictures
let next = null;
const figuresShown = () => (next ??= new Promise((done) => setTimeout(() => { next = null; done(); })));

const drawn = new Map(); // id → what draws it, to draw it anew in other colours
export const forget = () => drawn.clear();
export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const COLORS = ["a", "b", "c", "d", "e", "f"];

export function faded(name, share) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(color(name).slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${share})`;
}

/** Draws `make()`, which gives { traces, layout }, into the element `id`, now and whenever the colours change. */
export async function draw(id, make) {
  drawn.set(id, make);
  await ready;
  await figuresShown();
  const element = document.getElementById(id);
  if (!element || drawn.get(id) !== make) return; // another view was opened meanwhile
  const { traces, layout } = make();
  const { period, ...xaxis } = layout.xaxis;
  const shown = traces.map((trace) => (trace.type === "heatmap" ? trace : { ...period, ...trace }));
  const hasLegend = layout.showlegend ?? traces.filter((trace) => trace.name && trace.showlegend !== false).length > 1;
  const hasColors = traces.some((trace) => trace.colorbar || trace.marker?.colorbar);
  const margin = { l: 44, r: 10, t: hasLegend ? 30 : 10, b: hasColors && isNarrow() ? 112 : 32 };
  try {
    await window.Plotly.react(element, shown, themed({ margin, ...layout, xaxis }), { displayModeBar: false, responsive: true });
  } catch (error) { // one picture that fails leaves the others
    console.error(`${id}: ${error}`);
    element.textContent = "This picture cannot be drawn.";
  }
  element.dataset.drawn = "yes";
}

export function drawAgain() {
  for (const [id, make] of [...drawn]) draw(id, make);
}

function themed(layout) {
  const axis = (given = {}) => ({
    gridcolor: color("line"), linecolor: color("line"), zerolinecolor: color("line"), automargin: true,
    tickfont: { size: 11 }, ...given, title: { text: given.title, standoff: 8, font: { size: 12 } },
  });
  const { xaxis, yaxis, ...rest } = layout;
  return {
    height: 290, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: color("quiet"), family: getComputedStyle(document.body).fontFamily, size: 12 },
    hovermode: "closest",
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hoverlabel: { bgcolor: color("card"), bordercolor: color("line"), font: { color: color("text") } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
    ...rest, xaxis: axis(xaxis), yaxis: axis(yaxis),
  };
}

/** A time axis: in the city's clock, named; a point lies in the middle of the hour or day that it is of. */
export const timeAxis = (data) => ({
  period: { xperiod: data.is_daily ? 86400000 : 3600000, xperiodalignment: "middle" },
  type: "date", title: `${data.is_daily ? "day" : "time"}, ${data.timezone}`, range: [data.since, data.until],
  tickformatstops: [
    { dtickrange: [null, 86399999], value: "%H:%M\n%-d %b" },
    { dtickrange: [86400000, null], value: "%-d %b\n%Y" },
  ],
});

/** Releases as lines across a time axis, and the stretch whose trips are still arriving. */
export function onTime(data, times, complete) {
  const shapes = [], annotations = [];
  const first = complete ? complete.indexOf(false) : -1;
  if (first >= 0) {
    shapes.push({ type: "rect", xref: "x", yref: "paper", x0: times[first], x1: data.until, y0: 0, y1: 1,
      fillcolor: faded("f", 0.13), line: { width: 0 }, layer: "below" });
    annotations.push(note(times[first], "still arriving", { yanchor: "bottom", y: 0, xanchor: "right" }));
  }
  for (const mark of data.marks) {
    shapes.push({ type: "line", xref: "x", yref: "paper", x0: mark.time, x1: mark.time, y0: 0, y1: 1,
      line: { color: color("text"), width: 1, dash: "dot" } });
    const isFirst = Date.parse(mark.time) - Date.parse(data.since) < 0.04 * (Date.parse(data.until) - Date.parse(data.since));
    annotations.push(note(mark.time, mark.text, { y: 1, yanchor: "top", xanchor: isFirst ? "left" : "right", textangle: -90 }));
  }
  return { shapes, annotations };
}

const note = (x, text, more) => ({
  x, xref: "x", yref: "paper", text: escaped(text), showarrow: false, font: { size: 11, color: color("quiet") },
  bgcolor: faded("card", 0.75), borderpad: 1, ...more,
});

/** A line with its 95 % band. */
export function banded(x, middle, low, high, name, tone, more = {}) {
  const side = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: name };
  return [
    { ...side, y: high },
    { ...side, y: low, fill: "tonexty", fillcolor: faded(tone, 0.18) },
    { x, y: middle, name, legendgroup: name, mode: "lines+markers", line: { color: color(tone), width: 2 },
      marker: { size: 4, color: color(tone) }, ...more },
  ];
}

/** A line at a value that is said to hold. */
export const level = (y, text) => ({
  shape: { type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: color("text"), width: 1, dash: "dash" } },
  annotation: { xref: "paper", x: 1, y, text, showarrow: false, xanchor: "right", yanchor: "bottom", font: { size: 11 } },
});

export const isNarrow = () => innerWidth < 720;
/** A legend of colours: at the side, or below where there is little room. */
export const colorbar = (title, more = {}) => ({
  thickness: 10, outlinewidth: 0, title: { text: title, side: isNarrow() ? "bottom" : "right" },
  ...(isNarrow() ? { orientation: "h", yref: "container", y: 0, yanchor: "bottom", len: 1 } : {}), ...more,
});
export const scale = () => [[0, color("low")], [0.5, color("a")], [1, color("high")]];
export const warm = () => [[0, color("low")], [0.5, color("d")], [1, color("bad")]];
// Plotly reads a little HTML in texts
export const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
export const minutes = (values) => values.map((value) => (value === null ? null : value / 60));
