"""How the page of a preparation looks: light or dark as the screen is, one column where narrow, ready to print."""

STYLE = """
:root {
  --page: #f7f6f3; --card: #ffffff; --text: #1d2129; --quiet: #667085; --line: #e4e2dc; --soft: #f0eee9;
  --train: #3f6fb5; --validation: #4fa79a; --calibration: #d8a33c; --test: #d0583b;
  --good: #2e7d4f; --note: #9a6b00; --bad: #b42318; --loss: #c9665a; --mend: #d8a33c;
  --flag: #8d7cc4; --select: #a8adb7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1c1f25; --text: #e8e6e1; --quiet: #9aa1ad; --line: #30343c; --soft: #262a31;
    --train: #6c9be0; --validation: #67c2b4; --calibration: #e5b85c; --test: #ee7f63;
    --good: #6cc48f; --note: #e0b04a; --bad: #f0776b; --loss: #dd7d70; --mend: #e5b85c;
    --flag: #a99be0; --select: #6d737e;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; padding: 32px 20px 64px; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1080px; margin: 0 auto; }
.eyebrow { margin: 0 0 6px; color: var(--quiet); font-size: 13px; letter-spacing: .02em; }
h1 { margin: 0 0 18px; font-size: clamp(21px, 3.2vw, 30px); line-height: 1.25; font-weight: 650; text-wrap: balance; }
h2 { margin: 44px 0 4px; font-size: 19px; font-weight: 650; }
h3 { margin: 0; font-size: 13px; font-weight: 600; overflow-wrap: anywhere; }
h2 + p { margin: 0 0 14px; color: var(--quiet); max-width: 76ch; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; }
.remarks { list-style: none; margin: 0; display: grid; gap: 7px; }
.remarks li { display: grid; grid-template-columns: 20px 1fr; gap: 8px; overflow-wrap: anywhere; }
.remarks b { font-weight: 700; text-align: center; }
.good b { color: var(--good); } .note b { color: var(--note); } .bad b { color: var(--bad); }
.bad span { color: var(--bad); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 10px; padding: 0; color: var(--quiet);
  font-size: 13px; }
.legend i { display: inline-block; width: 11px; height: 11px; margin-right: 6px; border-radius: 2px;
  vertical-align: -1px; }
.stack { display: flex; height: 30px; border-radius: 6px; overflow: hidden; background: var(--soft);
  margin-bottom: 14px; }
.stack div { min-width: 1px; }
.flow { display: grid; gap: 6px; }
.line { display: grid; grid-template: "name bar words" / minmax(0, 25ch) 1fr 150px; gap: 0 14px; align-items: center; }
.line span { grid-area: name; overflow-wrap: anywhere; font-size: 14px; }
.line div { grid-area: bar; }
.line em { grid-area: words; text-align: right; font-style: normal; font-size: 13px; color: var(--quiet);
  font-variant-numeric: tabular-nums; }
.flow .bar, td .bar { height: 12px; border-radius: 3px; min-width: 2px; }
i.train, .bar.train, div.train { background: var(--train); } i.validation { background: var(--validation); }
i.calibration { background: var(--calibration); } i.test, .bar.test { background: var(--test); }
.kept { background: var(--train); } .drop { background: var(--loss); } .mend { background: var(--mend); }
.flag { background: var(--flag); } .select { background: var(--select); }
.wide { overflow-x: auto; }
svg + table, .wide + .wide { margin-top: 12px; }
table { width: 100%; border-collapse: collapse; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--quiet); font-size: 12.5px; padding: 0 12px 6px 0;
  white-space: nowrap; }
td { padding: 7px 12px 7px 0; border-top: 1px solid var(--line); vertical-align: top; }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td:last-child, th:last-child { padding-right: 0; }
td.b { width: 36%; min-width: 120px; vertical-align: middle; }
td.what { min-width: 220px; overflow-wrap: anywhere; }
tr.quiet td { color: var(--quiet); }
small, .small { font-size: 12.5px; color: var(--quiet); overflow-wrap: anywhere; }
.tag { display: inline-block; padding: 0 8px; border-radius: 99px; font-size: 12px; line-height: 20px; color: #fff;
  white-space: nowrap; }
@media (prefers-color-scheme: dark) { .tag { color: #14161a; } }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(218px, 1fr)); gap: 14px; }
.grid .card { padding: 12px 14px 10px; }
.grid p { margin: 0 0 6px; }
.grid .card.far { border-color: var(--note); }
.values { display: grid; grid-template-columns: minmax(60px, 42%) 1fr; gap: 3px 8px; font-size: 12.5px;
  align-items: center; }
.values span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.values .pair { display: grid; gap: 1px; }
.values .bar { height: 5px; border-radius: 2px; min-width: 1px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--quiet); font-size: 11px; font-variant-numeric: tabular-nums; }
.wide svg { min-width: 860px; }
svg .area.train { fill: var(--train); fill-opacity: .35; }
svg .line.test { fill: none; stroke: var(--test); stroke-width: 1.6; }
svg rect.train { fill: var(--train); } svg rect.validation { fill: var(--validation); }
svg rect.calibration { fill: var(--calibration); } svg rect.test { fill: var(--test); }
svg .axis { stroke: var(--quiet); stroke-width: .8; } svg .grid { stroke: var(--line); stroke-width: 1; }
svg .mark { stroke: var(--text); stroke-width: 1; stroke-dasharray: 3 3; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--quiet); }
pre { overflow-x: auto; font-size: 12.5px; line-height: 1.45; margin: 10px 0 0; }
code { font-size: .93em; }
@media (max-width: 620px) {
  body { padding: 20px 12px 48px; }
  .rules thead { display: none; }
  .rules tr { display: grid; grid-template-columns: 1fr auto auto; gap: 2px 12px; padding: 9px 0;
    border-top: 1px solid var(--line); }
  .rules td { border: 0; padding: 0; }
  .rules td:first-child { grid-column: 1 / 3; }
  .rules td:nth-child(2) { text-align: right; }
  .rules td.n { text-align: left; color: var(--quiet); }
  .rules td.n:nth-child(3)::after { content: " rows"; }
  .rules td.n:nth-child(5):not(:empty)::before { content: "budget "; }
  .rules td.what { grid-column: 1 / -1; min-width: 0; }
  .line { grid-template: "name words" "bar bar" / 1fr auto; }
  .grid { grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 10px; }
}
@media print {
  body { background: #fff; padding: 0; font-size: 11px; } .card { border-color: #ccc; break-inside: avoid; }
  h2 { break-after: avoid; } details { display: none; } .bar, .stack div, .tag, i { print-color-adjust: exact; }
}
"""
