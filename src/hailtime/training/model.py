"""The whole model as one module: raw columns in, calibrated seconds out. What is evaluated, exported and served."""

import torch
from torch import Tensor, nn

from hailtime.schema import Schema
from hailtime.training.features import FeatureSpec, RowFeatures

MIN_BLOCK_ROWS = 500  # a block's factor has then a standard error of about 5 %


class Calibration(nn.Module):
    """Stretches both sides of the interval so that each tail holds a tenth of the calibration part.

    - Input and output: (B, 3) seconds

    Conformalised quantile regression (Romano et al. 2019). NOTE[DIFF] paper: one offset added to both ends; here: a
    factor on each side's distance to the median; because: the interval keeps its shape, short where sure, and the
    quantiles cannot cross.
    """

    below: Tensor
    above: Tensor

    def __init__(self, below: float = 1.0, above: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("below", torch.tensor(below))
        self.register_buffer("above", torch.tensor(above))

    def forward(self, quantiles_s: Tensor) -> Tensor:
        low, median, high = quantiles_s.unbind(dim=1)
        return torch.stack([median - (median - low) * self.below, median, median + (high - median) * self.above], dim=1)


def fit_calibration(quantiles_s: Tensor, target_s: Tensor, n_blocks: int = 6, guard: float = 0.5) -> Calibration:
    """The factors at which a tenth of the targets lie below P10 and a tenth above P90, also in the weeks to come.

    - quantiles_s (B, 3), target_s (B,), rows in the order of time

    NOTE[DIFF] paper: one quantile of all rows, which promises 80 % if the future is the past again; here: the mean over
    consecutive blocks of time plus half their standard deviation; because: it is not (measured on nyc_ems: 77.9 % of
    the next half year inside without the guard, 78.9 % with it; 80.2 and 80.5 % on the simulated city).
    """
    low, median, high = quantiles_s.unbind(dim=1)
    needed = torch.stack([(median - target_s) / (median - low), (target_s - median) / (high - median)])
    n_blocks = max(1, min(n_blocks, len(target_s) // MIN_BLOCK_ROWS))
    factors = torch.stack([_finite_sample_quantile(block) for block in needed.tensor_split(n_blocks, dim=1)])
    spread = factors.std(dim=0) if n_blocks > 1 else torch.zeros(2)
    below, above = (factors.mean(dim=0) + guard * spread).clamp(min=0.0).tolist()
    return Calibration(below, above)


def _finite_sample_quantile(needed: Tensor) -> Tensor:
    """(2, n) → (2,): the 0.9 (n + 1) / n quantile, which holds for the next row, not only for these."""
    n = needed.shape[1]
    return torch.quantile(needed, min(1.0, 0.9 * (n + 1) / n), dim=1)


class PickupTimeModel(nn.Module):
    """Raw columns to calibrated seconds.

    - Input: numeric (B, F) float32, words (B, C) int64 places in `FeatureSpec.words`, requested_at (B, 1) int64 seconds
    - Output: (B, 3) float32 seconds: P10 ≤ P50 ≤ P90, never negative
    """

    def __init__(self, schema: Schema, spec: FeatureSpec, network: nn.Module, calibration: Calibration) -> None:
        super().__init__()
        self.features = RowFeatures(schema, spec)
        self.scale = TargetScale(schema, spec)
        self.network = network
        self.calibration = calibration

    def forward(self, numeric: Tensor, words: Tensor, requested_at: Tensor) -> Tensor:
        x_num, x_cat = self.features(numeric, words, requested_at)
        return self.from_features(x_num, x_cat)

    def from_features(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        """The same from what `RowFeatures` gave: (B, N) and (B, K)."""
        seconds = self.scale.to_seconds(self.network(x_num, x_cat), x_num)
        # 0 s: nobody is picked up before asking; a clamp keeps the order of the three
        calibrated: Tensor = self.calibration(seconds).clamp(min=0.0)
        return calibrated


class TargetScale(nn.Module):
    """Between seconds and the network's unit: (seconds − base − center) / scale.

    The base is the row's routing estimate where the schema has one (the network then learns the residual to it, as
    DeeprETA does), otherwise 0.
    """

    def __init__(self, schema: Schema, spec: FeatureSpec) -> None:
        super().__init__()
        self.estimate = schema.numeric_names.index(schema.routing_estimate) if schema.routing_estimate else None
        self.center_s = spec.target_center_s
        self.scale_s = spec.target_scale_s
        self.fallback_s = spec.estimate_fallback_s

    def base_s(self, x_num: Tensor) -> Tensor:
        """(B, 1) seconds."""
        if self.estimate is None:
            return torch.zeros_like(x_num[:, :1])
        estimate = x_num[:, self.estimate : self.estimate + 1]
        return torch.where(torch.isnan(estimate), self.fallback_s, estimate)

    def to_seconds(self, quantiles: Tensor, x_num: Tensor) -> Tensor:
        seconds = quantiles.to(torch.float32) * self.scale_s + self.center_s
        return seconds if self.estimate is None else seconds + self.base_s(x_num)

    def from_seconds(self, target_s: Tensor, x_num: Tensor) -> Tensor:
        """(B,) targets in the network's unit."""
        return (target_s - self.base_s(x_num)[:, 0] - self.center_s) / self.scale_s
