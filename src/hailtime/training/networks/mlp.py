"""The simplest network: encodings, then a plain multi-layer perceptron."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from hailtime.training.features import FeatureSpec
from hailtime.training.networks.dropout import Dropout
from hailtime.training.networks.inputs import Inputs, QuantileHead


class MLP(nn.Module):
    """Fully connected blocks over piecewise-linear encodings and category embeddings.

    - Input: x_num (B, N) float32 with NaN; x_cat (B, K) int64
    - Output: (B, 3) quantiles in the unit of `FeatureSpec`

    The encoding decides: on a city's geometry it beats LightGBM by 7 %, without it the same network loses (measured,
    docs/experiments.md).
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
        widths = [self.inputs.n_tokens * d_embedding] + [width] * depth
        self.trunk = nn.Sequential(
            *(layer for n_in, n_out in pairwise(widths) for layer in self.block(n_in, n_out, dropout))
        )
        self.head = QuantileHead(width)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        quantiles: Tensor = self.head(self.trunk(self.inputs(x_num, x_cat).flatten(1)))
        return quantiles

    @staticmethod
    def block(n_in: int, n_out: int, dropout: float) -> list[nn.Module]:
        """A hidden layer, (B, n_in) → (B, n_out)."""
        return [nn.Linear(n_in, n_out), nn.ReLU(), Dropout(dropout)]
