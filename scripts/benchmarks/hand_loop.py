"""The loop that one writes by hand: what the trainer is held against. torch alone, no validation, nothing else."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from hailtime.training.batches import Rows
from hailtime.training.losses import pinball

CALL = 8  # steps to an update of the averaged weights, as the trainer does


class HandLoop:
    """One network trained epoch by epoch: shuffle, forget, step, clip, schedule, average."""

    def __init__(
        self, network: nn.Module, rows: Rows, batch_size: int, forget: float = 0.002, precision: str = "32-true"
    ) -> None:
        self.network, self.rows, self.batch_size, self.forget = network.train(), rows, batch_size, forget
        self.n_steps = len(rows) // batch_size
        self.weights = list(network.parameters())
        self.averaged = [weight.detach().clone() for weight in self.weights]
        self.optimizer = torch.optim.AdamW(self.weights, lr=1.5e-3, weight_decay=1e-2, fused=True)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, 1.5e-3, total_steps=max(20, 1000 * self.n_steps), cycle_momentum=False
        )
        self.device, self.is_bf16 = rows.target.device, precision == "bf16-mixed"

    def epoch(self) -> Tensor:
        """The sum of the losses."""
        total = torch.zeros((), device=self.device)
        order = torch.randperm(len(self.rows), device=self.device)[: self.n_steps * self.batch_size]
        shuffled = self.rows.take(order)
        for first in range(0, len(shuffled), CALL * self.batch_size):
            call = self.forgotten(shuffled.take(slice(first, first + CALL * self.batch_size)))
            for batch in batches_of(call, self.batch_size):
                total += self.step(batch)
            torch._foreach_lerp_(self.averaged, [weight.detach() for weight in self.weights], 0.01)
        return total

    def step(self, batch: Rows) -> Tensor:
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bf16):
            loss = pinball(self.network(batch.x_num, batch.x_cat), batch.target)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.scheduler.step()
        return loss.detach()

    def forgotten(self, call: Rows) -> Rows:
        if not self.forget:
            return call
        numbers = torch.rand_like(call.x_num) < self.forget
        categories = torch.rand(call.x_cat.shape, device=self.device) < self.forget
        return Rows(call.x_num.masked_fill(numbers, torch.nan), call.x_cat.masked_fill(categories, 0), call.target)


def batches_of(rows: Rows, batch_size: int) -> Iterator[Rows]:
    for first in range(0, len(rows), batch_size):
        yield rows.take(slice(first, first + batch_size))


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall time until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
