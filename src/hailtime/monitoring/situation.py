"""The last minutes as a few measures, each with the number of rows that it stands on: what alerts look at.

Errors are those of trips that *arrived* in the window, whenever they were asked for: a trip arrives once, short or
long, so they are a fair sample at once, where trips *asked for* in the window would show the short ones first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from hailtime.monitoring.accuracy import Z_95, wilson
from hailtime.monitoring.drift import ColumnCounts, Drift, Histogram, drift_of, sentence
from hailtime.monitoring.hours import SUMS


@dataclass(frozen=True)
class Measure:
    """A value, the rows it stands on, and how low it may truly be (95 %): an alert wants that above its limit, too.

    `about` names what it is of, such as the columns.
    """

    value: float
    n: int
    low: float
    about: tuple[str, ...] = ()


@dataclass(frozen=True)
class Situation:
    """Measures by name; one that cannot be told is not there. `notes` are plain sentences on the inputs."""

    at_s: float
    measures: Mapping[str, Measure]
    notes: tuple[str, ...] = field(default=())


def of_arrivals(rows: pl.DataFrame) -> dict[str, Measure]:
    """`late_share`, `error_ratio`: of rows with pickup_time_s. Rows of the fallback rule, which has no real interval,
    are left out."""
    arrived = rows.filter(pl.col("pickup_time_s").is_not_null() & (pl.col("path") != "rule"))
    if arrived.is_empty():
        return {}
    sums = arrived.select(**SUMS).row(0, named=True)
    n = arrived.height
    mean, expected = sums["sum_abs_s"] / n, sums["sum_expected_s"] / n
    spread = max(sums["sum_abs2_s2"] / n - mean**2, 0.0) ** 0.5
    measures = {"late_share": share(sums["n_above"], n)}
    if expected > 0:
        measures["error_ratio"] = Measure(mean / expected, n, (mean - Z_95 * spread / n**0.5) / expected)
    return measures


def of_requests(rows: pl.DataFrame, histograms: Mapping[str, Histogram], target: str) -> dict[str, Measure]:
    """`missing_points`, `new_share`, `fallback_share`: of rows with the inputs that were kept."""
    if rows.is_empty():
        return {}
    measures = {"fallback_share": share(rows.filter(pl.col("path") != "triton").height, rows.height)}
    drifts = drifts_of(count_columns(rows, histograms, target), histograms)
    if drifts:
        points = {name: drift.missing - drift.missing_before for name, drift in drifts.items()}
        measures["missing_points"] = _worst(points, drifts)
        measures["new_share"] = _worst({name: drift.new_share for name, drift in drifts.items()}, drifts)
    return measures


def of_a_day(counts: Mapping[str, ColumnCounts], histograms: Mapping[str, Histogram]) -> dict[str, Measure]:
    """`moved_share`: of the columns, over whole days, because every night is unlike the mean of all hours."""
    drifts = drifts_of(counts, histograms)
    moved = tuple(name for name, drift in drifts.items() if drift.has_moved)
    n = min((drift.rows for drift in drifts.values()), default=0)
    value = len(moved) / len(drifts) if drifts else 0.0
    return {"moved_share": Measure(value, n, value, moved)} if drifts else {}


def notes_of(counts: Mapping[str, ColumnCounts], histograms: Mapping[str, Histogram]) -> tuple[str, ...]:
    """What is remarkable about the columns, a sentence each."""
    told = (sentence(name, drift) for name, drift in drifts_of(counts, histograms).items())
    return tuple(text for text in told if text)


def count_columns(rows: pl.DataFrame, histograms: Mapping[str, Histogram], target: str) -> dict[str, ColumnCounts]:
    """The inputs of rows that have any, in the model's bins."""
    names = [name for name in histograms if name != target]
    with_inputs = rows.filter(pl.any_horizontal(pl.col(names).is_not_null()))
    counts = {name: ColumnCounts.like(histograms[name]) for name in names}
    for name, column in counts.items():
        column.add(with_inputs[name])
    return counts


def drifts_of(counts: Mapping[str, ColumnCounts], histograms: Mapping[str, Histogram]) -> dict[str, Drift]:
    """By input column that has rows."""
    return {
        name: drift_of(histograms[name], counted)
        for name, counted in counts.items()
        if name in histograms and counted.rows > 0
    }


def share(hits: int, n: int) -> Measure:
    """A share with Wilson's lower end."""
    return Measure(hits / n, n, wilson(hits, n)[0])


def _worst(values: Mapping[str, float], drifts: Mapping[str, Drift]) -> Measure:
    """The largest, and the columns from half of it on."""
    worst = max(values, key=lambda name: values[name])
    largest, n = values[worst], drifts[worst].rows
    about = sorted((name for name, value in values.items() if value >= largest / 2), key=lambda name: -values[name])
    band = Z_95 * (max(largest * (1 - largest), 0.0) / n) ** 0.5
    return Measure(largest, n, largest - band, tuple(about) if largest > 0 else ())
