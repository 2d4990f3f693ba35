"""Who computes: the same cleaning and the same joins on Polars, pandas or Spark.

An engine fills a `TimeOrder` with clean trips, and then joins the conditions to blocks of them in the order of time.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import narwhals as nw
import polars as pl

from hailtime.preparation.ahead import ahead
from hailtime.preparation.clean import CleaningPlan, clean_rows, drop_duplicates, mend_conditions
from hailtime.preparation.codes import Codes, with_texts
from hailtime.preparation.findings import Finding, add_findings
from hailtime.preparation.join import ConditionJoin, keys_of
from hailtime.preparation.prepared import types_of
from hailtime.preparation.profile import Profile
from hailtime.preparation.repeats import Repeats
from hailtime.preparation.stopwatch import Stopwatch
from hailtime.preparation.time_order import TimeOrder
from hailtime.sources import BLOCK_ROWS, RawData

ENGINES: dict[str, Callable[[pl.DataFrame], Any]] = {"polars": lambda frame: frame, "pandas": pl.DataFrame.to_pandas}


class LocalEngine:
    """Polars or pandas, block by block, so that a table larger than memory is prepared on one machine."""

    def __init__(self, raw: RawData, plan: CleaningPlan, settings: Mapping[str, Mapping[str, Any]], name: str) -> None:
        self._raw, self._plan = raw, plan
        self._to_native = ENGINES[name]
        tables = {name: self._to_native(table) for name, table in raw.conditions.items()}
        self._joins = ConditionJoin(tables, plan.schema, settings)
        self._keys = plan.columns if name == "pandas" else keys_of(plan.schema, settings)  # read as texts by joins
        self._types, self._codes = types_of(plan.schema), Codes(plan.schema.categorical_names)

    def clean(self, rows: TimeOrder, watch: Stopwatch, profile: Profile) -> tuple[int, list[Finding]]:
        """Fills `rows` with the clean trips. How many raw trips there were, and what the rules found."""
        n_rows, findings, repeats = 0, list[Finding](), Repeats(self._plan.duplicates)

        def cleaned(piece: pl.DataFrame) -> tuple[pl.DataFrame, list[Finding], int]:
            with watch.time("clean"):
                good, found, n = clean_rows(self._to_native(piece), self._plan)
                return self._codes.coded(repeats.mark(self._to_polars(good))), found, n

        def added(piece: tuple[pl.DataFrame, list[Finding], int]) -> tuple[list[Finding], int]:
            with watch.time("sort"):
                rows.add(piece[0])
            return piece[1:]

        for found, n in ahead(added, ahead(cleaned, self._pieces(watch, profile)), n_threads=1):
            n_rows, findings = n_rows + n, add_findings(findings, found)
        with watch.time("clean"):
            findings += self._drop_duplicates(rows, repeats)
        return n_rows, findings

    def join(self, block: pl.DataFrame) -> tuple[pl.DataFrame, list[Finding]]:
        """The next block in time order with the conditions known at each request."""
        trips = self._to_native(with_texts(block.select(self._plan.columns), self._keys))
        mended, findings = mend_conditions(self._joins.join(trips), self._plan.schema)
        return self._to_polars(mended), findings

    def _pieces(self, watch: Stopwatch, profile: Profile) -> Iterator[pl.DataFrame]:
        """The raw trips in blocks of bounded size, counted on their way."""
        for block in watch.each("load", self._raw.blocks()):
            with watch.time("profile"):
                profile.add_raw(block)
            yield from block.iter_slices(BLOCK_ROWS)

    def _drop_duplicates(self, rows: TimeOrder, repeats: Repeats) -> list[Finding]:
        mask = repeats.mask()
        alike = (rows.take(mask) if mask is not None else rows.nothing()).drop(repeats.columns)
        kept, findings = drop_duplicates(self._to_native(with_texts(alike, alike.columns)), self._plan)
        if mask is not None:
            kept = self._codes.coded(self._to_polars(kept))
            rows.add(kept.with_columns(pl.lit(None, pl.UInt64).alias(c) for c in repeats.columns))
        return findings

    def _to_polars(self, frame: Any) -> pl.DataFrame:
        rows: pl.DataFrame = nw.from_native(frame, eager_only=True).to_polars()
        return rows.with_columns(
            pl.col(name).cast(self._types.get(name, pl.String if name in self._plan.columns else type_))
            for name, type_ in rows.schema.items()
            if not isinstance(type_, pl.Categorical)
        )
