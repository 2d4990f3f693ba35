"""The rule a rider is answered by when no model can be asked: distance over the hour's speed, or the zone's median.

It is fitted with the model (`baselines.py`), travels in the ONNX file and in Triton's config, and needs numpy only, so
that a client has it at hand when the server is gone.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from hailtime.errors import SchemaError
from hailtime.schema import Schema

EARTH_RADIUS_M = 6_371_009.0  # mean radius, IUGG
QUARTER_S = 900  # every zone's clock is a whole number of quarters of an hour off UTC

Line = tuple[float, float]


@dataclass(frozen=True)
class FallbackRule:
    """Seconds = constant + metres × seconds a metre, by the hour of the local day; without a journey, by the zone.

    - `lines`: (constant_s, seconds a metre) by local hour "0" to "23", or by zone with 0 seconds a metre
    - `otherwise`: the line of an hour or a zone that has none
    - `middle_s`: for a journey of which nothing is known
    - `spread`: P10 and P90 as multiples of the median
    """

    lines: Mapping[str, Line]
    otherwise: Line
    middle_s: float
    spread: tuple[float, float]

    def __post_init__(self) -> None:
        numbers = [
            *self.otherwise,
            self.middle_s,
            *self.spread,
            *(part for line in self.lines.values() for part in line),
        ]
        low, high = self.spread
        if not (all(map(math.isfinite, numbers)) and 0 <= low <= 1 <= high and self.middle_s >= 0):
            raise SchemaError(
                f"a rule needs finite numbers and a spread around 1, got {self.spread} of {self.middle_s} s"
            )

    def quantiles_s(
        self,
        schema: Schema,
        numeric: NDArray[np.float32],
        categorical: NDArray[np.object_],
        requested_at: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """(n, 3) seconds from rows as they go over the wire."""
        lines = np.array([self.lines.get(key, self.otherwise) for key in _keys(schema, categorical, requested_at)])
        median_s = lines.reshape(-1, 2)[:, 0]
        if schema.journey is not None:
            median_s = median_s + lines.reshape(-1, 2)[:, 1] * distance_m(schema, numeric)
            median_s = np.where(np.isfinite(median_s), median_s, self.middle_s)
        low, high = self.spread
        quantiles_s: NDArray[np.float32] = (np.maximum(median_s, 0.0)[:, None] * [low, 1.0, high]).astype(np.float32)
        return quantiles_s

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "FallbackRule":
        """SchemaError says what is wrong with it."""
        try:
            entries = json.loads(text)
            return cls(
                {str(key): _pair(line) for key, line in entries["lines"].items()},
                _pair(entries["otherwise"]),
                float(entries["middle_s"]),
                _pair(entries["spread"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SchemaError(f"a rule must be JSON of lines, otherwise, middle_s and spread: {error!r}") from error


def distance_m(schema: Schema, numeric: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) great-circle metres from the driver to the pickup; NaN where a place is not known or outside its range."""
    assert schema.journey is not None
    columns = [schema.column(name) for name in schema.journey]
    places = numeric[:, [schema.numeric_names.index(name) for name in schema.journey]].astype(np.float64)
    low = [-np.inf if column.minimum is None else column.minimum for column in columns]
    high = [np.inf if column.maximum is None else column.maximum for column in columns]
    places[(places < low) | (places > high) | np.isinf(places)] = np.nan
    lat_1, lon_1, lat_2, lon_2 = np.radians(places).T
    haversine = np.sin((lat_2 - lat_1) / 2) ** 2 + np.cos(lat_1) * np.cos(lat_2) * np.sin((lon_2 - lon_1) / 2) ** 2
    metres: NDArray[np.float64] = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(haversine, 0, 1)))
    return metres


def _keys(schema: Schema, categorical: NDArray[np.object_], requested_at: NDArray[np.int64]) -> list[str]:
    if schema.journey is None and schema.zone is not None:
        zones: list[str] = categorical[:, schema.categorical_names.index(schema.zone)].tolist()
        return zones
    return [_hour_local(second // QUARTER_S, schema.timezone) for second in requested_at[:, 0].tolist()]


@lru_cache(maxsize=4096)
def _hour_local(quarter: int, timezone: str) -> str:
    """ "0" to "23"; "" where this machine does not know the zone (a slim image without tzdata)."""
    try:
        return str(datetime.fromtimestamp(quarter * QUARTER_S, ZoneInfo(timezone)).hour)
    except (ZoneInfoNotFoundError, ValueError, OverflowError):
        return ""


def _pair(numbers: Any) -> tuple[float, float]:
    first, second = numbers
    return float(first), float(second)
