"""The state of a training on the disk: all of it after each epoch and every few minutes, so that a kill costs little.

`resume.ckpt` holds weights, their average, optimiser, scheduler, callbacks and the place in the epoch. What is drawn at
random follows from seed, epoch, call and rank, so there is no generator's state to keep: a training that goes on draws
what it would have drawn.
"""

import csv
import io
import shutil
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Checkpoint

from hailtime.durable import store_file, take_place
from hailtime.errors import HailtimeError
from hailtime.training.batches import Batches, seed_of
from hailtime.training.preemption import PreemptionNotice
from hailtime.training.run_folder import HISTORY, MODEL, RESUME

MONITOR = "val/mae_s"


class Preempted(HailtimeError):
    """A signal asked the training to go; its state is saved, and the same command goes on from there."""


class Checkpoints(Checkpoint):
    """Keeps resume.ckpt, the best epoch as model.ckpt, and history.csv; seeds each call; heeds preemption signals."""

    loader: Batches  # from the start of training

    def __init__(self, folder: Path, seed: int, save_every_min: float) -> None:
        self.folder, self.seed, self.save_every_s = folder, seed, save_every_min * 60
        self.best, self.history, self.is_stopped = float("inf"), list[dict[str, float]](), False
        self.notice, self.place = PreemptionNotice(), dict[str, int]()
        self.saved_at = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.notice.watch()
        self.saved_at = time.monotonic()
        trainer.should_stop = self.is_stopped  # by another callback, just before a kill
        loader = trainer.train_dataloader
        assert isinstance(loader, Batches)
        if self.place:  # Lightning 2.6 forgets a loader's state where an epoch was complete
            loader.load_state_dict(self.place)
        self.loader = loader

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seed = seed_of(self.seed, self.loader.epoch, self.loader.calls, trainer.global_rank)
        # Not torch.manual_seed: without a GPU it keeps a stack trace for one that may come, 1.6 ms a call (measured)
        torch.default_generator.manual_seed(seed)
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch:
            return  # the end of the epoch saves
        due = trainer.is_global_zero and time.monotonic() - self.saved_at > self.save_every_s
        if trainer.strategy.reduce_boolean_decision(due or self.notice.came, all=False):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        figures = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.history.append({"epoch": trainer.current_epoch, **figures})
        is_best = figures[MONITOR] < self.best
        self.best, self.is_stopped = min(self.best, figures[MONITOR]), trainer.should_stop
        self.save(trainer, is_best)

    def save(self, trainer: lightning.Trainer, is_best: bool = False) -> None:
        """Everything to the disk, each file whole or not at all. Preempted when a signal came on any rank."""
        new = self.folder / f".{RESUME}.new"
        trainer.save_checkpoint(new, weights_only=False)
        if trainer.is_global_zero:
            if is_best:
                shutil.copyfile(new, self.folder / f".{MODEL}.new")
                take_place(self.folder / f".{MODEL}.new", self.folder / MODEL)
            take_place(new, self.folder / RESUME)
            store_file(self.folder / HISTORY, as_csv(self.history))
        trainer.strategy.barrier("saved")
        self.saved_at = time.monotonic()
        if trainer.strategy.reduce_boolean_decision(self.notice.came, all=False):
            raise Preempted(f"asked to go by a signal; {self.folder / RESUME} holds all, the same command goes on")

    def state_dict(self) -> dict[str, Any]:
        place = self.loader.state_dict()
        return {"best": self.best, "history": self.history, "is_stopped": self.is_stopped, "place": place}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.history = state_dict["best"], state_dict["history"]
        self.is_stopped, self.place = state_dict["is_stopped"], state_dict["place"]


def as_csv(rows: list[dict[str, float]]) -> str:
    """Rows of the same names as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else ["epoch"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
