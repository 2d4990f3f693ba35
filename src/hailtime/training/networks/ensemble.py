"""Several trained networks as one: the mean of their quantiles. Made by `hailtime.training.ensemble`, never trained."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hailtime.training.features import FeatureSpec


class Ensemble(nn.Module):
    """The mean of its members' quantiles, which stay in order.

    - Input: x_num (B, N) float32 with NaN; x_cat (B, K) int64
    - Output: (B, 3) quantiles in the unit of `FeatureSpec`
    """

    def __init__(self, features: FeatureSpec, members: Sequence[Callable[..., nn.Module]]) -> None:
        super().__init__()
        self.members = nn.ModuleList(member(features=features) for member in members)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        return torch.stack([member(x_num, x_cat) for member in self.members]).mean(dim=0)
