"""From raw columns to what a network reads: the part of the model in front of the network.

Everything here is a `torch` module or data for one, because it is exported into the ONNX file with the network. There
is no second copy of it for serving. Two parts:

- `FeatureSpec`: what the training part decides (vocabulary, bin edges, target scale); a readable JSON in the run folder
- `RowFeatures`: limits, missing values, local clock, great-circle distance, all row by row

Axes: B rows, F numeric and C categorical columns of the schema, N numeric and K categorical features out.

Polars is loaded when a frame is read: a network on a GPU machine needs torch alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hailtime.errors import DataError
from hailtime.schema import MICROSECONDS_PER_SECOND, Schema

if TYPE_CHECKING:
    import polars as pl

EARTH_RADIUS_M = 6_371_009.0  # mean radius, IUGG
LARGEST = 3e38  # a float32 beyond counts as infinite, and so as missing
UNKNOWN = 0  # code of a category that the training part does not hold (often enough)
CLOCK_YEARS = (2000, 2060)  # the model knows the zone's clock changes in between; before and after, the nearest offset

JOURNEY_FEATURES = ("distance_m", "bearing_east", "bearing_north", "east_m", "north_m")
CLOCK_FEATURES = ("hour_local", "hour_of_week_local")
WEEKDAY = "weekday_local"


@dataclass(frozen=True)
class FeatureSpec:
    """What was learned from the training part before any network: all that is needed to rebuild the model's shape.

    - `numeric_edges`: by feature name, increasing edges of the bins of its piecewise-linear encoding
    - `vocabulary`: by categorical column, its known values; a value's code is its place, from 1
    - `target_center_s`, `target_scale_s`: the network's unit is (seconds − base − center) / scale
    - `estimate_fallback_s`: base of a row whose routing estimate is missing; 0 without a routing estimate
    - `numeric_moments`: by feature name, mean and standard deviation, for the encodings that scale
    - `numeric_places`: by feature name, the share of training rows below each of its edges, for the quantile encoding
    - `journey`: lat, lon of its start, lat, lon of its end, where the schema has one
    """

    schema_fingerprint: str
    numeric_edges: dict[str, list[float]]
    vocabulary: dict[str, list[str]]
    target_center_s: float
    target_scale_s: float
    estimate_fallback_s: float = 0.0
    numeric_moments: dict[str, list[float]] = field(default_factory=dict)
    numeric_places: dict[str, list[float]] = field(default_factory=dict)
    journey: list[str] = field(default_factory=list)

    @cached_property
    def cardinalities(self) -> list[int]:
        """Number of codes of each categorical feature, the unknown included; the weekday comes last."""
        return [len(values) + 1 for values in self.vocabulary.values()] + [7]

    @cached_property
    def words(self) -> list[str]:
        """Every known value of any column once; LabelEncoder gives a word's place in it, from 1, and 0 otherwise."""
        return sorted({word for values in self.vocabulary.values() for word in values})

    def column_codes(self) -> Tensor:
        """(words + 1, columns) int64: the code of a word in a column, 0 where it is none of that column's values."""
        place = {word: i + 1 for i, word in enumerate(self.words)}
        table = torch.zeros(len(place) + 1, len(self.vocabulary), dtype=torch.int64)
        for column, values in enumerate(self.vocabulary.values()):
            for code, word in enumerate(values, start=1):
                table[place[word], column] = code
        return table

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> FeatureSpec:
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise DataError(
                f"a run folder holds features.json, {path.parent} does not: is the training done?"
            ) from error


class RowFeatures(nn.Module):
    """Raw columns to numeric features (NaN where missing) and category codes.

    - Input: numeric (B, F) float32, any value; words (B, C) int64, places in `FeatureSpec.words`;
      requested_at (B, 1) int64 UTC epoch seconds
    - Output: x_num (B, N) float32, finite or NaN; x_cat (B, K) int64
    """

    low_F: Tensor
    high_F: Tensor
    below_F: Tensor
    above_F: Tensor
    columns_C: Tensor
    column_codes: Tensor
    day_and_week_s: Tensor
    clock_changes: Tensor
    clock_steps: Tensor
    journey: Tensor

    def __init__(self, schema: Schema, spec: FeatureSpec) -> None:
        super().__init__()
        lows = [-LARGEST if column.minimum is None else column.minimum for column in schema.numeric]
        highs = [LARGEST if column.maximum is None else column.maximum for column in schema.numeric]
        clips = torch.tensor([column.out_of_range == "clip" for column in schema.numeric])
        self.register_buffer("low_F", _float(lows))
        self.register_buffer("high_F", _float(highs))
        # what a number beyond its limit counts as; an infinite one is missing where there is no limit
        self.register_buffer("below_F", torch.where(clips & (self.low_F > -LARGEST), self.low_F, torch.nan))
        self.register_buffer("above_F", torch.where(clips & (self.high_F < LARGEST), self.high_F, torch.nan))
        self.register_buffer("column_codes", spec.column_codes().flatten())
        self.register_buffer("columns_C", torch.arange(len(schema.categorical)))
        self.register_buffer("day_and_week_s", torch.tensor([86_400, 7 * 86_400]), persistent=False)
        changes, offsets = clock_changes(schema.timezone)
        # the first change, before all time, is from UTC's Thursday 1970-01-01 to the zone's seconds since a Monday
        start = torch.iinfo(torch.int64).min
        self.register_buffer("clock_changes", torch.tensor([start, *changes], dtype=torch.int64))
        steps = torch.tensor([0, *(offset + 3 * 86_400 for offset in offsets)]).diff()
        self.register_buffer("clock_steps", steps.float()[:, None])
        columns = [schema.numeric_names.index(name) for name in schema.journey or ()]
        self.register_buffer("journey", torch.tensor(columns, dtype=torch.int64))

    def forward(self, numeric: Tensor, words: Tensor, requested_at: Tensor) -> tuple[Tensor, Tensor]:
        x_BF = self.within_limits(numeric)
        clock, weekday = self.local_clock(requested_at)
        parts = [x_BF, *([great_circle(x_BF.index_select(1, self.journey))] if len(self.journey) else []), clock]
        codes = self.column_codes.take(words * len(self.columns_C) + self.columns_C)
        return torch.cat(parts, dim=1), torch.cat([codes, weekday], dim=1)

    def within_limits(self, x_BF: Tensor) -> Tensor:
        """NaN for what is not finite or outside a limit, the limit itself where the column clips."""
        return torch.where(x_BF < self.low_F, self.below_F, torch.where(x_BF > self.high_F, self.above_F, x_BF))

    def local_clock(self, requested_at: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2) float32 hour of the day and of the week by the city's clock, (B, 1) int64 weekday from Monday = 0."""
        # exact: sums of whole seconds below 2^24; a product is a third of a selection's time for many rows
        moved = ((requested_at >= self.clock_changes).float() @ self.clock_steps).to(torch.int64)
        # By remainders alone: ONNX has no whole-number division that rounds down, and its stand-in is eight nodes
        seconds_B2 = ((requested_at + moved) % self.day_and_week_s).to(torch.float32)
        weekday = (seconds_B2[:, 1:] / 86_400.0).to(torch.int64)  # exact: a second before midnight is 1e-5 below
        return seconds_B2 / 3600.0, weekday


def numeric_feature_names(schema: Schema) -> tuple[str, ...]:
    """Names of the numeric features, in the order `RowFeatures` gives them."""
    return (*schema.numeric_names, *(JOURNEY_FEATURES if schema.journey else ()), *CLOCK_FEATURES)


def categorical_feature_names(schema: Schema) -> tuple[str, ...]:
    """Names of the categorical features, in the order `RowFeatures` gives them."""
    return (*schema.categorical_names, WEEKDAY)


def great_circle(points: Tensor) -> Tensor:
    """(B, 4) degrees, from lat, lon to lat, lon → (B, 5): metres, bearing as a unit vector, metres east and north.

    The bearing is a vector, not an angle: an angle jumps at ±180° and two runtimes may fall on different sides.
    """
    radians_B4 = torch.deg2rad(points)
    start_B2, end_B2 = radians_B4.chunk(2, dim=1)
    lats_B2, step_B2 = radians_B4.index_select(1, torch.tensor([0, 2], device=points.device)), end_B2 - start_B2
    half_lat, half_lon = torch.sin(step_B2 * 0.5).square().chunk(2, dim=1)
    haversine = half_lat + torch.cos(lats_B2).prod(dim=1, keepdim=True) * half_lon
    distance_m = torch.asin(torch.sqrt(haversine.clamp(0.0, 1.0))) * (2 * EARTH_RADIUS_M)
    d_lat, d_lon = (step_B2 * EARTH_RADIUS_M).chunk(2, dim=1)
    east_north_m = torch.cat([torch.cos(lats_B2.mean(dim=1, keepdim=True)) * d_lon, d_lat], dim=1)
    # 1 m: no direction when the driver is already there
    length_m = torch.linalg.vector_norm(east_north_m, dim=1, keepdim=True).clamp(min=1.0)
    return torch.cat([distance_m, east_north_m / length_m, east_north_m], dim=1)


@cache
def clock_changes(timezone: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """UTC seconds at which the zone's offset changes, and the offsets in seconds: one more, from the start.

    Found with zoneinfo, to the second; a day with two changes would show one (no zone has had that since 2000).
    """
    zone = ZoneInfo(timezone)

    def offset_s(second: int) -> int:
        offset = datetime.fromtimestamp(second, UTC).astimezone(zone).utcoffset() or timedelta()
        return int(offset.total_seconds())

    first, last = _epoch(CLOCK_YEARS[0]), _epoch(CLOCK_YEARS[1])
    changes: list[int] = []
    offsets = [offset_s(first)]
    for day in range(first, last, 86_400):
        if offset_s(day + 86_400) == offsets[-1]:
            continue
        low, high = day, day + 86_400
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset_s(middle) == offsets[-1] else (low, middle)
        changes.append(high)
        offsets.append(offset_s(high))
    return tuple(changes), tuple(offsets)


def row_features(schema: Schema, spec: FeatureSpec, frame: pl.DataFrame) -> tuple[Tensor, Tensor]:
    """A prepared frame through `RowFeatures`: x_num (B, N) with NaN, x_cat (B, K)."""
    with torch.no_grad():
        x_num, x_cat = RowFeatures(schema, spec)(*model_inputs(schema, spec, frame))
    return x_num, x_cat


def model_inputs(schema: Schema, spec: FeatureSpec, frame: pl.DataFrame) -> tuple[Tensor, Tensor, Tensor]:
    """A prepared frame as the inputs of `RowFeatures`: numeric (B, F), words (B, C), requested_at (B, 1) in seconds."""
    import polars as pl

    numeric, requested_at = _numbers(schema, frame), _seconds(schema, frame)
    known = pl.Enum(spec.words)  # its codes are the places, from 0
    words = frame.select(
        pl.col(n).fill_null("").cast(known, strict=False).to_physical().cast(pl.Int64) + 1
        for n in schema.categorical_names
    ).fill_null(0)
    places = words.to_numpy(order="c", writable=True).reshape(len(frame), len(schema.categorical))
    return torch.from_numpy(numeric), torch.from_numpy(places), torch.from_numpy(requested_at)


def raw_inputs(
    schema: Schema, frame: pl.DataFrame
) -> tuple[NDArray[np.float32], NDArray[np.object_], NDArray[np.int64]]:
    """A prepared frame as it is sent: numeric float32, categorical str ('' when missing), requested_at in seconds."""
    import polars as pl

    categorical = frame.select(pl.col(n).fill_null("") for n in schema.categorical_names).to_numpy()
    words = categorical.reshape(len(frame), len(schema.categorical)).astype(object)
    return _numbers(schema, frame), words, _seconds(schema, frame)


def _numbers(schema: Schema, frame: pl.DataFrame) -> NDArray[np.float32]:
    import polars as pl

    numeric = frame.select(pl.col(n).cast(pl.Float32).fill_null(np.nan) for n in schema.numeric_names)
    return numeric.to_numpy(order="c", writable=True).reshape(len(frame), len(schema.numeric))


def _seconds(schema: Schema, frame: pl.DataFrame) -> NDArray[np.int64]:
    return np.ascontiguousarray((frame[schema.requested_at].to_numpy() // MICROSECONDS_PER_SECOND)[:, None])


def _float(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _epoch(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
