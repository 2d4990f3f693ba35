"""Pictures of the report as SVG in the page's own colours: nothing has to be loaded to see them."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape

Values = Sequence[float | None]
LEFT, BOTTOM, TOP, RIGHT = 56, 40, 14, 14
WIDE, HALF = 1080, 540
TONES = ("a", "b", "c", "d", "e", "f")


def over_time(
    times: Sequence[str],
    lines: Mapping[str, Values],
    title: str,
    bands: Mapping[str, tuple[Values, Values]] | None = None,
    marks: Sequence[Mapping[str, str]] = (),
    height: int = 230,
    top: float | None = None,
) -> str:
    """Lines over local times, each with the band of its name, and marks across; `title` is the y axis with its unit."""
    at = [datetime.fromisoformat(time).timestamp() for time in times]
    ticks = [(at[i], times[i][5:16] if len(times[i]) > 10 else times[i][5:]) for i in _some(len(at), 8)]
    shapes = lines_over(at, lines, title, ticks, bands, (WIDE, height), top)
    shapes += _text(WIDE - RIGHT, height - 4, "local time", "end")
    first, last = min(at), max(at)
    for mark in marks:
        moment = datetime.fromisoformat(mark["time"]).timestamp()
        if first <= moment <= last and last > first:
            x = LEFT + (WIDE - LEFT - RIGHT) * (moment - first) / (last - first)
            shapes += f'<path class="mark" d="M{x:.1f} {TOP}V{height - BOTTOM}"/>' + _text(x + 4, TOP + 9, mark["text"])
    return _svg(WIDE, height, title, shapes)


def by_hour(hours: Sequence[int], lines: Mapping[str, Values], title: str, height: int = 230) -> str:
    """Lines over the hours of a day."""
    ticks = [(float(hour), f"{hour}:00") for hour in hours if hour % 3 == 0]
    shapes = lines_over([float(hour) for hour in hours], lines, title, ticks, None, (HALF, height), None)
    return _svg(HALF, height, title, shapes + _text(HALF - RIGHT, height - 4, "hour of day", "end"))


def lines_over(
    at: Sequence[float],
    lines: Mapping[str, Values],
    title: str,
    ticks: Sequence[tuple[float, str]],
    bands: Mapping[str, tuple[Values, Values]] | None,
    size: tuple[int, int],
    top: float | None,
) -> str:
    """Axes, bands, lines and their names, in a picture of a width and a height; y begins at 0."""
    bands = bands or {}
    known = [v for values in (*lines.values(), *(high for _, high in bands.values())) for v in values if v is not None]
    step, most = _steps(top or max(known, default=1.0) or 1.0)
    first, lasts = min(at), (max(at) - min(at)) or 1.0
    width, height = size
    floor = height - BOTTOM

    def place(moment: float, value: float) -> str:
        x = LEFT + (width - LEFT - RIGHT) * (moment - first) / lasts
        return f"{x:.1f} {floor - (floor - TOP) * value / most:.1f}"

    shapes = [_axis(step, most, floor, width, title)]
    for moment, text in ticks:
        shapes.append(_text(float(place(moment, 0).split()[0]), floor + 15, text, "middle"))
    for tone, (name, values) in zip(TONES, lines.items(), strict=False):
        if name in bands:
            low, high = bands[name]
            spots = [i for i in range(len(at)) if low[i] is not None and high[i] is not None]
            there = [place(at[i], high[i] or 0.0) for i in spots] + [place(at[i], low[i] or 0.0) for i in spots[::-1]]
            shapes.append(f'<polygon class="band {tone}" points="{" ".join(there)}"/>')
        there = [place(moment, value) for moment, value in zip(at, values, strict=True) if value is not None]
        shapes.append(f'<polyline class="line {tone}" points="{" ".join(there)}"/>')
    for i, (tone, name) in enumerate(zip(TONES, lines, strict=False)):
        x = LEFT + 170 * i
        shapes.append(f'<path class="line {tone}" d="M{x} {height - 8}h18"/>' + _text(x + 24, height - 4, name))
    return "".join(shapes)


def grid(counts: Sequence[Sequence[int]], edges: Sequence[float]) -> str:
    """A grid of counts, said by actual, as squares that are the darker the more trips; only the part that has any."""
    used = [i for i in range(len(counts)) if any(counts[i]) or any(row[i] for row in counts)]
    if not used:
        return ""
    first, last, size = used[0], used[-1] + 1, 300
    step, most = size / (last - first), max(map(max, counts))
    shapes = []
    for said in range(first, last):
        for actual in range(first, last):
            if counts[said][actual]:
                x, y = LEFT + (said - first) * step, TOP + size - (actual - first + 1) * step
                share = 0.12 + 0.88 * (counts[said][actual] / most) ** 0.5
                shapes.append(
                    f'<rect class="a" x="{x:.1f}" y="{y:.1f}" width="{step:.1f}" height="{step:.1f}" '
                    f'fill-opacity="{share:.2f}"><title>{counts[said][actual]:,} trips</title></rect>'
                )
    for i in [first + j for j in _some(last - first + 1, 6)]:
        text, along = f"{edges[i] / 60:.1f}", (i - first) * step
        shapes += [
            _text(LEFT + along, TOP + size + 16, text, "middle"),
            _text(LEFT - 6, TOP + size - along + 4, text, "end"),
        ]
    shapes.append(f'<path class="mark" d="M{LEFT} {TOP + size}L{LEFT + size} {TOP}"/>')
    shapes.append(_text(LEFT + size / 2, TOP + size + 34, "said (P50), min", "middle"))
    shapes.append(_upright(14, TOP + size / 2, "actual, min"))
    return _svg(LEFT + size + 16, size + TOP + 42, "said against actual", "".join(shapes))


def _axis(step: float, most: float, floor: float, width: float, title: str) -> str:
    shapes = [_upright(14, (floor + TOP) / 2, title)]
    for i in range(round(most / step) + 1):
        y = floor - (floor - TOP) * i * step / most
        shapes.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{width - RIGHT}"/>')
        shapes.append(_text(LEFT - 6, y + 4, f"{i * step:,.4g}", "end"))
    return "".join(shapes)


def _steps(most: float) -> tuple[float, float]:
    """A round step of which three to six reach `most`, and how far they reach."""
    power = 10.0 ** math.floor(math.log10(most / 3))
    step = next(power * i for i in (1, 2, 5, 10) if most / (power * i) <= 6)
    return step, step * math.ceil(most / step - 1e-9)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _upright(x: float, y: float, text: str) -> str:
    turned = f'transform="rotate(-90 {x:.1f} {y:.1f})"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" {turned}>{escape(text)}</text>'


def _svg(width: float, height: float, label: str, shapes: str) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px"'
    kind = "broad" if width > HALF else ""
    return f'<div class="wide"><svg class="{kind}" {size} role="img" aria-label="{escape(label)}">{shapes}</svg></div>'


def _some(n: int, most: int) -> list[int]:
    """Evenly spread places of n, at most so many."""
    step = max(-(-n // most), 1)
    return list(range(0, n, step))
