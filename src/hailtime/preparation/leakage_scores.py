"""How much one column alone knows of the target, of the pickup itself and of outcomes that came later.

Arrays are of rows sorted by time; what a column does not say is NaN. `Outcomes` answers four questions about a column:

- `told`, `rank_correlation`: how much of the target does it tell? The target itself, also in another unit, tells all.
- `passing`: does the target ever pass it? A time span that ends after the pickup is never shorter than the wait.
- `best_shift`: does it equal the outcome of a trip some rows ahead?
- `knows_later`: does it know more of later outcomes than these outcomes know of each other? A mean over an hour that is
  not over yet does; no state of the world can.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_BINS = 256
_ROWS_A_BIN = 50  # fewer have no median worth the name
_ROUNDING_S = 1.0  # whole seconds, and times since 1970 as floats
_HALVES = (1, 4)  # later labels in a half: one for a single outcome, four for a mean over some


class Outcomes:
    """The target of some rows, and all that can be worked out of it once for every column.

    - requested_s, target_s: (rows,) float64, sorted by time
    - groups: name → (rows,) int64; trips of a group follow each other: one a city, one a zone
    """

    def __init__(self, requested_s: Floats, target_s: Floats, groups: dict[str, Ints]) -> None:
        self.requested_s, self.target_s, self.groups = requested_s, target_s, groups
        self.rank = ranks(target_s)
        self._fold = np.arange(len(target_s)) % 2
        self._by_target = np.argsort(target_s, kind="stable")
        self._alone = np.array([np.median(target_s[self._fold == other]) for other in (1, 0)])
        self._order = {name: np.argsort(group, kind="stable") for name, group in groups.items()}
        self._spectra = {name: _spectrum(self.rank[order]) for name, order in self._order.items()}
        self._later = {name: _later_halves(requested_s, target_s, group) for name, group in groups.items()}
        self._world = {name: [_world(*halves) for halves in later] for name, later in self._later.items()}

    def told(self, bins: Ints) -> tuple[Floats, float]:
        """The median of each row's bin, out of fold, and the share of the absolute deviation this explains.

        Below 0 for bins that say nothing.
        """
        cell = 2 * bins + self._fold  # of a bin and a fold
        # in 16 bits, where they are enough, numpy sorts by radix: a tenth of the time
        short = cell.astype(np.min_scalar_type(int(cell.max())))
        order = self._by_target[np.argsort(short[self._by_target], kind="stable")]
        n_rows = np.bincount(cell, minlength=2 * int(bins.max()) + 2)
        middle = _middles(self.target_s[order], n_rows)
        other, alone = cell ^ 1, self._alone[self._fold]
        told = np.where(n_rows[other] >= _ROWS_A_BIN // 2, middle[other], alone)
        off, off_alone = (float(np.abs(self.target_s - guess).sum()) for guess in (told, alone))
        return told, 1.0 - off / off_alone if off_alone > 0 else 0.0

    def rank_correlation(self, rank: Floats) -> float:
        """Spearman's, over the rows that have a value; its sign is left out."""
        return abs(_correlation(rank, self.rank))

    def passing(self, x_s: Floats) -> float:
        """The share of rows whose target is above the column, by more than rounding."""
        known = np.isfinite(x_s)
        return float(np.mean(self.target_s[known] > x_s[known] + _ROUNDING_S)) if known.any() else 1.0

    def passing_by_chance(self, x_s: Floats) -> float:
        """The same share if the column's values were dealt out anew."""
        known = np.isfinite(x_s)
        values, target_s = np.sort(x_s[known] + _ROUNDING_S), np.sort(self.target_s[known])
        return float(np.searchsorted(values, target_s, side="left").mean() / max(len(values), 1))

    def best_shift(self, rank: Floats, group: str) -> tuple[float, int]:
        """How sharply the column equals the target of the k-th next row of its group, 0 to 1, and that k.

        The correlation at k less that around it: what the world is like shows at all shifts alike, an outcome at one.
        """
        n_rows = len(rank)
        spectrum = np.conj(_spectrum(np.where(np.isfinite(rank), rank, 0.5)[self._order[group]]))
        at_shift = np.abs(np.fft.irfft(spectrum * self._spectra[group])[: max(n_rows // 2, 3)])
        sharpness = at_shift[1:-1] - np.maximum(at_shift[:-2], at_shift[2:])
        best = int(np.argmax(sharpness))
        return float(sharpness[best]), best + 1

    def knows_later(self, rank: Floats, group: str) -> tuple[float, float]:
        """How the column goes with the mean of later outcomes, and the most that anything but outcomes can.

        Of the labels of the group that became known after the request, every other one is in one half. Both halves live
        in the same world, so the root of their correlation is how much of a half is the world; the rest is chance that
        nobody knows before it happens. Of the numbers of labels tried, the one that says most.
        """
        now = _within(rank, self.groups[group])
        knows = [max(abs(_correlation(now, half)) for half in halves) for halves in self._later[group]]
        return max(zip(knows, self._world[group], strict=True), key=lambda pair: pair[0] - pair[1])


def ranks(x: Floats) -> Floats:
    """0 to 1, ties in the middle of their places; NaN stays."""
    column = pl.Series(x).fill_nan(None)
    known = max(len(column) - column.null_count(), 1)
    return ((column.rank("average") - 0.5) / known).cast(pl.Float64).fill_null(np.nan).to_numpy()


def bins_of(rank: Floats) -> Ints:
    """Up to 256 bins of as many rows each, ties in one; what is missing is one of its own."""
    known = np.isfinite(rank)
    n_bins = int(np.clip(known.sum() // _ROWS_A_BIN, 1, _MOST_BINS))
    return np.where(known, np.where(known, rank, 0.0) * n_bins, n_bins).astype(np.int64)


def codes_of(texts: pl.Series) -> Ints:
    """A number for each text, and 0 for a missing one."""
    coded = texts.cast(pl.Categorical(pl.Categories.random()))
    return (coded.to_physical().cast(pl.Int64) + 1).fill_null(0).to_numpy()


def _middles(values: Floats, n_rows: Ints) -> Floats:
    """The median of each run of so many values, which are sorted within it; of an empty run some number."""
    first = np.cumsum(n_rows) - n_rows
    low, high = (np.clip(first + place, 0, len(values) - 1) for place in ((n_rows - 1) // 2, n_rows // 2))
    middles: Floats = (values[low] + values[high]) / 2
    return middles


def _later_halves(requested_s: Floats, target_s: Floats, groups: Ints) -> list[tuple[Floats, Floats]]:
    """For each row the mean of every other one of the next labels of its group, in the order they became known.

    Two halves for each of `_HALVES`, the numbers of labels in one.
    """
    label = _within(np.log(np.maximum(target_s, 1.0)), groups)
    known_s = requested_s + target_s
    order = np.lexsort((known_s, groups))
    first = _first_later(requested_s, groups, known_s[order], groups[order])
    place = first[:, None] + np.arange(2 * max(_HALVES) + 1)  # one more: the row's own label may be among them
    row = order[np.minimum(place, len(label) - 1)]
    is_other = (place < len(label)) & (groups[row] == groups[:, None]) & (row != np.arange(len(label))[:, None])
    labels = np.where(is_other, label[row], np.nan)
    return [(_row_means(labels[:, 0 : 2 * n + 1 : 2]), _row_means(labels[:, 1 : 2 * n + 1 : 2])) for n in _HALVES]


def _first_later(when_s: Floats, groups: Ints, known_s: Floats, known_groups: Ints) -> Ints:
    """For each row the place, in labels sorted by group and time, of the first that was not known yet."""
    start = min(known_s.min(), when_s.min())
    span = max(known_s.max(), when_s.max()) - start + 1.0
    place: Ints = np.searchsorted(
        known_groups * span + (known_s - start), groups * span + (when_s - start), side="right"
    )
    return place


def _world(one: Floats, other: Floats) -> float:
    """The root of the halves' correlation, at the most that it may be with so many rows: four standard errors."""
    n_rows = int(np.isfinite(one + other).sum())
    return float(np.sqrt(max(_correlation(one, other), 0.0) + 4 / np.sqrt(max(n_rows, 1))))


def _row_means(values: Floats) -> Floats:
    """NaN where a row has no value."""
    count = np.isfinite(values).sum(axis=1)
    return np.where(count > 0, np.nansum(values, axis=1) / np.maximum(count, 1), np.nan)


def _within(values: Floats, groups: Ints) -> Floats:
    """The values less the mean of their group."""
    known = np.isfinite(values)
    total, n_rows = np.bincount(groups, np.where(known, values, 0.0)), np.bincount(groups, known)
    return values - (total / np.maximum(n_rows, 1))[groups]


def _spectrum(x: Floats) -> NDArray[np.complex128]:
    """Padded by half its length or more, so that up to half of it the end does not meet the beginning."""
    length = 3 * len(x) // 2 + 1
    step = 2 ** max(length.bit_length() - 3, 1)  # 4 to 8 of them: a product of small primes is transformed fast
    return np.fft.rfft(_unit(x), -(-length // step) * step)


def _unit(x: Floats) -> Floats:
    """Mean 0 and length 1, so that a product of two is a correlation."""
    centred: Floats = x - x.mean()
    length = float(np.sqrt((centred**2).sum()))
    return centred / length if length > 0 else centred


def _correlation(x: Floats, y: Floats) -> float:
    known = np.isfinite(x) & np.isfinite(y)
    return float((_unit(x[known]) * _unit(y[known])).sum()) if known.sum() > 2 else 0.0
