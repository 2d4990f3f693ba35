"""What training makes small."""

import torch
from torch import Tensor

from hailtime.schema import QUANTILES

# The median counts twice: it is the number shown, and at twice the weight its pinball loss is the absolute error.
WEIGHTS = (1.0, 2.0, 1.0)


def pinball(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean weighted pinball loss of P10, P50 and P90, a scalar in the target's unit.

    - predicted (B, 3), target (B,)

    Koenker and Bassett 1978: max(q e, (q − 1) e) with e = target − predicted.
    """
    error = target[:, None] - predicted
    quantiles = torch.tensor(QUANTILES, device=error.device, dtype=error.dtype)
    weights = torch.tensor(WEIGHTS, device=error.device, dtype=error.dtype)
    return (torch.maximum(quantiles * error, (quantiles - 1) * error) * weights).sum(dim=1).mean()
