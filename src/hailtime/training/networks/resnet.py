"""A residual network: blocks that add to what they were given, so that depth costs no signal."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hailtime.training.features import FeatureSpec
from hailtime.training.networks.dropout import Dropout
from hailtime.training.networks.inputs import Inputs, QuantileHead


class ResNet(nn.Module):
    """Residual blocks over encodings and category embeddings.

    - Input: x_num (B, N) float32 with NaN; x_cat (B, K) int64
    - Output: (B, 3) quantiles in the unit of `FeatureSpec`

    Gorishniy et al. 2021 (Revisiting Deep Learning Models for Tabular Data), section 3.2. NOTE[DIFF] paper: batch
    normalisation; here: layer normalisation; because: a row's answer must not depend on its batch in training either,
    and averaged weights do not fit statistics gathered with others.
    """

    def __init__(
        self,
        features: FeatureSpec,
        width: int = 256,
        depth: int = 3,
        d_embedding: int = 16,
        dropout: float = 0.1,
        encoding: str = "piecewise_linear",
        map_sides: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.inputs = Inputs(features, d_embedding, encoding, map_sides, dropout)
        self.first = nn.Linear(self.inputs.n_tokens * d_embedding, width)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = QuantileHead(width)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        x = self.first(self.inputs(x_num, x_cat).flatten(1))
        for block in self.blocks:
            x = block(x)
        quantiles: Tensor = self.head(torch.relu(self.norm(x)))
        return quantiles


class _Block(nn.Module):
    """x + what two layers see in it. (B, width) → (B, width)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), Dropout(dropout), nn.Linear(width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.layers(x)
        return changed
