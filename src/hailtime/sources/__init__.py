"""Where trips come from. A source is a function that returns `RawData`; its yaml in `configs/source/` names it."""

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class RawData:
    """What a source hands to cleaning: one row a request, and the tables of conditions that are joined to it by time.

    `conditions` maps a name (weather, traffic, ...) to rows with `observed_at` (when it was true) and `known_at` (when
    anybody could know it). Faults are still in.
    """

    trips: pl.DataFrame
    conditions: dict[str, pl.DataFrame]
