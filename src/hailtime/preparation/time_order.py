"""Rows in the order of time, also when there are more of them than fit into memory.

    rows = TimeOrder(Path("work"), "requested_at")
    for block in blocks: rows.add(block)
    for block in rows.blocks(): ...  # in time order; no time is in two of them

Each block is kept with the order of its rows; a span of time is then a slice of each of them. A block whose rows come
far from their places in time is sorted first. Blocks past the first `KEPT_BYTES` are put on the disk, and a slice is
read back without the rest.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.preparation.ahead import ahead
from hailtime.schema import MICROSECONDS_PER_SECOND

BLOCK_ROWS = 500_000  # of one block that comes back: 80 MB of a simulated city's rows
KEPT_BYTES = 1_000_000_000  # in memory; 7 million trips of 18 columns
_NEAR = 10_000  # rows from its place in time: a slice of rows no farther is hardly longer than the span needs
_TICK_US = 60 * MICROSECONDS_PER_SECOND  # blocks are cut at full minutes


class TimeOrder:
    """Takes blocks of rows in any order and gives them back in the order of `time`.

    Rows of one time are in the order of the columns `ties`; of all others when it is not given.
    `time` is int64 microseconds without gaps in its values. The folder is made when it is needed, and is the caller's
    to remove.
    """

    def __init__(
        self, folder: Path, time: str, kept_bytes: int = KEPT_BYTES, ties: Sequence[str] | None = None
    ) -> None:
        self._folder, self._time, self._ties = folder, time, ties
        self._room = kept_bytes
        self._pieces: list[_Piece] = []
        self.n_rows = 0

    def add(self, block: pl.DataFrame) -> None:
        """Rows of one more block; all have the same columns."""
        if block.is_empty():
            return
        self.n_rows += block.height
        self._room -= int(block.estimated_size())
        path = None if self._room >= 0 else self._folder / f"{len(self._pieces):05}.arrow"
        self._pieces.append(_Piece(block, self._time, path))

    def take(self, mask: pl.Expr) -> pl.DataFrame:
        """Takes out the few rows for which a mask is true, at most once."""
        taken = pl.concat(list(ahead(lambda piece: piece.take(mask), self._pieces)), how="vertical_relaxed")
        self.n_rows -= taken.height
        return taken

    def nothing(self) -> pl.DataFrame:
        """No rows, with the columns of all."""
        return self._pieces[0].nothing() if self._pieces else pl.DataFrame()

    def time_at(self, row: int) -> int:
        """The time of a row by its number in time order."""
        ticks, counts = self._ticks()
        before = np.cumsum(counts)
        place = int(np.searchsorted(before, row, side="right"))
        slices = [piece.between(ticks[place], ticks[place], [self._time]) for piece in self._pieces]
        minute = np.sort(np.concatenate([rows[self._time].to_numpy()[places] for rows, places in slices]))
        return int(minute[row - int(before[place] - counts[place])])

    def span(self) -> tuple[int, int]:
        """The first and the last time."""
        return self.time_at(0), self.time_at(self.n_rows - 1)

    def blocks(self, n_rows: int = BLOCK_ROWS) -> Iterator[pl.DataFrame]:
        """All rows in time order, about `n_rows` at a time; a block ends where a minute ends."""
        ticks, counts = self._ticks()
        number = (np.cumsum(counts) - counts) // n_rows  # of the block that a minute belongs to
        for first, last in _runs(number):
            slices = [piece.between(ticks[first], ticks[last]) for piece in self._pieces]
            slices = [(rows, places) for rows, places in slices if rows.height]
            before = np.cumsum([0, *(rows.height for rows, _ in slices)])
            place = np.concatenate([places + n for (_, places), n in zip(slices, before, strict=False)])
            rows = pl.concat([rows for rows, _ in slices], how="vertical_relaxed")
            yield _sorted(rows, place, self._time, self._ties or rows.columns)

    def _ticks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The minutes that have rows, and how many they have."""
        ticks = np.concatenate([piece.ticks for piece in self._pieces])
        unique, place = np.unique(ticks, return_inverse=True)
        counts = np.concatenate([piece.counts for piece in self._pieces])
        return unique, np.bincount(place, weights=counts, minlength=len(unique)).astype(np.int64)


class _Piece:
    """One block, in memory or on the disk, the order of its rows in time and how many each of its minutes has."""

    def __init__(self, rows: pl.DataFrame, time: str, path: Path | None) -> None:
        self._time, self._path = time, path
        order = np.argsort(rows[time].to_numpy(), kind="stable")
        if np.abs(order - np.arange(len(order))).max() > _NEAR:
            rows, order = rows[order], np.arange(len(order))
        self._set_order(order.astype(np.int32), rows[time].to_numpy())
        self._rows = rows.lazy()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # measured on simulated trips, writing and reading: 0.24 CPU seconds a million rows, with lz4 0.66
            rows.write_ipc(path, compression="uncompressed", record_batch_size=65_536)
            self._rows = pl.scan_ipc(path)

    def nothing(self) -> pl.DataFrame:
        return self._rows.head(0).collect()

    def take(self, mask: pl.Expr) -> pl.DataFrame:
        asked = self._rows.select(self._time, mask.alias("is_taken")).collect()
        is_taken = asked["is_taken"]
        taken = self._rows.filter(is_taken).collect()
        self._set_order(self._order[~is_taken.to_numpy()[self._order]], asked[self._time].to_numpy())
        return taken

    def between(
        self, first_tick: int, last_tick: int, columns: list[str] | None = None
    ) -> tuple[pl.DataFrame, NDArray[np.int32]]:
        """Rows with all of these minutes, both ends included, and the places of theirs in the order of time."""
        start, end = self._starts[np.searchsorted(self.ticks, [first_tick, last_tick + 1])].tolist()
        places = self._order[start:end]
        low, high = (int(places.min()), int(places.max()) + 1) if len(places) else (0, 0)
        rows = self._rows if columns is None else self._rows.select(columns)
        return rows.slice(low, high - low).collect(), places - low

    def _set_order(self, order: NDArray[np.int32], times: NDArray[np.int64]) -> None:
        """Which rows there are by time, and the minutes of all times with where each begins, one more for the end."""
        self._order = order
        ticks, counts = np.unique(times[order] // _TICK_US, return_counts=True)
        self.ticks, self.counts = ticks.astype(np.int64), counts.astype(np.int64)
        self._starts = np.concatenate([[0], np.cumsum(counts)])


def _sorted(rows: pl.DataFrame, place: NDArray[Any], time: str, ties: Sequence[str]) -> pl.DataFrame:
    """The rows at some places by time, those of one time by other columns; only they are compared by more."""
    times = rows[time].to_numpy()
    place = place[np.argsort(times[place], kind="stable")]  # which is fast on a few sorted slices
    times = times[place]
    is_next_equal = times[1:] == times[:-1]
    alike = np.flatnonzero(np.append(is_next_equal, False) | np.append(False, is_next_equal))
    if len(alike) > 0:
        order = [time, *sorted(name for name in ties if name != time)]
        place[alike] = place[alike][rows[place[alike]].select(pl.arg_sort_by(order)).to_series().to_numpy()]
    at = pl.Series(place, dtype=pl.UInt32)
    # column by column, so that the space of a copy is used again: measured, half the page faults of a frame at once
    return pl.DataFrame([column.rechunk().gather(at) for column in rows.iter_columns()])


def _runs(numbers: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """First and last place of each run of equal numbers."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    yield from zip(starts.tolist(), [*(starts[1:] - 1).tolist(), len(numbers) - 1], strict=True)
