"""Data larger than memory: batches read from the Parquet files as they are needed.

The row groups of a part come in random order, and rows are shuffled over as many of them as fill the buffer. Order and
place follow from seed, epoch and call, so a training goes on after a kill without reading what it has passed.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import torch

from hailtime.preparation.prepared import Prepared
from hailtime.training.batches import Batches, Rows, own_share, seed_of

ENOUGH_ROWS = 2_000_000  # for vocabulary, quantiles and calibration: a quantile is then right to 0.04 % of the rows


@dataclass(frozen=True)
class Piece:
    """A row group of a Parquet file."""

    file: Path
    number: int
    n_rows: int

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        with pq.ParquetFile(self.file) as file:
            frame = pl.from_arrow(file.read_row_group(self.number, columns=list(columns)))
        assert isinstance(frame, pl.DataFrame)
        return frame


def pieces_of(files: Sequence[Path]) -> list[Piece]:
    """The row groups of files, in their order."""
    found = []
    for path in files:
        with pq.ParquetFile(path) as file:
            n_rows = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        found += [Piece(path, i, n) for i, n in enumerate(n_rows)]
    return found


def sample(prepared: Prepared, part: str, n_rows: int = ENOUGH_ROWS) -> pl.DataFrame:
    """All rows of a part in the order of time where there are no more than `n_rows`, else about so many of them.

    The same share of each piece, and always the same rows.
    """
    pieces = pieces_of(prepared.files(part))
    share = n_rows / max(1, sum(piece.n_rows for piece in pieces))
    if share >= 1:
        return prepared.part(part)
    columns = list(pl.read_parquet_schema(pieces[0].file))
    drawn = [np.random.default_rng(place).random(piece.n_rows) < share for place, piece in enumerate(pieces)]
    return pl.concat([piece.read(columns).filter(rows) for piece, rows in zip(pieces, drawn, strict=True)])


class StreamedBatches(Batches):
    """Batches of rows that are read, encoded and brought to the device while the steps before them run.

    - `encode`: from a frame of `columns` to `Rows`
    - `buffer_rows`: rows are shuffled over as many pieces as hold that many; memory holds about three buffers

    Every rank reads all pieces and encodes its own rows alone, so that a batch holds the same rows for any number of
    ranks.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        columns: Sequence[str],
        encode: Callable[[pl.DataFrame], Rows],
        device: torch.device,
        batch_size: int,
        steps_per_call: int = 1,
        seed: int | None = None,
        rank: int = 0,
        n_ranks: int = 1,
        buffer_rows: int = 1_000_000,
    ) -> None:
        n_rows = sum(piece.n_rows for piece in pieces)
        super().__init__(n_rows, batch_size, steps_per_call, seed, rank, n_ranks)
        self.pieces, self.columns, self.encode, self.device = list(pieces), list(columns), encode, device
        self.n_used = n_rows if seed is None else n_rows // self.batch_size * self.batch_size
        rows_of_call = self.rows_per_call * n_ranks
        self.calls_per_buffer = max(1, buffer_rows // rows_of_call)
        self.buffer_rows = self.calls_per_buffer * rows_of_call
        self._last = -1, pl.DataFrame()  # the piece read last, which the next buffer may begin with

    def from_call(self, first: int) -> Iterator[Rows]:
        start, n_buffers = first // self.calls_per_buffer, -(-self.n_used // self.buffer_rows)
        self._last = -1, pl.DataFrame()
        order = self.order()
        with ThreadPoolExecutor(1) as ahead:  # reading and encoding leave Python's lock to the steps
            pending = ahead.submit(self.buffer, start, order)
            for number in range(start, n_buffers):
                rows = pending.result()
                if number + 1 < n_buffers:
                    pending = ahead.submit(self.buffer, number + 1, order)
                skip = max(0, first - number * self.calls_per_buffer)
                for row in range(skip * self.rows_per_call, len(rows), self.rows_per_call):
                    yield rows.take(slice(row, row + self.rows_per_call))

    def order(self) -> list[int]:
        """The places of the pieces in this epoch."""
        if self.seed is None:
            return list(range(len(self.pieces)))
        drawn = np.random.default_rng(seed_of(self.seed, self.epoch)).permutation(len(self.pieces))
        return [int(place) for place in drawn]

    def buffer(self, number: int, order: Sequence[int]) -> Rows:
        """This rank's rows of the n-th buffer, shuffled, on the device."""
        frame = self.read(number * self.buffer_rows, min((number + 1) * self.buffer_rows, self.n_used), order)
        if self.seed is None:
            return self.encode(frame[self.rank :: self.n_ranks]).to(self.device)
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch, number))
        own = own_share(torch.randperm(frame.height, generator=generator), self)
        in_order, place = own.sort()  # text is not moved about: numbers are, once encoded
        rows = self.encode(frame if self.n_ranks == 1 else frame[in_order.numpy()])
        return rows.take(place.argsort()).to(self.device)

    def read(self, first: int, end: int, order: Sequence[int]) -> pl.DataFrame:
        """Rows first to end of all pieces one after another in this order."""
        ends = list(accumulate(self.pieces[place].n_rows for place in order))
        parts = []
        for place, piece_end in zip(order, ends, strict=True):
            begin = piece_end - self.pieces[place].n_rows
            if begin < end and piece_end > first:
                if self._last[0] != place:
                    self._last = place, self.pieces[place].read(self.columns)
                parts.append(self._last[1][max(0, first - begin) : end - begin])
        return pl.concat(parts)
