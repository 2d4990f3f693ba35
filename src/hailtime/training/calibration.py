"""Intervals that hold what they promise: factors on both sides of the median, fitted on the calibration part.

One pair of factors is for all rows; a slice that is large enough has a pair of its own on top: an hour, a zone, a kind
of weather. All are lookups in the graph.

Axes: B rows, N numeric and K categorical features, S slicings, M slices of all slicings together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from hailtime.schema import Schema
from hailtime.slices import band_cuts
from hailtime.training.features import FeatureSpec, categorical_feature_names, numeric_feature_names

MIN_BLOCK_ROWS = 500  # a block's factor has then a standard error of about 5 %
MIN_SLICE_ROWS = 500
# A slice is large enough for a factor of its own when its tail differs from a tenth by two standard errors or more:
# measured, docs/experiments.md; without it the noise of small slices made intervals worse on the simulated city.
STANDARD_ERRORS = 2.0
HOUR = "hour_local"
HALF_A_SECOND_H = 0.5 / 3600


@dataclass(frozen=True)
class Slicing:
    """A feature by which rows are told apart, and a factor below and above the median for each slice.

    A categorical feature (`cuts` is None) has a slice for each code. A numeric one has a slice up to each cut, one
    above the last, and one for missing values.
    """

    feature: str
    column: int  # of x_cat, or of x_num where there are cuts
    cuts: list[float] | None
    below: list[float]
    above: list[float]


class Calibration(nn.Module):
    """Stretches both sides of the interval so that each tail holds a tenth of the calibration part.

    - Input: (B, 3) seconds, x_num (B, N), x_cat (B, K)
    - Output: (B, 3) seconds

    Conformalised quantile regression (Romano et al. 2019). NOTE[DIFF] paper: one offset added to both ends; here: a
    factor on each side's distance to the median; because: the interval keeps its shape, short where sure, and the
    quantiles cannot cross.
    """

    overall: Tensor

    def __init__(
        self, below: float = 1.0, above: float = 1.0, slicings: Sequence[Mapping[str, Any]] | Sequence[Slicing] = ()
    ) -> None:
        super().__init__()
        self.slicings = [s if isinstance(s, Slicing) else Slicing(**s) for s in slicings]
        self.register_buffer("overall", torch.tensor([below, 1.0, above]))
        self.by_slice = SliceFactors(self.slicings) if self.slicings else None

    def forward(self, quantiles_s: Tensor, x_num: Tensor, x_cat: Tensor) -> Tensor:
        factors = self.overall if self.by_slice is None else self.overall * self.by_slice(x_num, x_cat)
        median = quantiles_s[:, 1:2]
        return median + (quantiles_s - median) * factors

    def settings(self) -> dict[str, Any]:
        """What builds the same calibration again: the content of calibration.json."""
        below, _, above = self.overall.tolist()
        return {"below": below, "above": above, "slicings": [asdict(slicing) for slicing in self.slicings]}


class SliceFactors(nn.Module):
    """The product of a row's factors over all slicings. x_num (B, N), x_cat (B, K) → (B, 3): below, 1 and above."""

    cuts_SC: Tensor
    first_S: Tensor
    missing_S: Tensor
    factors_M3: Tensor
    numeric: Tensor
    categorical: Tensor

    def __init__(self, slicings: Sequence[Slicing]) -> None:
        super().__init__()
        numeric = [s for s in slicings if s.cuts is not None]
        ordered = [*numeric, *(s for s in slicings if s.cuts is None)]
        n_cuts = max((len(s.cuts or []) for s in numeric), default=0)
        padded = [[*(s.cuts or []), *[torch.inf] * (n_cuts - len(s.cuts or []))] for s in numeric]
        columns = [s.column for s in ordered]
        self.register_buffer("numeric", torch.tensor(columns[: len(numeric)], dtype=torch.int64))
        self.register_buffer("categorical", torch.tensor(columns[len(numeric) :], dtype=torch.int64))
        self.register_buffer("cuts_SC", torch.tensor(padded))
        self.register_buffer("missing_S", torch.tensor([len(s.below) - 1 for s in numeric]))
        sizes = torch.tensor([0, *(len(s.below) for s in ordered)])
        self.register_buffer("first_S", sizes.cumsum(0)[:-1])
        factors = [[below, 1.0, above] for s in ordered for below, above in zip(s.below, s.above, strict=True)]
        self.register_buffer("factors_M3", torch.tensor(factors))

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        places = [x_cat.index_select(1, self.categorical)] if len(self.categorical) else []
        if len(self.numeric):
            x_BS = x_num.index_select(1, self.numeric)
            band_BS = (x_BS[:, :, None] > self.cuts_SC).sum(dim=2)
            places = [torch.where(torch.isnan(x_BS), self.missing_S, band_BS), *places]
        place_BS = (torch.cat(places, dim=1) if len(places) > 1 else places[0]) + self.first_S
        return functional.embedding(place_BS, self.factors_M3).prod(dim=1)


def slicings_of(schema: Schema, spec: FeatureSpec, columns: Sequence[str], train: pl.DataFrame) -> list[Slicing]:
    """The local hour, the pickup's zone and the columns named that are inputs, all with factors of 1.

    Numbers are cut where `band_cuts` says for the training part.
    """
    numbers, categories = numeric_feature_names(schema), categorical_feature_names(schema)
    hours = [hour - HALF_A_SECOND_H for hour in range(1, 24)]  # between two seconds, so that no rounding decides
    slicings = [_slicing(HOUR, numbers.index(HOUR), hours, 25)]
    for name in dict.fromkeys([*([schema.zone] if schema.zone else []), *columns]):
        if name in categories:
            column = categories.index(name)
            slicings.append(_slicing(name, column, None, spec.cardinalities[column]))
        elif name in numbers:
            cuts = band_cuts(train[name])
            slicings.append(_slicing(name, numbers.index(name), cuts, len(cuts) + 2))
    return slicings


def _slicing(feature: str, column: int, cuts: list[float] | None, n: int) -> Slicing:
    return Slicing(feature, column, cuts, [1.0] * n, [1.0] * n)


def fit_calibration(
    quantiles_s: Tensor,
    target_s: Tensor,
    x_num: Tensor,
    x_cat: Tensor,
    slicings: Sequence[Slicing] = (),
    *,
    n_blocks: int = 6,
    guard: float = 0.5,
    min_slice_rows: int = MIN_SLICE_ROWS,
) -> Calibration:
    """The factors at which a tenth of the targets lie below P10 and a tenth above P90, also in the weeks to come.

    - quantiles_s (B, 3), target_s (B,), x_num (B, N), x_cat (B, K), rows in the order of time

    NOTE[DIFF] paper: one quantile of all rows, which promises 80 % if the future is the past again; here: the mean over
    consecutive blocks of time plus half their standard deviation; because: it is not (measured on nyc_ems: 77.9 % of
    the next half year inside without the guard, 78.9 % with it; 80.2 and 80.5 % on the simulated city).
    """
    low, median, high = quantiles_s.unbind(dim=1)
    needed = torch.stack([median - target_s, target_s - median])
    needed = needed / torch.stack([median - low, high - median]).clamp(min=1e-3)
    fitted = fit_slices(needed, x_num, x_cat, slicings, min_slice_rows)
    if fitted:
        needed = needed / SliceFactors(fitted)(x_num, x_cat)[:, ::2].T
    n_blocks = max(1, min(n_blocks, len(target_s) // MIN_BLOCK_ROWS))
    factors = torch.stack([_finite_sample_quantile(block) for block in needed.tensor_split(n_blocks, dim=1)])
    spread = factors.std(dim=0) if n_blocks > 1 else torch.zeros(2)
    below, above = (factors.mean(dim=0) + guard * spread).clamp(min=0.0).tolist()
    return Calibration(below, above, fitted)


def fit_slices(
    needed: Tensor, x_num: Tensor, x_cat: Tensor, slicings: Sequence[Slicing], min_rows: int, n_rounds: int = 4
) -> list[Slicing]:
    """Factors of slices relative to all rows, each fitted given the others, in rounds; 1 where a slice is too small.

    Slicings without any other factor are left out: each costs 3 µs a call (measured).

    - needed (2, B): the factor at which the row's target would lie just on P10, on P90
    """
    factors = [torch.ones(2, len(slicing.below)) for slicing in slicings]
    places = [place_in(slicing, x_num, x_cat) for slicing in slicings]
    for _ in range(n_rounds):
        for i, (own, place) in enumerate(zip(factors, places, strict=True)):
            others = [f[:, p] for j, (f, p) in enumerate(zip(factors, places, strict=True)) if j != i]
            rest = needed / torch.stack([torch.ones_like(needed), *others]).prod(dim=0)
            of_all = _finite_sample_quantile(rest)
            for code in torch.unique(place):
                rows = rest[:, place == code]
                if rows.shape[1] >= min_rows:
                    own[:, code] = _own_factor(rows, of_all)
    return [
        Slicing(s.feature, s.column, s.cuts, *(side.tolist() for side in own))
        for s, own in zip(slicings, factors, strict=True)
        if (own != 1).any()
    ]


def _own_factor(rows: Tensor, of_all: Tensor) -> Tensor:
    """(2, n) needed in a slice, (2,) needed by all → (2,) the slice's factor, less what may be noise of it.

    z is how many standard errors the slice's tail is away from a tenth; the exponent 1 − (2 / z)² is nothing at two
    and nearly all at six, as a positive-part James-Stein estimate is.
    """
    share = (rows > of_all[:, None]).float().mean(dim=1)
    z = (share - 0.1).abs() / (0.1 * 0.9 / rows.shape[1]) ** 0.5
    exponent = (1 - (STANDARD_ERRORS / z) ** 2).clamp(min=0.0)
    # 0.2 to 5: a base for the power, and no slice is trusted to be further off
    ratio: Tensor = (_finite_sample_quantile(rows) / of_all).clamp(min=0.2, max=5.0)
    factor: Tensor = ratio**exponent
    return factor


def place_in(slicing: Slicing, x_num: Tensor, x_cat: Tensor) -> Tensor:
    """(B,) int64: which slice of a slicing each row is in."""
    if slicing.cuts is None:
        return x_cat[:, slicing.column]
    x = x_num[:, slicing.column]
    band = (x[:, None] > torch.tensor(slicing.cuts)).sum(dim=1)
    return torch.where(torch.isnan(x), len(slicing.cuts) + 1, band)


def _finite_sample_quantile(needed: Tensor) -> Tensor:
    """(2, n) → (2,): the 0.9 (n + 1) / n quantile, which holds for the next row, not only for these."""
    n = needed.shape[1]
    return torch.quantile(needed, min(1.0, 0.9 * (n + 1) / n), dim=1)
