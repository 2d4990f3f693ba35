"""The distribution of one number, counted by part over blocks: in fine bins, told in a few that can be looked at."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.preparation.split import PARTS

_N_FINE = 16_384  # bins while counting; memory is 131 kB a column and part
_N_SHOWN = 40
_TAIL = 0.005  # share of the rows left out of a picture at each end
_DRIFT_BINS = 10
_AT_ONCE = 65_536  # values; half a megabyte stays in a core's cache


class NumberCounts:
    """How often values fall into each of 16,384 bins from `low` to `high`, below and above them, by part."""

    def __init__(self, low: float | None, high: float | None) -> None:
        self._low, self._high = low, high
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums, self._known = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0)
        self._zeros = dict.fromkeys(PARTS, 0)
        self._limits: dict[str, tuple[float, float]] = {}
        self._is_whole = True

    @property
    def has_values(self) -> bool:
        return bool(self._limits)

    def add(self, part: str, column: pl.Series, some: pl.Series) -> None:
        """Limits and mean by all values of a block, bins by `some` of them; missing ones do not count."""
        low, high = column.min(), column.max()
        if not isinstance(low, int | float) or not isinstance(high, int | float):  # null: every value is missing
            return
        self._fix_range(float(low), float(high))
        before = self._limits.get(part, (np.inf, -np.inf))
        self._limits[part] = (min(before[0], float(low)), max(before[1], float(high)))
        self._sums[part] += float(column.sum())
        self._known[part] += column.count()
        self._zeros[part] += int((some == 0).sum())
        self._is_whole = self._is_whole and bool((some == some.floor()).all())
        counts = self._count(some.to_numpy())
        self._counts[part] = self._counts.get(part, np.zeros(_N_FINE + 2, np.int64)) + counts

    def to_dict(self) -> dict[str, Any]:
        """The picture's bins with counts by part, the rows beyond them, and figures of each part."""
        start, width, n_bins = self._shown_bins()
        place = np.clip(np.floor((self._centres() - start) / width), -1, n_bins).astype(np.int64)
        shown, below, above = {}, {}, {}
        for part in PARTS:
            fine = self._counts.get(part, np.zeros(_N_FINE + 2, np.int64))
            inside = (place >= 0) & (place < n_bins)
            shown[part] = np.bincount(place[inside], weights=fine[inside], minlength=n_bins).astype(int).tolist()
            below[part], above[part] = int(fine[place < 0].sum()), int(fine[place >= n_bins].sum())
        figures = {part: self._figures(part) for part in PARTS if part in self._counts}
        bins = {
            "start": start,
            "width": width,
            "is_whole": self._is_whole,
            "counts": shown,
            "below": below,
            "above": above,
        }
        return {**bins, "figures": figures, "drift": self._drift()}

    def _fix_range(self, low: float, high: float) -> None:
        span = (high - low) or abs(high) or 1.0
        self._low = low - span if self._low is None else self._low
        self._high = max(high + span, self._low + span) if self._high is None else self._high

    def _count(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Rows below the range, in each bin with the upper limit in the last, and above; missing ones nowhere.

        A few at a time through small buffers: measured, a third of the time of whole columns.
        """
        assert self._low is not None and self._high is not None  # noqa: PT018
        scale = _N_FINE * (1 - 1e-12) / (self._high - self._low)
        counts, place = np.zeros(_N_FINE + 3, np.int64), np.empty(_AT_ONCE)
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            part = np.subtract(some, self._low, out=place[: len(some)])
            np.multiply(part, scale, out=part)
            np.add(part, 1, out=part)
            np.clip(part, 0, _N_FINE + 1, out=part)
            part[np.isnan(part)] = _N_FINE + 2
            counts += np.bincount(part.astype(np.intp), minlength=_N_FINE + 3)
        return counts[:-1]

    def _centres(self) -> NDArray[np.float64]:
        """The middle of each bin; what is below or above is infinitely far."""
        assert self._low is not None and self._high is not None  # noqa: PT018
        inner = self._low + (np.arange(_N_FINE) + 0.5) * (self._high - self._low) / _N_FINE
        return np.concatenate([[-np.inf], inner, [np.inf]])

    def _quantile(self, share: float, *parts: str) -> float:
        """Exact for whole numbers and for 0, else within its bin in proportion; never beyond the values there are."""
        assert self._low is not None and self._high is not None  # noqa: PT018
        counts = np.sum([self._counts[part] for part in parts], axis=0)
        cumulated, width = np.cumsum(counts), (self._high - self._low) / _N_FINE
        rank = share * cumulated[-1]
        place = int(np.searchsorted(cumulated, rank, side="left"))
        before = cumulated[place - 1] if place else 0
        value = self._low + (place - 1 + (rank - before) / max(int(counts[place]), 1)) * width
        if place == int((0 - self._low) / width + 1) and 2 * sum(self._zeros[part] for part in parts) > counts[place]:
            value = 0.0
        if self._is_whole and width <= 0.5:
            value = round(self._low + (place - 0.5) * width)
        lows, highs = zip(*(self._limits[part] for part in parts), strict=True)
        return float(np.clip(value, min(lows), max(highs)))

    def _figures(self, part: str) -> dict[str, float]:
        low, high = self._limits[part]
        quantiles = {f"p{share}": self._quantile(share / 100, part) for share in (10, 50, 90, 99)}
        return {"min": low, **quantiles, "max": high, "mean": self._sums[part] / self._known[part]}

    def _shown_bins(self) -> tuple[float, float, int]:
        """Where a picture starts, its bins' width and their number: whole numbers get bins of whole numbers."""
        low, high = (self._quantile(share, *self._counts) for share in (_TAIL, 1 - _TAIL))
        if self._is_whole:
            width = max(1.0, float(np.ceil((high - low + 1) / _N_SHOWN)))
            return float(np.floor(low)) - 0.5, width, int(np.ceil((high - low + 1) / width))
        width = (high - low) / _N_SHOWN or 1.0
        return low, width, _N_SHOWN

    def _drift(self) -> float | None:
        """PSI from train to test over train's tenths."""
        if not {"train", "test"} <= self._counts.keys():
            return None
        train, test = self._counts["train"], self._counts["test"]
        edges = np.unique(np.searchsorted(np.cumsum(train), np.arange(1, _DRIFT_BINS) * train.sum() / _DRIFT_BINS))
        starts = np.concatenate([[0], edges + 1])
        return population_stability(np.add.reduceat(train, starts), np.add.reduceat(test, starts))


def population_stability(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """PSI of two counts over the same bins: below 0.1 alike, above 0.25 another distribution.

    An empty bin counts as half a row, so that one new value does not make it infinite.
    """
    p, q = (np.maximum(counts.astype(float), 0.5) for counts in (before, after))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())
