"""Measures from sums: how far the answers were off, with the band that the number of trips allows.

measures(sums, by=["hour_s", "version"], now_s=now_s, label_delay_s=7200)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.monitoring.hours import ERROR_EDGES_S, HOUR_S, LATENCY_EDGES_S, SUMS

Z_95 = 1.959963984540054


def measures(sums: pl.DataFrame, by: Sequence[str], now_s: float, label_delay_s: float) -> pl.DataFrame:
    """One row for each value of `by`, sorted by it.

    - sums: of `hours.summarise`, with `hour_s`; of one slice only, since a row is in several
    - mae_s, bias_s (below 0: drivers came later than was said), p90_error_s, coverage: of trips that have arrived
    - mae_low_s, mae_high_s and the like: 95 % bands, as wide as the number of trips makes them
    - expected_mae_s: what the model's own quantiles say of all trips, before any has arrived; expected_arrived_mae_s:
      of those that have, to be held against mae_s
    - is_complete: whether all that will arrive has, by `label_delay_s`. Before that the short trips are in, and not yet
      the long ones, so the error looks smaller than it is.
    """
    names = list(by)
    added = sums.group_by(names).agg(
        *(pl.col(name).sum() for name in SUMS),
        pl.col("hour_s").max().alias("last_hour_s"),
        *(_added(name) for name in ("errors", "latencies") if name in sums.columns),
    )
    arrived = pl.col("n_arrived")
    told = added.with_columns(
        arrived=arrived / pl.col("n"),
        cancelled=pl.col("n_cancelled") / pl.col("n"),
        mae_s=pl.col("sum_abs_s") / arrived,
        bias_s=pl.col("sum_error_s") / arrived,
        coverage=pl.col("n_inside") / arrived,
        above=pl.col("n_above") / arrived,
        expected_mae_s=pl.col("sum_expected_s") / pl.col("n"),
        expected_arrived_mae_s=pl.col("sum_expected_arrived_s") / arrived,
        predicted_s=pl.col("sum_predicted_s") / pl.col("n"),
        actual_s=pl.col("sum_actual_s") / arrived,
        is_complete=pl.col("last_hour_s") + HOUR_S + label_delay_s <= now_s,
    )
    told = told.with_columns(
        _abs_band=Z_95 * ((pl.col("sum_abs2_s2") / arrived - pl.col("mae_s") ** 2).clip(0) / arrived).sqrt(),
        _error_band=Z_95 * ((pl.col("sum_abs2_s2") / arrived - pl.col("bias_s") ** 2).clip(0) / arrived).sqrt(),
    )
    coverage_low, coverage_high = wilson(pl.col("n_inside"), arrived)
    told = told.with_columns(
        mae_low_s=pl.col("mae_s") - pl.col("_abs_band"),
        mae_high_s=pl.col("mae_s") + pl.col("_abs_band"),
        bias_low_s=pl.col("bias_s") - pl.col("_error_band"),
        bias_high_s=pl.col("bias_s") + pl.col("_error_band"),
        coverage_low=coverage_low,
        coverage_high=coverage_high,
    )
    if "errors" in told.columns:
        told = told.with_columns(
            p90_error_s=_quantiles(told["errors"], ERROR_EDGES_S, 0.9),
            latency_p50_s=_quantiles(told["latencies"], LATENCY_EDGES_S, 0.5),
            latency_p99_s=_quantiles(told["latencies"], LATENCY_EDGES_S, 0.99),
        )
    left_out = {"errors", "latencies", "_abs_band", "_error_band", *SUMS} - {"n", "n_arrived", "n_cancelled"}
    # 0 trips divided by 0 trips is nothing, not NaN
    return told.drop(*left_out, strict=False).fill_nan(None).sort(names)


def _added(name: str) -> pl.Expr:
    """Lists added place by place; null lists count as nothing."""

    def add(column: pl.Series) -> pl.Series:
        lists = column.drop_nulls().to_list()
        return pl.Series([np.sum(lists, axis=0).tolist() if lists else None], dtype=pl.List(pl.Int64))

    return pl.col(name).map_batches(add, return_dtype=pl.List(pl.Int64), returns_scalar=True)


def wilson(hits: Any, n: Any) -> tuple[Any, Any]:
    """Wilson's 95 % band of a share, its lower and its upper end; of numbers or of expressions."""
    share, z2 = hits / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * (share * (1 - share) / n + z2 / (4 * n**2)) ** 0.5
    return middle - half, middle + half


def _quantiles(counts: pl.Series, edges: NDArray[np.float64], share: float) -> pl.Series:
    return pl.Series([quantile(found, edges, share) for found in counts.to_list()], dtype=pl.Float64)


def quantile(counts: Sequence[int] | None, edges: NDArray[Any], share: float) -> float | None:
    """The value below which a share of the counted lies, in proportion within its bin; None without any."""
    if counts is None or sum(counts) == 0:
        return None
    cumulated = np.cumsum(counts)
    rank = share * cumulated[-1]
    place = int(np.searchsorted(cumulated, rank))
    if place == 0:
        return float(edges[0])
    if place == len(edges):
        return float(edges[-1])
    before = cumulated[place - 1]
    within = (rank - before) / max(int(counts[place]), 1)
    return float(edges[place - 1] + within * (edges[place] - edges[place - 1]))
