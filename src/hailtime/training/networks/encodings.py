"""Four ways to turn numbers into vectors; `encoding:` of a network names one.

- `piecewise_linear`: a learned curve over the bins of the training part, the default
- `standard`: (x − mean) / standard deviation, then a linear map
- `quantile`: the normal score of x's place among the training rows, then a linear map
- `periodic`: sines and cosines of learned frequencies, then a linear map and ReLU

Each takes (B, N) float32 with NaN where missing and gives (B, N, D), with a learned point for a missing number.
Numbers beyond a feature's first or last edge (0.01 and 99.99 %) count as that edge, so that a meter fault cannot
throw a network off.

Axes: B rows, N numeric features, K bins of one feature at most, R bins of all features together, D embedding width.
"""

from typing import Any

import rtdl_num_embeddings
import torch
from torch import Tensor, nn
from torch.nn import functional

from hailtime.errors import ConfigError, did_you_mean
from hailtime.training.features import FeatureSpec

N_CELLS = 2048  # of the uniform grid that finds a bin by one lookup; `fit_features` rounds edges to the same grid


def number_encoding(name: str, features: FeatureSpec, d_embedding: int) -> nn.Module:
    """The encoding of that name for these features. ConfigError when there is none."""
    if name not in ENCODINGS:
        raise ConfigError(f"network.encoding has no choice {name!r}{did_you_mean(name, ENCODINGS)}")
    encoding: nn.Module = ENCODINGS[name](features, d_embedding)
    return encoding


class Bins(nn.Module):
    """In which bin each number lies, and how far into it.

    - Input: (B, N) float32, NaN where missing
    - Output: (B, N) int64 row of the bin among all features' bins, (B, N, 1) share of it from its left edge, 0 to 1
    """

    low_N: Tensor
    high_N: Tensor
    left_R: Tensor
    width_R: Tensor
    cells_per_unit_N: Tensor
    row_of_place: Tensor
    first_place_N: Tensor
    left_and_per_cell_R2: Tensor

    def __init__(self, edges: list[list[float]]) -> None:
        super().__init__()
        self.n_features, self.n_bins = len(edges), max(len(e) - 1 for e in edges)
        self.register_buffer("low_N", torch.tensor([e[0] for e in edges]))
        self.register_buffer("high_N", torch.tensor([e[-1] for e in edges]))
        rows, left, width = _bin_tables(edges, self.n_bins)
        self.register_buffer("left_R", left)
        self.register_buffer("width_R", width)
        # the same in cells, all that is looked up in a call; not persistent, because it follows from the rest
        span_N = (self.high_N - self.low_N).double()
        cell_R = (span_N / N_CELLS).repeat_interleave(self.n_bins)
        left_R = ((left.double() - self.low_N.double().repeat_interleave(self.n_bins)) / cell_R).round()
        self.register_buffer("cells_per_unit_N", (N_CELLS / span_N).float(), persistent=False)
        left_and_per_cell_R2 = torch.stack([left_R, cell_R / width.double()], dim=1).float()
        self.register_buffer("left_and_per_cell_R2", left_and_per_cell_R2, persistent=False)
        self.register_buffer("row_of_place", rows, persistent=False)
        self.register_buffer("first_place_N", torch.arange(self.n_features) * (N_CELLS + 1), persistent=False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Older run folders hold two tables more, which follow from the edges."""
        for name in ("row_of_cell", "first_cell_N"):
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, x_BN: Tensor) -> tuple[Tensor, Tensor]:
        known_BN = torch.where(torch.isnan(x_BN), self.low_N, x_BN)
        cells_BN = ((known_BN - self.low_N) * self.cells_per_unit_N).clamp(0.0, float(N_CELLS))
        row_BN = self.row_of_place.take(cells_BN.to(torch.int64) + self.first_place_N)
        left_BN1, per_cell_BN1 = functional.embedding(row_BN, self.left_and_per_cell_R2).chunk(2, dim=2)
        return row_BN, (cells_BN[:, :, None] - left_BN1) * per_cell_BN1


class PiecewiseLinear(nn.Module):
    """A continuous, piecewise-linear curve in D dimensions for each number, and a learned point for a missing one.

    - Input: (B, N) float32, NaN where missing
    - Output: (B, N, D)

    Gorishniy et al. 2022 (On Embeddings for Numerical Features), the piecewise-linear encoding followed by a linear
    layer. NOTE[DIFF] paper: the encoding (B, N, bins) is built and multiplied; here: the bin is looked up and two
    rows of a table are combined, the same value; because: exported, 88 µs against 435 µs a call at batch 1 (measured).

    >>> encoding = PiecewiseLinear([[0.0, 1.0, 4.0], [0.0, 1.0]], d_embedding=2)
    >>> encoding(torch.tensor([[0.5, float("nan")]])).shape
    torch.Size([1, 2, 2])
    """

    missing_row_N: Tensor

    def __init__(self, edges: list[list[float]], d_embedding: int) -> None:
        super().__init__()
        self.bins = Bins(edges)
        n_features, n_bins = self.bins.n_features, self.bins.n_bins
        # At first each curve is a straight line over the feature's range: a bin's step is its share of the range.
        share = self.bins.width_R.view(n_features, n_bins) / (self.bins.high_N - self.bins.low_N)[:, None]
        share[torch.arange(n_bins)[None, :] >= torch.tensor([len(e) - 1 for e in edges])[:, None]] = 0.0
        direction = torch.empty(n_features, 1, d_embedding).normal_(std=2.0 * d_embedding**-0.5)
        self.step_NKD = nn.Parameter(share[:, :, None] * direction)
        self.start_ND = nn.Parameter(-0.5 * direction[:, 0])
        self.missing_ND = nn.Parameter(torch.zeros(n_features, d_embedding))
        n_rows = n_features * n_bins
        self.register_buffer("missing_row_N", torch.arange(n_rows, n_rows + n_features), persistent=False)

    @classmethod
    def of(cls, features: FeatureSpec, d_embedding: int) -> "PiecewiseLinear":
        return cls(list(features.numeric_edges.values()), d_embedding)

    def forward(self, x_BN: Tensor) -> Tensor:
        row_BN, share_BN1 = self.bins(x_BN)
        row_BN = torch.where(torch.isnan(x_BN), self.missing_row_N, row_BN)
        point_BND, step_BND = functional.embedding(row_BN, self.table()).chunk(2, dim=-1)
        return torch.addcmul(point_BND, share_BN1, step_BND)

    def table(self) -> Tensor:
        """(R + N, 2 D): where the curve stands at a bin's left edge, and its step over the bin; then the missing."""
        left_NKD = self.step_NKD.cumsum(dim=1) - self.step_NKD + self.start_ND[:, None]
        curves = torch.cat([left_NKD, self.step_NKD], dim=-1).flatten(0, 1)
        return torch.cat([curves, torch.cat([self.missing_ND, torch.zeros_like(self.missing_ND)], dim=-1)])


class Standardised(nn.Module):
    """(x − mean) / standard deviation of the training rows; a missing number stays NaN. (B, N) → (B, N)."""

    mean_N: Tensor
    deviation_N: Tensor
    low_N: Tensor
    high_N: Tensor

    def __init__(self, features: FeatureSpec) -> None:
        super().__init__()
        edges, moments = features.numeric_edges, features.numeric_moments
        self.register_buffer("mean_N", torch.tensor([moments[name][0] for name in edges]))
        self.register_buffer("deviation_N", torch.tensor([moments[name][1] for name in edges]))
        self.register_buffer("low_N", torch.tensor([e[0] for e in edges.values()]))
        self.register_buffer("high_N", torch.tensor([e[-1] for e in edges.values()]))

    def forward(self, x_BN: Tensor) -> Tensor:
        return (within(x_BN, self.low_N, self.high_N) - self.mean_N) / self.deviation_N


class NormalScore(nn.Module):
    """The standard normal's value at x's place among the training rows; a missing number stays NaN. (B, N) → (B, N).

    scikit-learn's QuantileTransformer(output_distribution="normal") with the bins' edges as its quantiles. NOTE[DIFF]
    there: places are interpolated, then the normal's inverse is taken; here: the inverse at the edges is interpolated;
    because: ONNX has no inverse of the error function.
    """

    left_R: Tensor
    step_R: Tensor

    def __init__(self, features: FeatureSpec) -> None:
        super().__init__()
        self.bins = Bins(list(features.numeric_edges.values()))
        left = torch.zeros(self.bins.n_features, self.bins.n_bins)
        step = torch.zeros(self.bins.n_features, self.bins.n_bins)
        for feature, name in enumerate(features.numeric_edges):
            # 0.1 %: the ends of the normal are infinite
            places = torch.tensor(features.numeric_places[name], dtype=torch.float64).clamp(0.001, 0.999)
            scores = torch.special.ndtri(places)
            left[feature, : len(scores) - 1], step[feature, : len(scores) - 1] = scores[:-1], scores.diff()
        self.register_buffer("left_R", left.flatten())
        self.register_buffer("step_R", step.flatten())

    def forward(self, x_BN: Tensor) -> Tensor:
        row_BN, share_BN1 = self.bins(x_BN)
        score_BN = self.left_R[row_BN] + share_BN1[:, :, 0] * self.step_R[row_BN]
        return torch.where(torch.isnan(x_BN), torch.nan, score_BN)


class Linear(nn.Module):
    """A line in D dimensions for each scaled number, and a learned point for a missing one. (B, N) → (B, N, D)."""

    def __init__(self, scaling: nn.Module, n_features: int, d_embedding: int) -> None:
        super().__init__()
        self.scaling = scaling
        self.slope_ND = nn.Parameter(torch.empty(n_features, d_embedding).normal_(std=d_embedding**-0.5))
        self.start_ND = nn.Parameter(torch.empty(n_features, d_embedding).normal_(std=d_embedding**-0.5))
        self.missing_ND = nn.Parameter(torch.zeros(n_features, d_embedding))

    @classmethod
    def standard(cls, features: FeatureSpec, d_embedding: int) -> "Linear":
        return cls(Standardised(features), len(features.numeric_edges), d_embedding)

    @classmethod
    def quantile(cls, features: FeatureSpec, d_embedding: int) -> "Linear":
        return cls(NormalScore(features), len(features.numeric_edges), d_embedding)

    def forward(self, x_BN: Tensor) -> Tensor:
        scaled_BN = self.scaling(x_BN)
        is_missing = torch.isnan(scaled_BN)
        known_BN = torch.where(is_missing, 0.0, scaled_BN)
        line_BND = torch.addcmul(self.start_ND, known_BN[:, :, None], self.slope_ND)
        return torch.where(is_missing[:, :, None], self.missing_ND, line_BND)


class Periodic(nn.Module):
    """Learned frequencies of each standardised number (`rtdl_num_embeddings`), a learned point for a missing one.

    - Input: (B, N) float32, NaN where missing
    - Output: (B, N, D)

    Gorishniy et al. 2022, "PLR": 24 frequencies a number, drawn with deviation 0.1.
    """

    def __init__(self, features: FeatureSpec, d_embedding: int) -> None:
        super().__init__()
        n_features = len(features.numeric_edges)
        self.scaling = Standardised(features)
        self.waves = rtdl_num_embeddings.PeriodicEmbeddings(
            n_features, d_embedding, n_frequencies=24, frequency_init_scale=0.1, lite=False
        )
        self.missing_ND = nn.Parameter(torch.zeros(n_features, d_embedding))

    def forward(self, x_BN: Tensor) -> Tensor:
        scaled_BN = self.scaling(x_BN)
        is_missing = torch.isnan(scaled_BN)
        waves_BND = self.waves(torch.where(is_missing, 0.0, scaled_BN))
        return torch.where(is_missing[:, :, None], self.missing_ND, waves_BND)


ENCODINGS = {
    "piecewise_linear": PiecewiseLinear.of,
    "standard": Linear.standard,
    "quantile": Linear.quantile,
    "periodic": Periodic,
}


def within(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x, or the limit it is beyond; NaN stays NaN."""
    return torch.minimum(torch.maximum(x, low), high)


def _bin_tables(edges: list[list[float]], n_bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each cell of each feature, and for its last edge, the row of its bin; for each row its left edge and width (1
    where unused).
    """
    rows, lefts, widths = [], [], []
    for feature, e in enumerate(edges):
        exact = torch.tensor(e, dtype=torch.float64)
        cells = ((exact - exact[0]) / (exact[-1] - exact[0]) * N_CELLS).round().to(torch.int64)
        bins = torch.searchsorted(cells, torch.arange(N_CELLS + 1), right=True) - 1
        rows.append(bins.clamp(0, len(e) - 2) + feature * n_bins)
        unused = n_bins - (len(e) - 1)
        lefts.append(torch.cat([exact[:-1], exact[-1:].expand(unused)]))
        widths.append(torch.cat([exact.diff(), torch.ones(unused, dtype=torch.float64)]))
    return torch.cat(rows), torch.cat(lefts).float(), torch.cat(widths).float()
