"""The default network: encodings and a learned map, then gated layers, which multiply what plain ones must add up."""

from torch import Tensor, nn
from torch.nn import functional

from hailtime.training.networks.dropout import Dropout
from hailtime.training.networks.mlp import MLP


class Gated(MLP):
    """The perceptron with gated linear layers over encodings, category embeddings and the learned map of the way.

    - Input: x_num (B, N) float32 with NaN; x_cat (B, K) int64
    - Output: (B, 3) quantiles in the unit of `FeatureSpec`

    Shazeer 2020 (GLU Variants Improve Transformer): one half of a layer's outputs, through SiLU, scales the other. A
    pickup time is largely distance times slowness, which such a layer says in one product.
    """

    @staticmethod
    def block(n_in: int, n_out: int, dropout: float) -> list[nn.Module]:
        return [_GatedLinear(n_in, n_out, dropout)]


class _GatedLinear(nn.Module):
    """(B, n_in) → (B, n_out)."""

    def __init__(self, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(n_in, 2 * n_out), Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.linear(x).chunk(2, dim=-1)
        scaled: Tensor = self.dropout(value * functional.silu(gate))
        return scaled
