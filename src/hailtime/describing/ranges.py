"""Limits a person would write: P0.1 to P99.9, widened to round numbers."""

import math

from hailtime.describing.columns import Column

_WIDER = 0.05  # of the spread, at each side: next month has a colder day
_ROUND_S = (60, 120, 180, 300, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 10800, 14400, 21600)


def range_of(column: Column, factor: float = 1.0) -> tuple[float, float]:
    """The limits of a number, in the unit it is loaded in: `factor` of the file's."""
    assert column.low is not None
    assert column.high is not None
    low, high = column.low * factor, column.high * factor
    if column.unit == "deg" and low >= 0 and 180 < high <= 360 and factor == 1:
        return 0.0, 360.0
    if low >= 0 and 0.5 < high <= 1:
        return 0.0, 1.0
    return rounded_out(low, high, 1.0 if column.is_whole and factor == 1 else 0.0)


def rounded_out(low: float, high: float, least_step: float = 0.0) -> tuple[float, float]:
    """4.43 to 9.87 → 4 to 10.5; what is never negative stays so, and whole numbers whole."""
    spread = high - low or max(abs(high), 1.0)
    step = max(least_step, 10.0 ** math.floor(math.log10(spread)) / 2)
    wider_low = math.floor((low - _WIDER * spread) / step) * step
    wider_high = math.ceil((high + _WIDER * spread) / step) * step
    if low >= 0:
        wider_low = max(wider_low, 0.0)
    return _clean(wider_low), _clean(wider_high)


def waits_range(low_s: float, high_s: float) -> tuple[int, int]:
    """The target's limits in seconds: no less than 1, up to a round time above P99.9."""
    low = max(1, math.floor(low_s / 10) * 10 if low_s >= 10 else math.floor(low_s))
    return low, round_up_s(high_s)


def round_up_s(seconds: float) -> int:
    """The next round time: 1,650 s → 1,800 s."""
    return next((step for step in _ROUND_S if step >= seconds), math.ceil(seconds / 3600) * 3600)


def number_text(value: float) -> str:
    """As a yaml holds it: no exponent, no needless zero."""
    if float(value).is_integer():
        return str(int(value))
    return f"{value:.10f}".rstrip("0")


def _clean(value: float) -> float:
    return float(f"{value:.10g}")
