"""The default network: encodings and a learned map, then gated layers, which multiply what plain ones must add up."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from hailtime.training.features import FeatureSpec
from hailtime.training.networks.inputs import Inputs, QuantileHead


class Gated(nn.Module):
    """Gated linear layers over encodings, category embeddings and the learned map of the way.

    - Input: x_num (B, N) float32 with NaN; x_cat (B, K) int64
    - Output: (B, 3) quantiles in the unit of `FeatureSpec`

    Shazeer 2020 (GLU Variants Improve Transformer): one half of a layer's outputs, through SiLU, scales the other. A
    pickup time is largely distance times slowness, which such a layer says in one product.
    """

    def __init__(
        self,
        features: FeatureSpec,
        width: int = 160,
        depth: int = 3,
        d_embedding: int = 16,
        dropout: float = 0.1,
        encoding: str = "piecewise_linear",
        map_sides: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.inputs = Inputs(features, d_embedding, encoding, map_sides, dropout)
        widths = [self.inputs.n_tokens * d_embedding] + [width] * depth
        self.trunk = nn.Sequential(*(_GatedLinear(n_in, n_out, dropout) for n_in, n_out in pairwise(widths)))
        self.head = QuantileHead(width)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        quantiles: Tensor = self.head(self.trunk(self.inputs(x_num, x_cat).flatten(1)))
        return quantiles


class _GatedLinear(nn.Module):
    """(B, n_in) → (B, n_out)."""

    def __init__(self, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(n_in, 2 * n_out), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.linear(x).chunk(2, dim=-1)
        scaled: Tensor = self.dropout(value * functional.silu(gate))
        return scaled
