"""What stands before and after every trunk: encodings of numbers and categories, and the quantile head.

Axes: B rows, N numeric features, K categorical features, R bins of all features together, D embedding width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from hailtime.training.features import FeatureSpec

N_CELLS = 2048  # of the uniform grid that finds a bin by one lookup; `fit_features` rounds edges to the same grid


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

    low_N: Tensor
    high_N: Tensor
    first_cell_N: Tensor
    row_of_cell: Tensor
    left_R: Tensor
    width_R: Tensor

    def __init__(self, edges: list[list[float]], d_embedding: int) -> None:
        super().__init__()
        n_features, n_bins = len(edges), max(len(e) - 1 for e in edges)
        self.register_buffer("low_N", torch.tensor([e[0] for e in edges]))
        self.register_buffer("high_N", torch.tensor([e[-1] for e in edges]))
        self.register_buffer("first_cell_N", torch.arange(n_features) * N_CELLS)
        rows, left, width = _bin_tables(edges, n_bins)
        self.register_buffer("row_of_cell", rows)
        self.register_buffer("left_R", left)
        self.register_buffer("width_R", width)
        # At first each curve is a straight line over the feature's range: a bin's step is its share of the range.
        share = width.view(n_features, n_bins) / (self.high_N - self.low_N)[:, None]
        share[torch.arange(n_bins)[None, :] >= torch.tensor([len(e) - 1 for e in edges])[:, None]] = 0.0
        direction = torch.empty(n_features, 1, d_embedding).normal_(std=2.0 * d_embedding**-0.5)
        self.step_NKD = nn.Parameter(share[:, :, None] * direction)
        self.start_ND = nn.Parameter(-0.5 * direction[:, 0])
        self.missing_ND = nn.Parameter(torch.zeros(n_features, d_embedding))

    def forward(self, x_BN: Tensor) -> Tensor:
        is_missing = torch.isnan(x_BN)
        x_BN = torch.where(is_missing, self.low_N, torch.minimum(torch.maximum(x_BN, self.low_N), self.high_N))
        cell = ((x_BN - self.low_N) / (self.high_N - self.low_N) * N_CELLS).to(torch.int64).clamp(0, N_CELLS - 1)
        row_BN = self.row_of_cell[cell + self.first_cell_N]
        share_BN = ((x_BN - self.left_R[row_BN]) / self.width_R[row_BN]).clamp(0.0, 1.0)
        point_BND, step_BND = functional.embedding(row_BN, self.table()).chunk(2, dim=-1)
        curve_BND = torch.addcmul(point_BND, share_BN[:, :, None], step_BND)
        return torch.where(is_missing[:, :, None], self.missing_ND, curve_BND)

    def table(self) -> Tensor:
        """(R, 2 D): where the curve stands at a bin's left edge, and its step over the bin."""
        left_NKD = self.step_NKD.cumsum(dim=1) - self.step_NKD + self.start_ND[:, None]
        return torch.cat([left_NKD, self.step_NKD], dim=-1).flatten(0, 1)


def _bin_tables(edges: list[list[float]], n_bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each cell of each feature the row of its bin; for each row its left edge and width (1 where unused)."""
    rows, lefts, widths = [], [], []
    for feature, e in enumerate(edges):
        exact = torch.tensor(e, dtype=torch.float64)
        cells = ((exact - exact[0]) / (exact[-1] - exact[0]) * N_CELLS).round().to(torch.int64)
        bins = torch.searchsorted(cells, torch.arange(N_CELLS), right=True) - 1
        rows.append(bins.clamp(0, len(e) - 2) + feature * n_bins)
        unused = n_bins - (len(e) - 1)
        lefts.append(torch.cat([exact[:-1], exact[-1:].expand(unused)]))
        widths.append(torch.cat([exact.diff(), torch.ones(unused, dtype=torch.float64)]))
    return torch.cat(rows), torch.cat(lefts).float(), torch.cat(widths).float()


class Categories(nn.Module):
    """One embedding table for all categorical features.

    - Input: (B, K) int64 codes
    - Output: (B, K, D)
    """

    first_K: Tensor

    def __init__(self, cardinalities: list[int], d_embedding: int) -> None:
        super().__init__()
        firsts = torch.tensor([0, *cardinalities]).cumsum(0)
        self.register_buffer("first_K", firsts[:-1])
        self.weight = nn.Parameter(torch.empty(int(firsts[-1]), d_embedding).normal_(std=d_embedding**-0.5))

    def forward(self, x_BK: Tensor) -> Tensor:
        return functional.embedding(x_BK + self.first_K, self.weight)


class Inputs(nn.Module):
    """Numbers and categories as one token each.

    - Input: x_num (B, N) float32 with NaN, x_cat (B, K) int64
    - Output: (B, N + K, D)
    """

    def __init__(self, features: FeatureSpec, d_embedding: int) -> None:
        super().__init__()
        self.numbers = PiecewiseLinear(list(features.numeric_edges.values()), d_embedding)
        self.categories = Categories(features.cardinalities, d_embedding)
        self.n_tokens = len(features.numeric_edges) + len(features.cardinalities)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        return torch.cat([self.numbers(x_num), self.categories(x_cat)], dim=1)


class QuantileHead(nn.Module):
    """Median and the two distances from it, which are positive: the quantiles cannot cross.

    - Input: (B, width)
    - Output: (B, 3): P10, P50, P90
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        median, below, above = self.linear(x).unbind(dim=-1)
        return torch.stack([median - functional.softplus(below), median, median + functional.softplus(above)], dim=-1)
