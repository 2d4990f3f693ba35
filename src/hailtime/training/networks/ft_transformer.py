"""A transformer over features: each number and category is a token, and they look at each other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hailtime.errors import ConfigError
from hailtime.training.features import FeatureSpec
from hailtime.training.networks.dropout import Dropout
from hailtime.training.networks.inputs import Inputs, QuantileHead


class FTTransformer(nn.Module):
    """Self-attention over feature tokens; the answer is read from a token of its own.

    - Input: x_num (B, N) float32 with NaN; x_cat (B, K) int64
    - Output: (B, 3) quantiles in the unit of `FeatureSpec`

    Gorishniy et al. 2021 (Revisiting Deep Learning Models for Tabular Data), section 3.3. NOTE[DIFF] paper: a number's
    token is a line; here: whatever `encoding` says; because: on a city's geometry lines lose (docs/experiments.md).
    """

    def __init__(
        self,
        features: FeatureSpec,
        depth: int = 2,
        d_embedding: int = 48,
        n_heads: int = 4,
        dropout: float = 0.1,
        encoding: str = "piecewise_linear",
        map_sides: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if d_embedding % n_heads:
            raise ConfigError(f"network.d_embedding must be a multiple of n_heads, got {d_embedding} and {n_heads}")
        self.inputs = Inputs(features, d_embedding, encoding, map_sides, dropout)
        self.answer = nn.Parameter(torch.empty(d_embedding).normal_(std=d_embedding**-0.5))
        self.blocks = nn.ModuleList(_Block(d_embedding, n_heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(d_embedding)
        self.head = QuantileHead(d_embedding)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        tokens = self.inputs(x_num, x_cat)
        answer = self.answer.expand(tokens.shape[0], 1, -1)
        tokens = torch.cat([answer, tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        quantiles: Tensor = self.head(torch.relu(self.norm(tokens[:, 0])))
        return quantiles


class _Block(nn.Module):
    """Tokens + what they see in each other, + what a gated layer sees in each. (B, T, D) → (B, T, D)."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, Dropout(dropout)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        hidden = width * 4 // 3
        self.gated, self.back = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attend(self.norm_1(tokens))
        value, gate = self.gated(self.norm_2(tokens)).chunk(2, dim=-1)
        changed: Tensor = tokens + self.back(self.dropout(value * torch.relu(gate)))
        return changed

    def attend(self, tokens: Tensor) -> Tensor:
        n_tokens, width = tokens.shape[1:]
        by_head = self.query_key_value(tokens).view(-1, n_tokens, 3, self.n_heads, width // self.n_heads)
        query, key, value = by_head.permute(2, 0, 3, 1, 4).unbind(dim=0)
        seen = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout.share if self.training else 0.0
        )
        mixed: Tensor = self.out(seen.transpose(1, 2).reshape(-1, n_tokens, width))
        return mixed
