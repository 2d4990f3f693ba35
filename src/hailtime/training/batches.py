"""Rows as batches: the whole table on the device, a batch is one slice.

A tabular network is small, so overhead is the enemy: a row-wise Dataset halves the training speed, slices of a copy
shuffled once an epoch cost nothing (measured: 0.59 against 0.99 of a hand-written loop). Lightning's own work a step
is paid once for `steps_per_call` batches.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


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
