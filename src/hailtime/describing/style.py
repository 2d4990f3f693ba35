"""How the page looks: the reader's own font, light or dark as the screen is, cards instead of a table where narrow."""

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2127; --soft: #66707b; --line: #dfe3e8;
  --card: #f6f7f9; --bar: #1f6fb2; --warn: #a8480f; --warn-back: #fdf0e6; --good: #1b7a43; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --text: #e3e6ea; --soft: #98a2ad; --line: #2d333b;
  --card: #1c2127; --bar: #5aa6e6; --warn: #f2a365; --warn-back: #33241a; --good: #6cc58f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1100px; padding: 24px 20px 60px; background: var(--back); color: var(--text);
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 34px 0 10px; }
p { margin: 6px 0; max-width: 80ch; }
code, pre { font-family: ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.soft, figcaption, .sure, .sample { color: var(--soft); }
figcaption, .sure, .sample, .top { font-size: 12px; }
.pictures { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; margin-top: 18px; }
.pictures > div, .fill { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px; min-width: 0; }
.pictures h2 { margin: 0 0 8px; font-size: 14px; }
.fill { border-color: var(--warn); background: var(--warn-back); margin: 14px 0; overflow-wrap: anywhere; }
.fill ul, .warn ul { margin: 0; padding-left: 16px; }
figure { margin: 0; }
svg { display: block; width: 100%; fill: var(--bar); border-bottom: 1px solid var(--line); }
svg.small { height: 40px; }
svg.wide { height: 120px; }
figcaption { display: flex; justify-content: space-between; gap: 8px; font-variant-numeric: tabular-nums; }
table { width: 100%; border-collapse: collapse; }
th { position: sticky; top: 0; z-index: 1; background: var(--back); box-shadow: inset 0 -1px var(--line);
  text-align: left; font-size: 12px; color: var(--soft); padding: 8px 14px 8px 0; }
td { vertical-align: top; padding: 10px 14px 10px 0; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
#columns { table-layout: fixed; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.name, .role { font-weight: 600; }
.role { color: var(--good); }
.out .role, .out .name { color: var(--soft); }
.out svg, .out .bar i { opacity: 0.5; }
.warn { color: var(--warn); }
.top { list-style: none; margin: 0; padding: 0; }
.top li { display: grid; grid-template-columns: 1fr 60px 48px; gap: 8px; align-items: center; }
.top b { text-align: right; font-weight: 400; font-variant-numeric: tabular-nums; }
.word { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bar { height: 8px; background: var(--line); border-radius: 2px; }
.bar i { display: block; height: 100%; background: var(--bar); border-radius: 2px; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px; overflow-x: auto;
  font-size: 12px; overflow-wrap: normal; }
button { font: inherit; padding: 4px 12px; border: 1px solid var(--line); border-radius: 6px; background: var(--card);
  color: var(--text); cursor: pointer; }
@media (max-width: 760px) {
  .pictures { grid-template-columns: 1fr; }
  #columns thead { display: none; }
  #columns tr { display: block; border-bottom: 1px solid var(--line); padding: 10px 0; }
  #columns td { display: block; border: 0; padding: 3px 0; text-align: left; }
  #columns td[data-is] { display: inline-block; margin-right: 14px; }
  #columns td[data-is]::before { content: attr(data-is) " "; color: var(--soft); font-size: 12px; }
}
"""
