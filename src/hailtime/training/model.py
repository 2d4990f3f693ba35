"""The whole model as one module: raw columns in, calibrated seconds out. What is evaluated, exported and served."""

import torch
from torch import Tensor, nn

from hailtime.schema import Schema
from hailtime.training.calibration import Calibration
from hailtime.training.features import FeatureSpec, RowFeatures


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
        calibrated: Tensor = self.calibration(seconds, x_num, x_cat).clamp(min=0.0)
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
