"""Faults put into spotless trips, so that cleaning has something to find.

Rates of the faults that New York's high-volume trips have too are theirs (July 2026), the others are guesses; all are
multiplied by the source's `dirt`.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources.city_map import Floats, Ints

_NEW_YORK = 20_921_249  # trips published for July 2026
# At most one of these a row: which fault, share of the rows.
FAULT_RATES = {
    "arrived_before_asked": 366_752 / _NEW_YORK,  # on scene before the request
    "arrived_missing": 0.004,  # a guess: cancelled late, or the driver never pressed the button
    "coordinates_zero": 0.001,  # a guess
    "coordinates_swapped": 0.0005,  # a guess
    "coordinates_far": 1_245 / _NEW_YORK,  # their zone is unknown
    "impossible_speed": 0.0005,  # a guess
    "absurd_duration": 44 / _NEW_YORK,  # waits above three hours: two in a million
    "sent_twice": 0.003,  # the same row again; a guess: they publish none, but what feeds a model was not yet tidied
    "asked_again": 0.003,  # a guess: the same request a few seconds later
}
MISSING_RATES = {  # independent of each other and of the faults above; guesses
    "driver_speed_mps": 0.02,
    "driver_heading_deg": 0.02,
    "driver_lat": 0.01,  # and driver_lon with it
    "idle_drivers": 0.005,
    "app": 0.01,
}
LATE_RATE = 0.01  # rows that come out of order, a minute or two late
MAX_DIRT = 10.0  # ten times the real rates leaves 70 % of the rows unhurt


def add_dirt(rng: np.random.Generator, trips: pl.DataFrame, dirt: float) -> pl.DataFrame:
    """The same trips with `dirt` times the usual faults, and when each row came: `came_at`, a few of them late."""
    if dirt == 0:
        return trips.with_columns(came_at=pl.col("requested_at"))
    edges = np.cumsum([rate * dirt for rate in FAULT_RATES.values()])
    fault = np.searchsorted(edges, rng.random(len(trips)), side="right")
    rows = {name: np.flatnonzero(fault == i) for i, name in enumerate(FAULT_RATES)}
    for name, spoil in _SPOILERS.items():
        trips = _replace(trips, rows[name], spoil(rng, trips[rows[name]]))
    trips = _drop_values(rng, trips, dirt)
    trips = pl.concat([trips, trips[rows["sent_twice"]], _asked_again(rng, trips[rows["asked_again"]])])
    return _come_late(rng, trips, dirt)


def _replace(trips: pl.DataFrame, rows: Ints, spoiled: dict[str, Floats | Ints | pl.Series]) -> pl.DataFrame:
    columns = [trips[name].scatter(rows, pl.Series(name, values)) for name, values in spoiled.items()]
    return trips.with_columns(columns)


Spoiled = dict[str, Floats | Ints | pl.Series]


def _arrived_before_asked(rng: np.random.Generator, hurt: pl.DataFrame) -> Spoiled:
    return {"requested_at": hurt["arrived_at"], "arrived_at": hurt["requested_at"]}


def _arrived_missing(rng: np.random.Generator, hurt: pl.DataFrame) -> Spoiled:
    return {"arrived_at": pl.Series([None] * len(hurt), dtype=pl.Int64)}


def _coordinates_zero(rng: np.random.Generator, hurt: pl.DataFrame) -> Spoiled:
    return {"pickup_lat": np.zeros(len(hurt)), "pickup_lon": np.zeros(len(hurt))}


def _coordinates_swapped(rng: np.random.Generator, hurt: pl.DataFrame) -> Spoiled:
    return {"pickup_lat": hurt["pickup_lon"], "pickup_lon": hurt["pickup_lat"]}


def _coordinates_far(rng: np.random.Generator, hurt: pl.DataFrame) -> Spoiled:
    """Another city: Boston's sign-ups in the wrong region."""
    return {"pickup_lat": rng.normal(42.36, 0.05, len(hurt)), "pickup_lon": rng.normal(-71.06, 0.05, len(hurt))}


def _impossible_speed(rng: np.random.Generator, hurt: pl.DataFrame) -> Spoiled:
    """A driver 10 km or more away is there in 20 to 60 seconds."""
    arrived = hurt["requested_at"].to_numpy() + rng.integers(20, 61, len(hurt)) * MICROSECONDS_PER_SECOND
    return {"driver_lat": hurt["pickup_lat"].to_numpy() + rng.uniform(0.09, 0.095, len(hurt)), "arrived_at": arrived}


def _absurd_duration(rng: np.random.Generator, hurt: pl.DataFrame) -> Spoiled:
    arrived = hurt["requested_at"].to_numpy() + rng.integers(10_801, 90_000, len(hurt)) * MICROSECONDS_PER_SECOND
    return {"arrived_at": arrived}


_SPOILERS: dict[str, Callable[[np.random.Generator, pl.DataFrame], Spoiled]] = {
    "arrived_before_asked": _arrived_before_asked,
    "arrived_missing": _arrived_missing,
    "coordinates_zero": _coordinates_zero,
    "coordinates_swapped": _coordinates_swapped,
    "coordinates_far": _coordinates_far,
    "impossible_speed": _impossible_speed,
    "absurd_duration": _absurd_duration,
}


def _drop_values(rng: np.random.Generator, trips: pl.DataFrame, dirt: float) -> pl.DataFrame:
    present = {name: pl.Series(rng.random(len(trips)) >= rate * dirt) for name, rate in MISSING_RATES.items()}
    present["driver_lon"] = present["driver_lat"]
    return trips.with_columns(pl.when(keep).then(pl.col(name)) for name, keep in present.items())


def _asked_again(rng: np.random.Generator, hurt: pl.DataFrame) -> pl.DataFrame:
    later = pl.Series(rng.integers(1, 16, len(hurt)) * MICROSECONDS_PER_SECOND)
    return hurt.with_columns(requested_at=pl.col("requested_at") + later)


def _come_late(rng: np.random.Generator, trips: pl.DataFrame, dirt: float) -> pl.DataFrame:
    is_late = rng.random(len(trips)) < LATE_RATE * dirt
    late_s = np.where(is_late, rng.exponential(90, len(trips)), 0)
    return trips.with_columns(
        came_at=pl.col("requested_at") + pl.Series(late_s * MICROSECONDS_PER_SECOND).cast(pl.Int64)
    )
