"""One hour of the log as sums that add up: over versions, zones, hours and days.

    sums = summarise(rows, slices)  # rows of `log_source.hour`; a frame with a row for each version, path and slice

A sum is what a measure is made of (`accuracy.py`): a month is the sum of its hours, and the page never reads the log.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from hailtime.schema import Schema

HOUR_S = 3600
KEYS = ("version", "path", "slice", "value")
# of an absolute error in seconds: 7 % wide, so that a P90 is right to 3 %; below a second and above two hours are open
ERROR_EDGES_S = np.geomspace(1.0, 7200.0, 131)
LATENCY_EDGES_S = np.geomspace(1e-4, 10.0, 116)  # 10 % wide
# E|Y - median| of a two-piece normal is the mean of its two deviations times this; P10 and P90 are 1.2816 of them away
_MEAN_DEVIATION = float(np.sqrt(2 / np.pi)) / (2 * 1.2815515655446004)

_IS_ARRIVED = pl.col("pickup_time_s").is_not_null()
_ERROR_S = pl.col("p50_s") - pl.col("pickup_time_s")  # below 0: the driver came later than was said
SUMS: dict[str, pl.Expr] = {
    "n": pl.len(),
    "n_arrived": _IS_ARRIVED.sum(),
    "n_cancelled": pl.col("cancelled_after_s").is_not_null().sum(),
    "n_changed": pl.col("n_changed").fill_null(0).gt(0).sum(),
    "sum_error_s": _ERROR_S.sum(),
    "sum_abs_s": _ERROR_S.abs().sum(),
    "sum_abs2_s2": (_ERROR_S**2).sum(),
    "n_inside": pl.col("pickup_time_s").is_between("p10_s", "p90_s").sum(),
    "n_above": (pl.col("pickup_time_s") > pl.col("p90_s")).sum(),
    # what the model itself expects: of all rows, and of those that have arrived
    "sum_expected_s": ((pl.col("p90_s") - pl.col("p10_s")) * _MEAN_DEVIATION).sum(),
    "sum_expected_arrived_s": ((pl.col("p90_s") - pl.col("p10_s")) * _MEAN_DEVIATION).filter(_IS_ARRIVED).sum(),
    "sum_predicted_s": pl.col("p50_s").sum(),
    "sum_actual_s": pl.col("pickup_time_s").sum(),
}


def with_inputs(rows: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """The rows with the inputs that the log kept as JSON, one column each; null where it kept none."""
    if "features" not in rows.columns:
        return rows
    inputs = {**dict.fromkeys(schema.numeric_names, pl.Float64), **dict.fromkeys(schema.categorical_names, pl.String)}
    kept = rows["features"].str.json_decode(pl.Struct(inputs))
    return rows.drop("features").hstack(kept.struct.unnest())


def summarise(rows: pl.DataFrame, slices: Mapping[str, pl.Expr]) -> pl.DataFrame:
    """Sums by version and path, of all rows (slice "") and by each slice's value.

    - rows: p10_s, p50_s, p90_s, latency_s, version, path, pickup_time_s, cancelled_after_s, n_changed and what slices
      read; one row a prediction, null where nothing is known of its end
    - slices: name → expression of a text, such as the zone; rows where it is null are in none of its values
    """
    whole = rows.with_columns(slice=pl.lit(""), value=pl.lit(""))
    frames = [whole.group_by(KEYS).agg(**SUMS, **_histograms())]
    for name, value in slices.items():
        cut = rows.with_columns(slice=pl.lit(name), value=value).filter(pl.col("value").is_not_null())
        frames.append(cut.group_by(KEYS).agg(**SUMS))
    return pl.concat(frames, how="diagonal")


def _histograms() -> dict[str, pl.Expr]:
    """How many absolute errors and latencies fall into each bin, as a list."""
    return {
        "errors": _counts(_ERROR_S.abs().drop_nulls(), ERROR_EDGES_S),
        "latencies": _counts(pl.col("latency_s"), LATENCY_EDGES_S),
    }


def _counts(values: pl.Expr, edges: Any) -> pl.Expr:
    def count(column: pl.Series) -> pl.Series:
        place = np.searchsorted(edges, column.to_numpy(), side="right")
        return pl.Series([np.bincount(place, minlength=len(edges) + 1).tolist()], dtype=pl.List(pl.Int64))

    return values.map_batches(count, return_dtype=pl.List(pl.Int64), returns_scalar=True)
