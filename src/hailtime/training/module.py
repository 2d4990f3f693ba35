"""The Lightning module: a network, its loss, its optimiser."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from hailtime.training.batches import Rows
from hailtime.training.features import UNKNOWN
from hailtime.training.model import TargetScale

Loss = Callable[[Tensor, Tensor], Tensor]


class PickupTimeModule(lightning.LightningModule):
    """Trains a network on `Rows`.

    - `optimizer`: from parameters to an optimiser; `scheduler`: from optimiser and `total_steps` to a scheduler
    - `batch_size`: rows of a step on this rank; `n_steps`: of the whole training
    - `forget`: share of cells that a training batch forgets (number missing, category unknown), so that the model knows
      what to say without them; 0 switches it off
    - `clip_norm`: gradients longer than this are shortened to it

    Optimisation is manual because one call holds several batches (see batches.py): at 1 ms a step Lightning's own
    work would otherwise take a third of the time (measured).
    """

    def __init__(
        self,
        network: nn.Module,
        scale: TargetScale,
        loss: Loss,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler],
        *,
        batch_size: int,
        n_steps: int,
        forget: float = 0.0,
        clip_norm: float = 1.0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        # Hydra's own partial checks what it may call at every call, which is 0.3 ms a step (measured)
        self.loss = partial(loss.func, *loss.args, **loss.keywords) if isinstance(loss, partial) else loss
        self.network = network
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.scale = scale
        self.batch_size, self.n_steps, self.forget, self.clip_norm = batch_size, n_steps, forget, clip_norm
        self.weights = list(network.parameters())  # walking the modules for them is 0.3 ms a step (measured)
        self.sums: dict[str, Tensor] = {}

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        quantiles: Tensor = self.network(x_num, x_cat)
        return quantiles

    def training_step(self, rows: Rows, batch_idx: int) -> None:
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, lightning.core.optimizer.LightningOptimizer)
        assert isinstance(scheduler, LRScheduler)
        rows, total = self.forget_some(rows), torch.zeros((), device=rows.target.device)
        for first in range(0, len(rows), self.batch_size):
            batch = rows.take(slice(first, first + self.batch_size))
            optimizer.zero_grad()
            loss = self.loss(self(batch.x_num, batch.x_cat), batch.target)
            self.backward_of(loss)
            nn.utils.clip_grad_norm_(self.weights, self.clip_norm)
            # Lightning's own step once a call, which counts it: its work is a fifth of a step of 1 ms (measured)
            is_last = first + self.batch_size >= len(rows)
            (optimizer if is_last else optimizer.optimizer).step()
            scheduler.step()
            total += loss.detach() * len(batch)
        self.add_up(train_loss=total, train_rows=torch.tensor(float(len(rows)), device=total.device))

    def backward_of(self, loss: Tensor) -> None:
        """Gradients, averaged over the ranks where there are several."""
        if self.trainer.world_size > 1:
            self.manual_backward(loss)
        else:
            loss.backward()  # type: ignore[no-untyped-call]

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", self.over_ranks("train_loss") / self.over_ranks("train_rows"))
        self.sums.clear()

    def validation_step(self, rows: Rows, batch_idx: int) -> None:
        quantiles = self(rows.x_num, rows.x_cat)
        error_s = (quantiles[:, 1] - rows.target) * self.scale.scale_s
        inside = (rows.target >= quantiles[:, 0]) & (rows.target <= quantiles[:, 2])
        self.add_up(
            loss=self.loss(quantiles, rows.target) * len(rows),
            mae_s=error_s.abs().sum(),
            coverage=inside.float().sum(),
            rows=torch.tensor(float(len(rows))),
        )

    def on_validation_epoch_end(self) -> None:
        n_rows = self.over_ranks("rows")
        for name in ("loss", "mae_s", "coverage"):
            self.log(f"val/{name}", self.over_ranks(name) / n_rows, prog_bar=name == "mae_s")
        for name in ("loss", "mae_s", "coverage", "rows"):
            del self.sums[name]

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        # 20: torch's OneCycleLR divides by zero where a tenth of the steps is one step
        n_steps = max(self.n_steps, 20)
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer, total_steps=n_steps)}

    def forget_some(self, rows: Rows) -> Rows:
        """The same rows with a share of the numbers missing and of the categories unknown."""
        if self.forget == 0.0:
            return rows
        numbers = torch.rand_like(rows.x_num) < self.forget
        if self.scale.estimate is not None:
            numbers[:, self.scale.estimate] = False  # the target was measured from it
        categories = torch.rand(rows.x_cat.shape, device=rows.x_cat.device) < self.forget
        return Rows(
            rows.x_num.masked_fill(numbers, torch.nan), rows.x_cat.masked_fill(categories, UNKNOWN), rows.target
        )

    def add_up(self, **values: Tensor) -> None:
        """Sums on the device, read once an epoch: reading a value every step halves the speed at 1 ms (measured)."""
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def over_ranks(self, name: str) -> Tensor:
        """A sum over all ranks."""
        total: Tensor = self.trainer.strategy.reduce(self.sums[name].clone(), reduce_op="sum")  # in place
        return total

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the sums of an epoch that is under way."""
        checkpoint["sums"] = {name: self.over_ranks(name) for name in self.sums}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.is_global_zero:
            self.sums = {name: value.to(self.device) for name, value in checkpoint["sums"].items()}
