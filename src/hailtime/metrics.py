"""How good predictions are, as functions of arrays. Seconds throughout.

`predicted_s` is (n, 3): P10, P50, P90; or (n,): a single number. `actual_s` is (n,).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.schema import QUANTILES

Array = NDArray[np.floating[Any]]

WITHIN_S = 120.0  # the issue of a promise: a driver two minutes off is what a rider calls on time


def summary(predicted_s: Array, actual_s: Array) -> dict[str, float]:
    """All figures of one set of rows; the interval's only where quantiles are given."""
    middle = predicted_s[:, 1] if predicted_s.ndim == 2 else predicted_s
    error = middle.astype(np.float64) - actual_s
    size = np.abs(error)
    figures = {
        "n": float(len(actual_s)),
        "mae_s": size.mean(),
        "rmse_s": np.sqrt((error**2).mean()),
        "median_abs_error_s": np.median(size),
        "p90_abs_error_s": np.quantile(size, 0.9),
        "bias_s": error.mean(),  # positive: promised later than it came
        "within_2_min": (size <= WITHIN_S).mean(),
    }
    if predicted_s.ndim == 2:
        low, high = predicted_s[:, 0], predicted_s[:, 2]
        figures |= {
            "coverage_p10_p90": ((actual_s >= low) & (actual_s <= high)).mean(),
            "below_p10": (actual_s < low).mean(),
            "above_p90": (actual_s > high).mean(),
            "width_p10_p90_s": (high - low).mean(),
            "pinball_s": pinball_s(predicted_s, actual_s),
        }
    return {name: float(value) for name, value in figures.items()}


def pinball_s(predicted_s: Array, actual_s: Array) -> float:
    """Mean pinball loss over the three quantiles."""
    error = actual_s[:, None].astype(np.float64) - predicted_s
    quantiles = np.array(QUANTILES)
    return float(np.maximum(quantiles * error, (quantiles - 1) * error).mean())


def by_slice(predicted_s: Array, actual_s: Array, slices: Mapping[str, pl.Series]) -> dict[str, dict[str, Any]]:
    """`summary` for every value of every slicing column: {column: {value: figures}}."""
    result: dict[str, dict[str, Any]] = {}
    for name, labels in slices.items():
        values = labels.to_numpy()
        result[name] = {
            str(value): summary(predicted_s[values == value], actual_s[values == value])
            for value in labels.unique().sort().to_list()
        }
    return result
