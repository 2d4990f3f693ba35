"""Small pictures as inline SVG: histograms, the most frequent values, rows by day. Colours come from the page's CSS."""

from datetime import UTC, datetime
from html import escape

import numpy as np
import polars as pl

from hailtime.schema import MICROSECONDS_PER_SECOND

_DAY_S = 86_400
_STEPS_S = (600, 3600, 6 * 3600, _DAY_S, 7 * _DAY_S, 28 * _DAY_S)  # the finest that gives no more than 120 bars
_MAX_BARS = 120


def histogram(
    values: pl.Series, low: float, high: float, n_bins: int = 24, wide: bool = False, unit: str = "", pad: float = 0.0
) -> str:
    """How often values between `low` and `high` are there, and `pad` around; what lies outside is not drawn."""
    pad = pad if high > low else max(pad, 0.5)
    counts, edges = np.histogram(values.drop_nulls().to_numpy(), bins=n_bins, range=(low - pad, high + pad))
    labels = [f"{a:.4g} to {b:.4g} {unit}: {n:,}" for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    ends = (f"{low:.4g}", f"{high:.4g} {unit}".rstrip())
    return _bars(counts.tolist(), labels, f"histogram from {ends[0]} to {ends[1]}", ends, wide)


def time_line(times_us: pl.Series, scale: float, wide: bool = True) -> str:
    """Rows by day, or by a step that suits the span; `scale` rows of the table for one of the sample."""
    seconds = (times_us.drop_nulls() // MICROSECONDS_PER_SECOND).sort()
    if len(seconds) == 0:
        return ""
    n_cut = len(seconds) // 1000  # clocks never set would make one bar of everything else
    first, last = int(seconds[n_cut]), int(seconds[len(seconds) - 1 - n_cut])
    step = next((step for step in _STEPS_S if (last - first) / step <= _MAX_BARS), (last - first) // _MAX_BARS + 1)
    places = ((seconds.filter((seconds >= first) & (seconds <= last)) // step) - first // step).to_numpy()
    counts = np.bincount(places, minlength=last // step - first // step + 1) * scale
    starts = [(first // step + i) * step for i in range(len(counts))]
    labels = [f"{_moment(start)}: {n:,.0f} rows" for start, n in zip(starts, counts, strict=True)]
    name = f"rows by {_step_text(step)}"
    ends = (_moment(first), f"{_moment(last)}, by {_step_text(step)}") if wide else (_day(first), _day(last))
    return _bars(counts.tolist(), labels, name, ends, wide)


def top_values(values: pl.Series, n_shown: int = 5) -> str:
    """The most frequent values with a bar each; the others together."""
    known = values.drop_nulls()
    if len(known) == 0:
        return ""
    counts = known.value_counts(sort=True).sort(["count", known.name], descending=[True, False])
    rows = [(str(value), n / len(known)) for value, n in counts.head(n_shown).rows()]
    rest = counts.height - len(rows)
    if rest:
        rows.append((f"{rest:,} others", 1 - sum(share for _, share in rows)))
    lines = [
        f'<li><span class="word">{escape(shorten(text))}</span>'
        f'<span class="bar"><i style="width:{share:.1%}"></i></span><b>{share:.1%}</b></li>'
        for text, share in rows
    ]
    return f'<ul class="top">{"".join(lines)}</ul>'


def shorten(text: str, length: int = 28) -> str:
    """Enough of a text to know it; blanks are made visible."""
    shown = text if text.strip() else repr(text)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


def _bars(counts: list[float], labels: list[str], name: str, ends: tuple[str, str], wide: bool) -> str:
    width, height = (520, 120) if wide else (190, 40)
    top, step = max([*counts, 1]), width / len(counts)
    drawn = [
        f'<rect x="{i * step:.1f}" y="{height * (1 - n / top):.1f}" width="{max(step - 1, 0.6):.1f}" '
        f'height="{height * n / top:.1f}"><title>{escape(label)}</title></rect>'
        for i, (n, label) in enumerate(zip(counts, labels, strict=True))
        if n
    ]
    svg = (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-label="{escape(name)}" '
        f'class="{"wide" if wide else "small"}">{"".join(drawn)}</svg>'
    )
    return (
        f"<figure>{svg}<figcaption><span>{escape(ends[0])}</span><span>{escape(ends[1])}</span></figcaption></figure>"
    )


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}".removesuffix(" 00:00")


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _step_text(step_s: int) -> str:
    if step_s < 3600:
        return f"{step_s // 60} minutes"
    if step_s < _DAY_S:
        return "hour" if step_s == 3600 else f"{step_s // 3600} hours"
    return "day" if step_s == _DAY_S else f"{step_s / _DAY_S:.0f} days"
