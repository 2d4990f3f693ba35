"""Prepared parts as batches: the whole table on the device, a batch is one slice.

A tabular network is small, so overhead is the enemy: a row-wise Dataset halves the training speed, slices of a copy
shuffled once an epoch cost nothing (measured: 0.59 against 0.99 of a hand-written loop). Lightning's own work a step
is paid once for `steps_per_call` batches.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import pytorch_lightning as lightning
import torch
from torch import Tensor

from hailtime.errors import ConfigError, DataError
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


class Batches(ABC):
    """Batches of a part: shuffled anew each epoch when a seed is given, each rank's share of every batch.

    Yields `Rows` of up to `steps_per_call` batches. When shuffling, rows that fill no batch wait for another epoch's
    order; otherwise every row comes once. The order follows from seed and epoch alone, whatever the number of ranks,
    and epoch and calls done are the whole state: loaded into another object, that one goes on where this one was.
    """

    def __init__(
        self, n_rows: int, batch_size: int, steps_per_call: int, seed: int | None, rank: int, n_ranks: int
    ) -> None:
        self.seed, self.rank, self.n_ranks = seed, rank, n_ranks
        self.share = min(batch_size, n_rows) // n_ranks  # rows of a batch that are this rank's
        self.batch_size = self.share * n_ranks
        self.rows_per_call = self.share * steps_per_call
        n_own = n_rows // self.batch_size * self.share if seed is not None else len(range(rank, n_rows, n_ranks))
        self.n_calls = -(-n_own // self.rows_per_call)
        self.epoch, self.calls = 0, 0

    @abstractmethod
    def from_call(self, first: int) -> Iterator[Rows]:
        """The calls of this epoch from the first on."""

    def __len__(self) -> int:
        return self.n_calls

    def __iter__(self) -> Iterator[Rows]:
        if self.calls == self.n_calls:
            self.epoch, self.calls = self.epoch + 1, 0
        for rows in self.from_call(self.calls):
            self.calls += 1
            yield rows

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "calls": self.calls}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.calls = state["epoch"], state["calls"]


class ResidentBatches(Batches):
    """Batches of rows that stay where they are."""

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        steps_per_call: int = 1,
        seed: int | None = None,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        super().__init__(len(rows), batch_size, steps_per_call, seed, rank, n_ranks)
        self.rows = rows

    def from_call(self, first: int) -> Iterator[Rows]:
        rows = self.rows.take(slice(self.rank, None, self.n_ranks)) if self.seed is None else self.shuffled(self.seed)
        for row in range(first * self.rows_per_call, len(rows), self.rows_per_call):
            yield rows.take(slice(row, row + self.rows_per_call))

    def shuffled(self, seed: int) -> Rows:
        """A copy of this rank's rows in the epoch's order."""
        device = self.rows.target.device
        generator = torch.Generator(device).manual_seed(seed_of(seed, self.epoch))
        order = torch.randperm(len(self.rows), generator=generator, device=device)
        return self.rows.take(own_share(order, self))


def own_share(order: Tensor, batches: Batches) -> Tensor:
    """Of an order of rows, cut into whole batches, this rank's part of each batch."""
    n_whole = len(order) // batches.batch_size * batches.batch_size
    first = batches.rank * batches.share
    return order[:n_whole].view(-1, batches.batch_size)[:, first : first + batches.share].reshape(-1)


def seed_of(*parts: int) -> int:
    """A seed for a generator that follows from all parts; near parts give seeds far apart."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


class PreparedData(lightning.LightningDataModule):
    """Train, validation and other parts of a prepared folder as device-resident batches.

    `batch_size` is of all ranks together. ConfigError when they cannot share it equally.
    """

    def __init__(
        self,
        prepared: Prepared,
        spec: FeatureSpec,
        *,
        batch_size: int,
        steps_per_call: int,
        seed: int,
        n_ranks: int = 1,
    ) -> None:
        super().__init__()
        if batch_size % n_ranks:
            raise ConfigError(
                f"data.batch_size is shared by {n_ranks} ranks and must be a multiple of it, got {batch_size}: "
                f"data.batch_size={-(-batch_size // n_ranks) * n_ranks}"
            )
        self.prepared, self.spec, self.n_ranks = prepared, spec, n_ranks
        self.batch_size, self.steps_per_call, self.seed = batch_size, steps_per_call, seed
        self._parts: dict[str, Rows] = {}

    @property
    def steps_an_epoch(self) -> int:
        n_rows = int(self.prepared.report["parts"]["train"]["rows"])
        return n_rows // (min(self.batch_size, n_rows) // self.n_ranks * self.n_ranks)

    @property
    def share(self) -> int:
        """Rows of a batch that are one rank's."""
        return self.batch_size // self.n_ranks

    @property
    def rank(self) -> int:
        return int(self.trainer.global_rank) if self.trainer else 0

    def part(self, name: str) -> Rows:
        """A part's rows on the trainer's device (the CPU without a trainer)."""
        if name not in self._parts:
            device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
            self._parts[name] = to_rows(self.prepared, self.spec, name).to(device)
        return self._parts[name]

    def train_dataloader(self) -> Batches:
        return ResidentBatches(
            self.part("train"), self.batch_size, self.steps_per_call, self.seed, self.rank, self.n_ranks
        )

    def val_dataloader(self) -> Batches:
        return ResidentBatches(self.part("validation"), 16_384, rank=self.rank, n_ranks=self.n_ranks)

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
