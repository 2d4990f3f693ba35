"""What happens beside the training steps: a line an epoch, and averaged weights."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import TQDMProgressBar, WeightAveraging
from torch import Tensor

log = logging.getLogger(__name__)


class Progress(TQDMProgressBar):
    """A bar within an epoch on a terminal, and one line an epoch everywhere."""

    def __init__(self) -> None:
        super().__init__(leave=False)
        if not sys.stderr.isatty():
            self.disable()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1:2d}")  # Lightning counts from 0

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        shown = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in shown.items() if name != "v_num"}  # says nothing here

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        values = trainer.callback_metrics
        if self.is_enabled:
            self.train_progress_bar.clear()  # the line below takes the bar's place
        log.info(
            "epoch %2d of %d   validation MAE %.2f s   P10-P90 holds %.1f %%",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            values["val/mae_s"],
            100 * values["val/coverage"],
        )


class Averaging(WeightAveraging):
    """Validates, keeps and serves the exponential moving average of the weights.

    NOTE[DIFF] Lightning's EMAWeightAveraging: the decay is constant from the first step; here: it starts low and rises
    to `decay`; because: at 0.99 the first hundred updates would be mostly the random weights of the start.
    `decay` is per update, and one update follows each call of several steps (batches.py).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=rising_average(decay))


def rising_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    """averaged ← d averaged + (1 − d) current, with d = min(decay, (1 + n) / (10 + n)) at the n-th update."""

    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], n: Any) -> None:
        now = min(decay, (1 + int(n)) / (10 + int(n)))
        torch._foreach_lerp_(list(averaged), list(current), 1 - now)

    return average
