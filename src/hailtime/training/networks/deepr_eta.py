"""Uber's DeeprETA: everything is a bucket, buckets look at each other, and a segment mends its own bias.

Hu et al. 2022 (DeeprETA: An ETA Post-processing System at Scale). With a source that has a routing estimate the network
learns the residual to it (`TargetScale`); the paper's loss is `loss=asymmetric_huber`.

Axes: B rows, N numeric and K categorical features, G geo tokens, T = N + K + G tokens, H hidden width of attention.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from hailtime.training.features import FeatureSpec
from hailtime.training.networks.encodings import Bins, within
from hailtime.training.networks.inputs import Categories, in_order

PRIMES = ((73_856_093, 19_349_663), (83_492_791, 49_979_687))  # Teschner et al. 2003, for hashing cells of a grid


class DeeprETA(nn.Module):
    """Bucket, category and geo-cell embeddings, one layer of linear attention, a decoder with segment biases.

    - Input: x_num (B, N) float32 with NaN; x_cat (B, K) int64
    - Output: (B, 3) quantiles in the unit of `FeatureSpec`

    NOTE[DIFF] paper: one answer; here: P10, P50, P90; because: a promise needs its range.
    NOTE[DIFF] paper: a segment is the kind of trip; here: each value of each categorical column has a bias; because:
    sources name their segments differently.
    NOTE[DIFF] paper: the answer is cut at 0; here: in `PickupTimeModel`; because: 0 s is known only there.
    """

    def __init__(
        self,
        features: FeatureSpec,
        width: int = 256,
        d_embedding: int = 8,
        d_attention: int = 16,
        grid_levels: tuple[int, ...] = (3, 5, 7),
        n_hash_rows: int = 4096,
    ) -> None:
        super().__init__()
        self.buckets = Buckets(features, d_embedding)
        self.cells = GeoCells(features, d_embedding, grid_levels, n_hash_rows)
        self.categories = Categories(features.cardinalities, d_embedding)
        n_tokens = len(features.numeric_edges) + len(features.cardinalities) + self.cells.n_tokens
        self.attention = LinearAttention(d_embedding, d_attention)
        self.decoder = nn.Sequential(nn.Linear(n_tokens * d_embedding, width), nn.ReLU(), nn.Linear(width, 3))
        self.segments = Categories(features.cardinalities, 3)
        nn.init.zeros_(self.segments.weight)

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        tokens = [self.buckets(x_num), self.categories(x_cat), *([self.cells(x_num)] if self.cells.n_tokens else [])]
        seen = self.attention(torch.cat(tokens, dim=1))
        return in_order(self.decoder(seen.flatten(1)) + self.segments(x_cat).sum(dim=1))


class Buckets(nn.Module):
    """A vector for each quantile bucket of each number, and one for a missing number. (B, N) → (B, N, D).

    The paper's bucketing by quantiles. NOTE[DIFF] paper: vectors begin at random; here: those of one number in a line;
    because: neighbours then begin as neighbours, and a rare bucket is not a stranger.
    """

    def __init__(self, features: FeatureSpec, d_embedding: int) -> None:
        super().__init__()
        self.bins = Bins(list(features.numeric_edges.values()))
        n_features, n_bins = self.bins.n_features, self.bins.n_bins
        # one direction a number, from one end of its buckets to the other: neighbours begin as neighbours
        start = torch.linspace(-1, 1, n_bins)[None, :, None] * torch.empty(n_features, 1, d_embedding).normal_()
        self.weight_RD = nn.Parameter(start.flatten(0, 1) * d_embedding**-0.5)
        self.missing_ND = nn.Parameter(torch.zeros(n_features, d_embedding))

    def forward(self, x_BN: Tensor) -> Tensor:
        row_BN, _ = self.bins(x_BN)
        bucket_BND = functional.embedding(row_BN, self.weight_RD)
        return torch.where(torch.isnan(x_BN)[:, :, None], self.missing_ND, bucket_BND)


class GeoCells(nn.Module):
    """Vectors for the cell that each place lies in, on grids from coarse to fine, by two hashes. (B, N) → (B, G, D).

    A place is a pair of features `<name>_lat`, `<name>_lon`; G = places × levels × 2 hashes. Level r has 2^r cells a
    side between the training part's ends. The paper's multiple feature hashing. NOTE[DIFF] paper: cells of the geohash;
    here: of the city's own extent; because: the same lookup without interleaving bits, and no cell is spent elsewhere.
    """

    low_P2: Tensor
    high_P2: Tensor
    span_P2: Tensor
    side_L: Tensor

    def __init__(self, features: FeatureSpec, d_embedding: int, levels: tuple[int, ...], n_rows: int) -> None:
        super().__init__()
        names = list(features.numeric_edges)
        places = [name.removesuffix("_lat") for name in names if name.endswith("_lat")]
        pairs = [(f"{p}_lat", f"{p}_lon") for p in places if f"{p}_lon" in names]
        self.columns = [[names.index(lat), names.index(lon)] for lat, lon in pairs]
        self.n_rows, self.n_tokens = n_rows, len(pairs) * len(levels) * len(PRIMES)
        ends = [
            [(features.numeric_edges[name][0], features.numeric_edges[name][-1]) for name in pair] for pair in pairs
        ]
        if not pairs:
            return
        self.register_buffer("low_P2", torch.tensor([[low for low, _ in pair] for pair in ends]))
        self.register_buffer("high_P2", torch.tensor([[high for _, high in pair] for pair in ends]))
        self.register_buffer("span_P2", self.high_P2 - self.low_P2)
        self.register_buffer("side_L", torch.tensor([2.0**level for level in levels]))
        self.register_buffer("primes_H2", torch.tensor(PRIMES))
        # a block of rows for each token, so that no two share a vector by accident of their hash alone
        self.register_buffer("first_G", torch.arange(self.n_tokens) * (n_rows + 1))
        self.weight = nn.Parameter(torch.empty(self.n_tokens * (n_rows + 1), d_embedding).normal_(std=0.1))

    def forward(self, x_BN: Tensor) -> Tensor:
        place_BP2 = x_BN[:, self.columns]
        is_missing_BP = torch.isnan(place_BP2).any(dim=2)
        share_BP2 = (within(torch.nan_to_num(place_BP2), self.low_P2, self.high_P2) - self.low_P2) / self.span_P2
        cell_BPL2 = (share_BP2[:, :, None, :] * self.side_L[:, None]).to(torch.int64)
        hashed = (cell_BPL2[:, :, :, None, :] * self.get_buffer("primes_H2")).sum(dim=-1) % self.n_rows
        row_BPLH = torch.where(is_missing_BP[:, :, None, None], self.n_rows, hashed)
        return functional.embedding(row_BPLH.flatten(1) + self.get_buffer("first_G"), self.weight)


class LinearAttention(nn.Module):
    """Tokens + what they see in each other, in time linear in their number. (B, T, D) → (B, T, D).

    Katharopoulos et al. 2020, as in the paper: elu + 1 in place of softmax.
    """

    def __init__(self, d_embedding: int, d_attention: int) -> None:
        super().__init__()
        self.query_key = nn.Linear(d_embedding, 2 * d_attention)
        self.value = nn.Linear(d_embedding, d_embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key = (functional.elu(self.query_key(tokens)) + 1).chunk(2, dim=-1)
        context = key.transpose(1, 2) @ self.value(tokens)  # (B, H, D)
        weight = (query * key.sum(dim=1, keepdim=True)).sum(dim=2, keepdim=True)
        seen: Tensor = tokens + query @ context / weight
        return seen
