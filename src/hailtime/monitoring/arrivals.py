"""What was said against what happened, as counts on a fixed grid: they add up over hours, and the page draws them.

for arrivals in arrivals_of(rows, label_delay_s=7200): ...  # rows of `log_source.hour`
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

# 19 % wide: half a minute to two hours in 32 steps; what is beyond is in the first and the last
TIME_EDGES_S = np.geomspace(30.0, 7200.0, 33)
N_BINS = len(TIME_EDGES_S) - 1


@dataclass(frozen=True)
class Arrivals:
    """Trips of an hour and a version that came true.

    - grid: (N_BINS, N_BINS) counts, said time by actual time
    - n_late: how many were reported only when their hour had counted as complete
    """

    version: str
    grid: NDArray[np.int32]
    n_late: int


def arrivals_of(rows: pl.DataFrame, label_delay_s: float) -> list[Arrivals]:
    """One for each version of the rows."""
    arrived = rows.filter(pl.col("pickup_time_s").is_not_null())
    late_us = (pl.col("requested_at_s") + label_delay_s) * 1_000_000
    return [
        Arrivals(
            str(version),
            grid_of(some["p50_s"].to_numpy(), some["pickup_time_s"].to_numpy()),
            some.filter(pl.col("reported_at_us") > late_us).height,
        )
        for (version,), some in arrived.group_by("version", maintain_order=True)
    ]


def grid_of(said_s: NDArray[np.float64], actual_s: NDArray[np.float64]) -> NDArray[np.int32]:
    """How many fall into each field of the grid."""
    place = _bins(said_s) * N_BINS + _bins(actual_s)
    return np.bincount(place, minlength=N_BINS * N_BINS).astype(np.int32).reshape(N_BINS, N_BINS)


def added(grids: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
    """The sum of grids, all 0 without any."""
    total = np.zeros((N_BINS, N_BINS), np.int64)
    for grid in grids:
        total += grid
    return total


def _bins(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(TIME_EDGES_S, seconds, side="right") - 1, 0, N_BINS - 1)
