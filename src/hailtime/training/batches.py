"""Prepared parts as batches: the whole table on the device, a batch is one slice.

A tabular network is small, so overhead is the enemy: a row-wise Dataset halves the training speed, slices of a copy
shuffled once an epoch cost nothing (measured: 0.59 against 0.99 of a hand-written loop). Lightning's own work a step
is paid once for `steps_per_call` batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytorch_lightning as lightning
import torch
from torch import Tensor

from hailtime.errors import DataError
from hailtime.preparation.prepared import Prepared
from hailtime.training.features import FeatureSpec, row_features
from hailtime.training.model import TargetScale


@dataclass(frozen=True)
class Rows:
    """Rows ready for a network: x_num (B, N) float32, x_cat (B, K) int64, target (B,) in the network's unit."""

    x_num: Tensor
    x_cat: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def take(self, index: Tensor | slice) -> "Rows":
        return Rows(self.x_num[index], self.x_cat[index], self.target[index])

    def to(self, device: torch.device) -> "Rows":
        return Rows(self.x_num.to(device), self.x_cat.to(device), self.target.to(device))


class ResidentBatches:
    """Batches of rows that stay where they are; shuffled anew each epoch when a seed is given.

    Yields `Rows` of up to `steps_per_call` whole batches. When shuffling, rows that fill no batch wait for another
    epoch's order; otherwise every row comes once.
    """

    def __init__(self, rows: Rows, batch_size: int, steps_per_call: int = 1, seed: int | None = None) -> None:
        self.rows = rows
        self.batch_size = min(batch_size, len(rows))
        self.rows_per_call = self.batch_size * steps_per_call
        self.n_rows = len(rows) - len(rows) % self.batch_size if seed is not None else len(rows)
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-self.n_rows // self.rows_per_call)

    def __iter__(self) -> Iterator[Rows]:
        rows = self.rows
        if self.generator is not None:
            order = torch.randperm(len(rows), generator=self.generator)
            rows = rows.take(order.to(rows.target.device))
        for first in range(0, self.n_rows, self.rows_per_call):
            yield rows.take(slice(first, min(first + self.rows_per_call, self.n_rows)))


class PreparedData(lightning.LightningDataModule):
    """Train, validation and other parts of a prepared folder as device-resident batches."""

    def __init__(
        self, prepared: Prepared, spec: FeatureSpec, *, batch_size: int, steps_per_call: int, seed: int
    ) -> None:
        super().__init__()
        self.prepared, self.spec = prepared, spec
        self.batch_size, self.steps_per_call, self.seed = batch_size, steps_per_call, seed
        self._parts: dict[str, Rows] = {}

    def part(self, name: str) -> Rows:
        """A part's rows on the trainer's device (the CPU without a trainer)."""
        if name not in self._parts:
            device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
            self._parts[name] = to_rows(self.prepared, self.spec, name).to(device)
        return self._parts[name]

    def train_dataloader(self) -> ResidentBatches:
        return ResidentBatches(self.part("train"), self.batch_size, self.steps_per_call, self.seed)

    def val_dataloader(self) -> ResidentBatches:
        return ResidentBatches(self.part("validation"), batch_size=16_384)

    def transfer_batch_to_device(self, batch: Rows, device: torch.device, dataloader_idx: int) -> Rows:
        return batch  # already there


def to_rows(prepared: Prepared, spec: FeatureSpec, part: str) -> Rows:
    """A part through `RowFeatures`, once: what does not change between epochs is not computed in each.

    DataError when the features were fitted to another schema.
    """
    schema = prepared.schema
    if spec.schema_fingerprint != schema.fingerprint:
        raise DataError(
            f"features and data must have one schema, got {spec.schema_fingerprint} and {schema.fingerprint} "
            f"from {prepared.folder}: train again on this data"
        )
    frame = prepared.part(part)
    x_num, x_cat = row_features(schema, spec, frame)
    target_s = torch.from_numpy(frame[schema.target].to_numpy().copy()).float()
    return Rows(x_num, x_cat, TargetScale(schema, spec).from_seconds(target_s, x_num))
