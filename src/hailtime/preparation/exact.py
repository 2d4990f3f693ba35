"""Arithmetic that gives the same bits on every engine and for plain Python floats: only + - * / and square roots.

IEEE 754 rounds those in one way. Sines and means are not so: numpy, Rust and Java differ in the last bit of a sine,
and a sum of floats depends on its order. So sines are polynomials here, and sums are of integers. Each function takes
Narwhals expressions or floats, and serving asks the very same ones as preparation.
"""

import math
from typing import Any

import narwhals as nw

EARTH_RADIUS_M = 6_371_008.8  # mean radius, IUGG
THOUSANDTHS = 1000
# 9 million such values can be active at once before a sum of thousandths leaves int64
LARGEST_VALUE = 1e9
# Taylor's, up to x^17: up to 45 degrees the next term is 8e-20
_SINE = [(-1) ** n / math.factorial(2 * n + 1) for n in reversed(range(9))]


def to_whole(value: Any, per_unit: int) -> Any:
    """A number in the given parts of its unit, as an integer, halves rounded up."""
    parts = value * float(per_unit) + 0.5
    return parts.floor().cast(nw.Int64) if isinstance(parts, nw.Expr) else math.floor(parts)


def mean_of(total: Any, n: Any) -> Any:
    """The mean in units of n values whose sum in thousandths is `total`."""
    if isinstance(total, nw.Expr):
        return total.cast(nw.Float64) / (n * THOUSANDTHS).cast(nw.Float64)
    return total / (n * THOUSANDTHS)


def later(a: Any, b: Any) -> Any:
    """The later of two whole numbers."""
    return nw.max_horizontal(a, b).cast(nw.Int64) if isinstance(a, nw.Expr) else max(a, b)


def half_angles(lat: Any, lon: Any) -> tuple[Any, Any]:
    """Half of the latitude and a quarter of the longitude in radians, neither beyond 45 degrees."""
    return lat * (math.pi / 360), lon * (math.pi / 720)


def sine(x: Any) -> Any:
    """Of an angle of at most 45 degrees, in radians."""
    xx = x * x
    result: Any = _SINE[0]
    for factor in _SINE[1:]:
        result = xx * result + factor
    return x * result


def on_sphere(sin_half_lat: Any, sin_quarter_lon: Any) -> tuple[Any, Any, Any]:
    """x, y, z of a place in metres from the centre of the Earth, from the `sine` of its `half_angles`; good to 10 nm.

    Expressions are trees without names for their parts, so angles and sines are columns before they come here.
    """
    s, w = sin_half_lat, sin_quarter_lon
    sin_lat, cos_lat = 2.0 * s * _root(1.0 - s * s), 1.0 - 2.0 * s * s
    sin_half, cos_half = 2.0 * w * _root(1.0 - w * w), 1.0 - 2.0 * w * w
    sin_lon, cos_lon = 2.0 * sin_half * cos_half, 1.0 - 2.0 * sin_half * sin_half
    return (
        EARTH_RADIUS_M * (cos_lat * cos_lon),
        EARTH_RADIUS_M * (cos_lat * sin_lon),
        EARTH_RADIUS_M * sin_lat,
    )


def great_circle_m(dx: Any, dy: Any, dz: Any) -> Any:
    """The way over the ground between two places less than 100 km apart, from the difference of their x, y, z.

    The arcsine is its series up to the seventh power: at 100 km the next term is 4e-19 of the whole.
    """
    s = _root(dx * dx + dy * dy + dz * dz) * (0.5 / EARTH_RADIUS_M)
    ss = s * s
    return (2.0 * EARTH_RADIUS_M) * s * (1.0 + ss * (1 / 6 + ss * (3 / 40 + ss * (15 / 336))))


def _root(value: Any) -> Any:
    return value.sqrt() if isinstance(value, nw.Expr) else math.sqrt(value)
