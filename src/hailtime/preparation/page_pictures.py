"""The pictures of the page of a preparation, as SVG in the page's own colours (`page.css`), light and dark.

Every picture is a string with a viewBox: it grows with the page. Counts come as the profile keeps them.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from html import escape
from typing import Any

from hailtime.preparation.split import PARTS

Counts = Mapping[str, Sequence[int]]

_MOST_BARS = 200  # of days; beyond, weeks


def requests_by_day(days: Mapping[str, Any], width: int = 1040, height: int = 200) -> str:
    """Bars a day (a week where there are many), a colour a part; months below."""
    if not days["first"]:
        return ""
    first, counts = date.fromisoformat(days["first"]), dict(days["counts"])
    step = 7 if len(counts[PARTS[0]]) > _MOST_BARS else 1
    counts = {part: [sum(values[i : i + step]) for i in range(0, len(values), step)] for part, values in counts.items()}
    n_bars = len(counts[PARTS[0]])
    most = max(max(sum(bar) for bar in zip(*counts.values(), strict=True)), 1)
    left, bottom, top = 56, 24, 8
    x_step, y_step = (width - left) / n_bars, (height - bottom - top) / most
    shapes = [_y_axis(most, left, width, height - bottom, top)]
    for i in range(n_bars):
        y, day = float(height - bottom), first + timedelta(days=i * step)
        for part in PARTS:
            tall = counts[part][i] * y_step
            if tall:
                y -= tall
                what = (
                    f"{day:%a} {_day(day)} {day:%Y}{', seven days' if step == 7 else ''}: {counts[part][i]:,} in {part}"
                )
                shapes.append(_bar(left + i * x_step, y, max(x_step * 0.86, 0.6), tall, part, what))
    labels = _month_labels(first, n_bars, step, left, x_step, height - 6)
    return _svg(width, height, "requests by day, by part", [*shapes, *labels])


def distribution(column: Mapping[str, Any], width: int = 250, height: int = 110, marks: bool = False) -> str:
    """Shares of train as an area and of test as a line over the same bins; `marks` adds P10, P50 and P90 of train."""
    counts, bottom = column["counts"], 18
    shares = {part: _shares(counts[part], column, part) for part in ("train", "test")}
    most = max((max(values) for values in shares.values() if values), default=0.0) or 1.0
    n_bins = len(counts["train"])
    x_step, floor = width / n_bins, height - bottom
    tall = {part: [floor - share / most * (floor - 12) for share in values] for part, values in shares.items()}
    shapes = [f'<path class="area train" d="{_steps(tall["train"], x_step, floor, close=True)}"/>']
    if any(counts["test"]):
        shapes.append(f'<path class="line test" d="{_steps(tall["test"], x_step, floor)}"/>')
    start, end = column["start"], column["start"] + n_bins * column["width"]
    if marks:
        shapes += _marks(column, start, x_step / column["width"], floor)
    shapes.append(f'<line class="axis" x1="0" x2="{width}" y1="{floor}" y2="{floor}"/>')
    half = 0.5 if column["is_whole"] else 0.0  # a bar of whole numbers is around them
    shapes += [_text(0, height - 4, number(start + half)), _text(width, height - 4, number(end - half), "end")]
    return _svg(width, height, "share of the rows by value, train and test", shapes)


def number(value: float) -> str:
    """As few digits as tell it: 43.62, 1,200, 0.05."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 0.01 or value == 0 else f"{value:.1e}"


def _marks(column: Mapping[str, Any], start: float, scale: float, floor: float) -> list[str]:
    figures, shapes = column["figures"].get("train", {}), []
    for name in ("p10", "p50", "p90"):
        if name in figures:
            x = (figures[name] - start) * scale
            shapes.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="12" y2="{floor}"/>')
            shapes.append(_text(x, 9, f"{name.upper()} {number(figures[name])}", "middle"))
    return shapes


def _shares(counts: Sequence[int], column: Mapping[str, Any], part: str) -> list[float]:
    total = sum(counts) + column["below"][part] + column["above"][part]
    return [count / total for count in counts] if total else [0.0 for _ in counts]


def _steps(heights: Sequence[float], x_step: float, floor: float, close: bool = False) -> str:
    """A staircase, down to the floor at both ends where it is an area."""
    points = [f"M0 {floor:.1f}"] if close else [f"M0 {heights[0]:.1f}"]
    for i, y in enumerate(heights):
        points.append(f"V{y:.1f}H{(i + 1) * x_step:.1f}")
    return "".join([*points, f"V{floor:.1f}Z"] if close else points)


def _y_axis(most: int, left: float, right: float, floor: float, top: float) -> str:
    """Two or three lines at round numbers."""
    step = next((base * 10**power for power in range(12) for base in (1, 2, 5) if most / (base * 10**power) <= 3), most)
    lines = []
    for value in range(0, most + 1, step):
        y = floor - value / most * (floor - top)
        lines.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(_text(left - 6, y + 3.5, f"{value:,}", "end"))
    return "".join(lines)


def _month_labels(first: date, n_bars: int, step: int, left: float, x_step: float, y: float) -> list[str]:
    """Months, as many as have room; the year with each January and with the first."""
    labels, last_x = [], -100.0
    for i in range(n_bars):
        day = first + timedelta(days=i * step)
        before = day - timedelta(days=step)
        x = left + i * x_step
        if (i == 0 or day.month != before.month) and x - last_x > 64:
            is_new_year = i == 0 or day.month == 1
            labels.append(
                _text(x, y, f"{_day(day)} {day:%Y}" if i == 0 else f"{day:%b %Y}" if is_new_year else f"{day:%b}")
            )
            last_x = x
    return labels


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"


def _bar(x: float, y: float, wide: float, tall: float, part: str, what: str) -> str:
    title = f"<title>{escape(what)}</title>"
    return f'<rect class="{part}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}">{title}</rect>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: int, height: int, label: str, shapes: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    return f"{head}{''.join(shapes)}</svg>"
