"""Dropout that draws four numbers' fates at once."""

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 2**16  # of 16 random bits


class Dropout(nn.Module):
    """As `nn.Dropout`: zero for a share of the numbers in training, the others larger by as much.

    - Input and output: any shape, any floating type
    - `share`: from 0 to below 1; on a CPU it is met to 1/65,536

    On a CPU PyTorch draws for every number by itself, one after the other: a fifth of the training of a perceptron 64
    wide, a tenth of the default network's (docs/experiments.md). One draw of 64 bits is enough for four.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.n_dropped = round(share * LEVELS)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.n_dropped:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # drawn and applied by one kernel there
            return functional.dropout(x, self.share)
        bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        is_kept = bits[: x.numel()].view(x.shape) >= self.n_dropped - LEVELS // 2
        return x * is_kept.to(x.dtype).mul_(LEVELS / (LEVELS - self.n_dropped))

    def extra_repr(self) -> str:
        return f"share={self.share}"
