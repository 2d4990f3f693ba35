"""An ensemble in one network: k perceptrons that share their weights but for a few scales, and answer by their mean."""

from collections.abc import Sequence

import tabm
from torch import Tensor, nn

from hailtime.training.features import FeatureSpec
from hailtime.training.networks.inputs import Inputs, in_order


class TabM(nn.Module):
    """A parameter-efficient ensemble over encodings and category embeddings, built from the `tabm` package.

    - Input: x_num (B, N) float32 with NaN; x_cat (B, K) int64
    - Output: (B, 3) quantiles in the unit of `FeatureSpec`; in training (B, n_members, 3), an answer of each member

    Gorishniy et al. 2025 (TabM). Each member is trained on its own loss: the mean's loss would make them one network.
    """

    def __init__(
        self,
        features: FeatureSpec,
        width: int = 256,
        depth: int = 3,
        d_embedding: int = 16,
        dropout: float = 0.1,
        n_members: int = 8,
        encoding: str = "piecewise_linear",
        map_sides: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.inputs = Inputs(features, d_embedding, encoding, map_sides, dropout)
        self.view = tabm.EnsembleView(k=n_members)
        self.trunk = tabm.make_tabm_backbone(
            d_in=self.inputs.n_tokens * d_embedding,
            n_blocks=depth,
            d_block=width,
            dropout=dropout,
            k=n_members,
            start_scaling_init="normal",  # the package's advice where numbers are embedded
            start_scaling_init_chunks=[d_embedding] * self.inputs.n_tokens,
        )
        self.head = tabm.LinearEnsemble(width, 3, k=n_members)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        x = self.view(self.inputs(x_num, x_cat).flatten(1))
        quantiles = in_order(self.head(self.trunk(x)))
        return quantiles if self.training else quantiles.mean(dim=1)
