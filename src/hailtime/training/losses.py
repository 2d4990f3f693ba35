"""What training makes small; `loss=` names one of configs/loss/.

Each is a scalar in the target's unit: the sum over P10, P50 and P90, the mean over rows and, where an ensemble trains,
over its members. predicted is (B, 3) or (B, members, 3), target (B,).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hailtime.schema import QUANTILES

# The median counts twice: it is the number shown, and at twice the weight its pinball loss is the absolute error.
WEIGHTS = (1.0, 2.0, 1.0)


def pinball(predicted: Tensor, target: Tensor) -> Tensor:
    """The loss that quantiles make least: Koenker and Bassett 1978, max(q e, (q − 1) e) with e = target − predicted."""
    return _weighted(_lean(_error(predicted, target), QUANTILES))


def huber(predicted: Tensor, target: Tensor, delta: float = 0.25) -> Tensor:
    """P50 by Huber's loss over delta (Huber 1964: e²/2 up to delta, then a line), P10 and P90 by pinball.

    Near a small error it is the squared one, so P50 moves from the median towards the mean of rows alike within delta.
    """
    error = _error(predicted, target)
    tails = _lean(error, QUANTILES)
    middle = _huber(error[..., 1:2], delta) / 2  # counted twice below
    return _weighted(torch.cat([tails[..., :1], middle, tails[..., 2:]], dim=-1))


def asymmetric_huber(
    predicted: Tensor, target: Tensor, delta: float = 0.25, omega: Sequence[float] = QUANTILES
) -> Tensor:
    """Huber's loss over delta times omega where the answer was too low, times 1 − omega where it was too high.

    Hu et al. 2022 (DeeprETA). NOTE[DIFF] paper: one answer, one omega; here: an omega for each of the
    three; because: with the quantiles as omegas it is the pinball loss with its corner rounded, and a calibrated
    interval remains. omega = [0.1, 0.6, 0.9] promises rather late than early.
    """
    error = _error(predicted, target)
    omegas = torch.tensor(list(omega), device=error.device, dtype=error.dtype)
    return _weighted(_huber(error, delta) * torch.where(error > 0, omegas, 1 - omegas))


def _error(predicted: Tensor, target: Tensor) -> Tensor:
    """target − predicted, in the shape of predicted."""
    return target.view(-1, *[1] * (predicted.ndim - 1)) - predicted


def _lean(error: Tensor, quantiles: Sequence[float]) -> Tensor:
    q = torch.tensor(quantiles, device=error.device, dtype=error.dtype)
    return torch.maximum(q * error, (q - 1) * error)


def _huber(error: Tensor, delta: float) -> Tensor:
    """|e| with its corner rounded: e² / (2 delta) within delta, |e| − delta / 2 beyond."""
    size = error.abs()
    return torch.where(size <= delta, error**2 / (2 * delta), size - delta / 2)


def _weighted(loss: Tensor) -> Tensor:
    return (loss * torch.tensor(WEIGHTS, device=loss.device, dtype=loss.dtype)).sum(dim=-1).mean()
