"""How far what is asked now is from what the model was trained on: effect sizes from counts on the same bins.

    counts = {name: ColumnCounts.like(reference) for name, reference in histograms.items()}
    counts["rain_mm_h"].add(frame["rain_mm_h"])
    drift_of(histograms["rain_mm_h"], counts["rain_mm_h"])

The bins are those that travel in the model (`histograms.py`), so memory does not grow with the rows, and counts of
hours add up to counts of days. Effect sizes, not p-values: above 100,000 rows a KS test calls a shift of 0.5 % certain,
and nobody should be woken by it.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.preparation.profile_numbers import population_stability

Histogram = Mapping[str, Any]  # of one column, as in `histograms.reference_histograms`

LEAST_ROWS = 1000  # below about 200 rows PSI raises false alarms by chance (measured while planning)
MOVED_PSI, MOVED_WASSERSTEIN = 0.25, 0.5  # the field's customs: 0.1 worth a look, 0.25 another distribution
MISSING_POINTS = 0.05  # that more of the values are missing than in training
NEW_SHARE = 0.02  # of values that training never saw
_AT_ONCE = 65_536  # values; half a megabyte stays in a core's cache


@dataclass
class ColumnCounts:
    """Live values of one column in the bins of its reference; `rows` with the missing ones.

    - numbers: `edges`, and `counts` of len(edges) + 1 bins
    - categories: `known`, the values of the reference, and `values`, a Counter of theirs and all others' counts
    """

    edges: NDArray[np.float32] | None
    known: frozenset[str]
    counts: NDArray[np.int64]
    values: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    rows: int = 0

    @classmethod
    def like(cls, reference: Histogram) -> Self:
        """No rows yet."""
        if "edges" not in reference:
            return cls(None, frozenset(reference["counts"]), np.zeros(0, np.int64))
        edges = np.asarray(reference["edges"], np.float32)
        return cls(edges, frozenset(), np.zeros(len(edges) + 1, np.int64))

    def add(self, column: pl.Series) -> None:
        """Counts a block; null and NaN are missing, "" is for categories."""
        self.rows += len(column)
        if self.edges is None:
            self._add_texts(column)
        else:
            self._add_numbers(column.cast(pl.Float32).to_numpy())

    def add_counts(self, other: Self) -> None:
        """What was counted elsewhere, such as in another hour."""
        self.rows, self.missing = self.rows + other.rows, self.missing + other.missing
        self.counts, self.values = self.counts + other.counts, self.values + other.values

    def _add_numbers(self, values: NDArray[np.float32]) -> None:
        assert self.edges is not None
        n_bins = len(self.edges) + 1
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            place = np.searchsorted(self.edges, some, side="right")
            n_missing = int(np.isnan(some).sum())
            if n_missing:
                place[np.isnan(some)] = n_bins
            self.missing += n_missing
            self.counts += np.bincount(place, minlength=n_bins + 1)[:n_bins]

    def _add_texts(self, column: pl.Series) -> None:
        for value, n in column.value_counts().iter_rows():
            if value is None or value == "":
                self.missing += n
            else:
                self.values[value] += n


@dataclass(frozen=True)
class Drift:
    """How a column moved; None where it has no such measure.

    - psi: population stability index over the reference's bins
    - ks: largest difference of the cumulated shares, 0 to 1
    - wasserstein: how far values moved on average, in the reference's standard deviations
    - missing, missing_before: shares of the rows; new_share: of the values, those that training never saw
    """

    rows: int
    psi: float
    ks: float | None
    wasserstein: float | None
    missing: float
    missing_before: float
    new_share: float
    new_values: tuple[str, ...] = ()

    @property
    def has_moved(self) -> bool:
        """Whether the values are another distribution, missing ones left out; never with fewer than 1,000 rows."""
        far = self.psi >= MOVED_PSI or (self.wasserstein or 0.0) >= MOVED_WASSERSTEIN
        return self.rows >= LEAST_ROWS and (far or self.new_share >= NEW_SHARE)

    @property
    def is_breaking(self) -> bool:
        """Whether values have stopped coming: missing more often than in training by 5 points."""
        return self.rows >= LEAST_ROWS and self.missing - self.missing_before >= MISSING_POINTS


def drift_of(reference: Histogram, live: ColumnCounts) -> Drift:
    """The distance of the live counts from the reference's."""
    before_missing = reference["missing"] / max(reference["rows"], 1)
    missing = live.missing / max(live.rows, 1)
    if live.edges is None:
        return _of_categories(reference, live, missing, before_missing)
    before = np.asarray(reference["counts"], np.int64)
    ks, moved = None, None
    if before.sum() and live.counts.sum():
        means, spread = np.asarray(reference["means"]), float(reference["spread"])
        ks = kolmogorov_smirnov(before, live.counts)
        moved = wasserstein(means, before, live.counts) / spread if spread > 0 else 0.0
    return Drift(live.rows, psi(before, live.counts), ks, moved, missing, before_missing, 0.0)


def _of_categories(reference: Histogram, live: ColumnCounts, missing: float, before_missing: float) -> Drift:
    known = list(reference["counts"])
    before = np.array([*reference["counts"].values(), reference["other"]], np.int64)
    others = {value: n for value, n in live.values.items() if value not in live.known}
    now = np.array([*(live.values[value] for value in known), sum(others.values())], np.int64)
    # where training had rare values left unnamed, a rare value is none that is new
    new = sum(others.values()) / max(int(now.sum()), 1) if reference["other"] == 0 else 0.0
    shown = tuple(sorted(others, key=lambda value: (-others[value], value))[:5]) if new else ()
    return Drift(live.rows, psi(before, now), None, None, missing, before_missing, new, shown)


def psi(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """Population stability index of counts over the same bins; 0 where one side has no rows."""
    return population_stability(before, after) if before.sum() and after.sum() else 0.0


def kolmogorov_smirnov(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """The statistic of two samples that fall into the same bins: scipy's `ks_2samp` on the bins' numbers."""
    return float(np.abs(_cumulated(before) - _cumulated(after)).max())


def wasserstein(means: NDArray[np.float64], before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """The way from one to the other in the column's unit, with each bin's rows at its mean in the reference."""
    order = np.argsort(means, kind="stable")
    apart = np.abs(_cumulated(before[order]) - _cumulated(after[order]))
    return float((apart[:-1] * np.diff(means[order])).sum())


def _cumulated(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.cumsum(counts) / max(int(counts.sum()), 1)


def sentence(name: str, drift: Drift) -> str:
    """What happened to a column in plain words; "" when nothing did."""
    if drift.rows < LEAST_ROWS:
        return ""
    if drift.is_breaking:
        return f"{name} is missing in {drift.missing:.1%} of the requests, in training in {drift.missing_before:.1%}"
    if drift.new_share >= NEW_SHARE:
        return f"{drift.new_share:.1%} of {name} are values that training never saw, such as {drift.new_values[0]!r}"
    if drift.has_moved and drift.wasserstein is not None and math.isfinite(drift.wasserstein):
        return (
            f"{name} is elsewhere than in training: by {drift.wasserstein:.1f} standard deviations, PSI {drift.psi:.2f}"
        )
    return f"{name} has other shares than in training: PSI {drift.psi:.2f}" if drift.has_moved else ""
