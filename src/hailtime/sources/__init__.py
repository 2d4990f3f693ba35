"""Where trips come from. A source is a function that returns `RawData`; its yaml in `configs/source/` names it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import polars as pl

BLOCK_ROWS = 600_000  # a block of the 25 columns of a for-hire trip takes 120 MB


@dataclass(frozen=True)
class Blocks:
    """Frames read anew at every use: `read` starts at the beginning each time it is called."""

    read: Callable[[], Iterator[pl.DataFrame]]

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return self.read()


@dataclass(frozen=True)
class RawData:
    """What a source hands to cleaning: one row a request, and the tables of conditions that are joined to it by time.

    - trips: one frame, or an iterable of frames with the same columns, so that what is on a disk or in a database is
      never in memory as a whole. It is iterated anew at every use; rows may come in any order.
    - conditions: name (weather, traffic, ...) → rows with `observed_at` (when it was true) and `known_at` (when anybody
      could know it)

    Faults are still in.
    """

    trips: pl.DataFrame | Iterable[pl.DataFrame]
    conditions: dict[str, pl.DataFrame] = field(default_factory=dict)

    def blocks(self) -> Iterator[pl.DataFrame]:
        """The trips, some rows at a time."""
        return iter([self.trips]) if isinstance(self.trips, pl.DataFrame) else iter(self.trips)

    def table(self) -> pl.DataFrame:
        """All trips in one frame: for data that fits into memory."""
        return self.trips if isinstance(self.trips, pl.DataFrame) else pl.concat(self.blocks(), how="vertical_relaxed")
