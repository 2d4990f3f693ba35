"""What stands before and after every trunk: numbers, categories and places as tokens, and the quantile head.

Axes: B rows, N numeric features, K categorical features, D embedding width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hailtime.training.features import FeatureSpec
from hailtime.training.networks.encodings import number_encoding
from hailtime.training.networks.learned_map import LearnedMap


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
    """Numbers and categories as one token each, and where there are a journey and `map_sides` its points on the map.

    - Input: x_num (B, N) float32 with NaN, x_cat (B, K) int64
    - Output: (B, N + K + points, D)
    """

    def __init__(
        self,
        features: FeatureSpec,
        d_embedding: int,
        encoding: str = "piecewise_linear",
        map_sides: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.numbers = number_encoding(encoding, features, d_embedding)
        self.categories = Categories(features.cardinalities, d_embedding)
        self.map = LearnedMap(features, d_embedding, map_sides, dropout)
        self.n_tokens = len(features.numeric_edges) + len(features.cardinalities) + self.map.n_tokens

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        tokens = [self.numbers(x_num), self.categories(x_cat)]
        return torch.cat([*tokens, self.map(x_num)] if self.map.n_tokens else tokens, dim=1)


class QuantileHead(nn.Module):
    """Median and the two distances from it, which are positive: the quantiles cannot cross.

    - Input: (B, width)
    - Output: (B, 3): P10, P50, P90
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return in_order(self.linear(x))


def in_order(free: Tensor) -> Tensor:
    """(..., 3) of any numbers, median first → (..., 3): P10 ≤ P50 ≤ P90."""
    median, distances = free[..., :1], free[..., 1:]
    below, above = functional.softplus(distances).chunk(2, dim=-1)
    return torch.cat([median - below, median, median + above], dim=-1)
