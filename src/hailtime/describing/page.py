"""One page to look at an unknown table by: self-contained, light or dark as the reader's screen is."""

from html import escape

import polars as pl

from hailtime.describing.columns import Column
from hailtime.describing.description import Description
from hailtime.describing.guess import Guess
from hailtime.describing.pictures import histogram, shorten, time_line, top_values
from hailtime.describing.ranges import number_text, range_of
from hailtime.describing.style import STYLE
from hailtime.describing.summary import paragraph, share_text, suspicions_of, waits_text

_SCRIPT = """
document.getElementById("copy").addEventListener("click", function (event) {
  navigator.clipboard.writeText(document.getElementById("yaml").textContent)
    .then(function () { event.target.textContent = "copied"; });
});
"""


def page(description: Description, yaml: str, next_step: str) -> str:
    """The whole page as text."""
    name = escape(description.name)
    parts = [
        f"<h1>{escape(str(description.table.path))}</h1>",
        f"<p>{escape(paragraph(description))}</p>",
        f'<p class="soft">Everything here is a guess with its reason. Next: <code>{escape(next_step)}</code></p>',
        _to_fill(description),
        _pictures(description),
        _suspicious(description),
        _columns(description),
        f'<h2>The first yaml</h2><p><button id="copy">copy</button></p><pre id="yaml">{escape(yaml)}</pre>',
    ]
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name} described</title><style>{STYLE}</style>"
    )
    body = "\n".join(part for part in parts if part)
    body = f"<body>\n{body}\n<script>{_SCRIPT}</script></body>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n{body}</html>\n'


def _to_fill(description: Description) -> str:
    if not description.to_fill:
        return ""
    items = "".join(f"<li>{escape(gap)}</li>" for gap in description.to_fill)
    return f'<div class="fill"><b>To be filled in, ??? in the yaml</b><ul>{items}</ul></div>'


def _pictures(description: Description) -> str:
    """Rows by day, and the target."""
    time = description.requested or next(iter(description.roles.of("observed_at")), None)
    scale = description.table.n_rows / description.table.sample.height
    cards = []
    if time is not None:
        cards.append(f"<div><h2>Rows by {escape(time.name)}</h2>{time_line(time.values, scale)}</div>")
    target_s = description.roles.moments.target_s
    if target_s is not None and target_s.count() > 0:
        low, high = description.target_range_s
        waits_min = target_s / 60
        inside = ((target_s >= low) & (target_s <= high)).sum() / max(target_s.count(), 1)
        title = f"Pickup time, {inside:.1%} between {waits_text(low)} and {waits_text(high)}"
        drawn = histogram(waits_min, 0, high / 60, 60, wide=True, unit="min")
        cards.append(f"<div><h2>{escape(title)}</h2>{drawn}</div>")
    return f'<div class="pictures">{"".join(cards)}</div>' if cards else ""


def _suspicious(description: Description) -> str:
    found = suspicions_of(description)
    if not found:
        return "<h2>Nothing looks wrong</h2>"
    rows = "".join(
        f'<tr><td class="name">{escape(name)}</td><td class="warn">{escape(text)}</td>'
        f'<td class="number">{share_text(share)}</td></tr>'
        for name, text, share in found
    )
    head = '<thead><tr><th>column</th><th>what</th><th class="number">rows</th></tr></thead>'
    return f"<h2>What looks wrong</h2><table>{head}<tbody>{rows}</tbody></table>"


def _columns(description: Description) -> str:
    heads = (("column", 19), ("seems to be", 29), ("values", 27), ("missing", 9), ("distinct", 9), ("suspicious", 18))
    head = "".join(f'<th style="width:{width}%"{_right(name)}>{name}</th>' for name, width in heads)
    guesses = description.guesses
    ordered = sorted(description.columns.values(), key=lambda c: guesses[c.name].role == "left out")
    rows = "".join(_row(column, guesses[column.name], description.roles.zone) for column in ordered)
    return f'<h2>Its columns</h2><table id="columns"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _right(name: str) -> str:
    return ' class="number"' if name in ("missing", "distinct") else ""


def _row(column: Column, guess: Guess, zone: str | None) -> str:
    role = f"{guess.role}, the zone" if column.name == zone else guess.role
    left_out = ' class="out"' if guess.role == "left out" else ""
    stored = column.dtype if column.dtype == column.kind else f"{column.dtype}, {column.kind}"
    what = stored + (f", {column.unit} {column.unit_why}" if column.unit else "")
    warned = "".join(f"<li>{escape(s.text)} {share_text(s.share)}</li>" for s in column.suspicions)
    cells = [
        f'<td><span class="name">{escape(column.name)}</span><br><span class="sure">{escape(what)}</span></td>',
        f'<td><span class="role">{role}</span> <span class="sure">{guess.sure}</span><br>{escape(guess.why)}</td>',
        f"<td>{_values(column)}</td>",
        f'<td class="number" data-is="missing">{column.missing:.1%}</td>',
        f'<td class="number" data-is="distinct">{column.distinct:,}</td>',
        f'<td class="warn">{f"<ul>{warned}</ul>" if warned else ""}</td>',
    ]
    return f"<tr{left_out}>{''.join(cells)}</tr>"


def _values(column: Column) -> str:
    """A picture of the values and a few of them."""
    if column.kind == "time":
        return f'{time_line(column.values, 1.0, wide=False)}<div class="sample">{_examples(column)}</div>'
    if column.kind == "number" and column.low is not None and column.high is not None:
        return _numbers(column, column.low, column.high)
    if column.kind == "empty":
        return ""
    if column.unique > 0.5 and column.distinct > 20:  # the most frequent of them say nothing
        return f'<div class="sample">{_examples(column)}</div>'
    return top_values(column.values)


def _numbers(column: Column, low: float, high: float) -> str:
    """Whole numbers get a bar each where there are few of them."""
    unit, limits = "" if column.unit == "1" else column.unit or "", range_of(column)
    is_few = column.is_whole and high - low < 24
    n_bins, pad = (round(high - low) + 1, 0.5) if is_few else (24, 0.0)
    drawn = histogram(column.values, low, high, n_bins, unit=unit, pad=pad)
    said = f"limits {number_text(limits[0])} to {number_text(limits[1])} {unit}".rstrip()
    return f'{drawn}<div class="sample">{escape(said)}; {_examples(column)}</div>'


def _examples(column: Column) -> str:
    known = column.values.drop_nulls().head(2000).unique(maintain_order=True).head(4)
    if column.kind == "time":
        known = known.cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d %H:%M:%S").head(2)
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in known.to_list()]
    return "such as " + ", ".join(escape(shorten(text, 20)) for text in texts)
