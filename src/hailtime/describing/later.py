"""What cannot be known when the rider asks: by its name, or because it says the pickup time beyond belief."""

import numpy as np
import polars as pl

from hailtime.describing.columns import Column
from hailtime.describing.names import says

_WORDS = {
    "known later: money is settled after the trip": (
        "fare", "tip", "toll", "tax", "surcharge", "fee", "pay", "price", "amount", "cost", "revenue", "earning",
        "bcf", "charge", "commission", "payment", "payout"),
    "known later: what was driven is known at the end": (
        "tripmile", "tripdistance", "tripkm", "triplength", "mileage", "odometer", "milesdriven", "drivendistance",
        "triptime", "tripduration", "tripseconds", "tripminutes", "traveltime", "ridetime", "rideduration",
        "ridedistance", "duration", "elapsed", "dwell"),
    "known later: how it ended is known at the end": (
        "status", "outcome", "rating", "feedback", "cancel", "completed", "noshow", "disposition",
        "islate", "waslate", "lateness", "lateby", "delay",
        "ontime", "performance"),
    "known later: it is settled when a driver is matched": ("match", "matched", "dispatching", "assigned", "accepted"),
    "known later: the name says it is known in hindsight": ("true", "truth", "actual", "label"),
    "it says which part a row was put in": ("split", "fold", "partition"),
}  # fmt: skip
_CORRELATION = 0.95  # a routing engine's estimate reaches 0.79 in the simulated city
_EXPLAINED = 0.8  # of the target's rank variance, by a category: waits in classes of minutes


def by_name(name: str) -> str | None:
    """Why a column of this name is known only later, or None."""
    for why, words in _WORDS.items():
        word = says(name, words)
        if word is not None:
            return f"{why} ({word!r} in the name)"
    return None


def by_target(column: Column, target_s: pl.Series) -> str | None:
    """Why a column that says the target cannot be known at the request, or None."""
    if column.kind == "number":
        correlation = _rank_correlation(column.values, target_s)
        if abs(correlation) > _CORRELATION:
            return (
                f"its rank correlation with the pickup time is {correlation:.3f}: too good to be known at the request"
            )
    elif column.is_category and 2 < column.distinct < len(target_s) / 20:
        share = _explained(column.values, target_s)
        if share > _EXPLAINED:
            return f"it explains {share:.0%} of the pickup time: too good to be known at the request"
    return None


def _rank_correlation(values: pl.Series, target_s: pl.Series) -> float:
    both = pl.DataFrame({"x": values, "y": target_s}).drop_nulls()
    if both.height < 30:
        return 0.0
    x, y = (both[name].rank().to_numpy() for name in ("x", "y"))
    return 0.0 if x.std() == 0 or y.std() == 0 else float(np.corrcoef(x, y)[0, 1])


def _explained(values: pl.Series, target_s: pl.Series) -> float:
    both = pl.DataFrame({"x": values, "y": target_s}).drop_nulls()
    if both.height < 100 or both["y"].n_unique() == 1:
        return 0.0
    ranks = both.with_columns(pl.col("y").rank())
    means = ranks.select(pl.col("y").mean().over("x")).to_series()
    return float(means.var() / ranks["y"].var())  # type: ignore[operator, arg-type]
