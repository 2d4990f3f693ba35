"""Rows that may be duplicates, found over a table that is never in memory as a whole.

Every row leaves a hash of its key. Where a hash occurs once, the key does; the few rows whose hash occurs again are
looked at together by the rule itself (`clean.drop_duplicates`), so two keys with one hash cost time and no row.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from hailtime.preparation.rules import Duplicate

_SEED = 7


class Repeats:
    """Collects the hashes of one preparation: 8 bytes a row and rule."""

    def __init__(self, rules: Sequence[Duplicate]) -> None:
        self._rules = {f"_key_{place}": list(rule.by) for place, rule in enumerate(rules)}
        self._hashes: dict[str, list[pl.Series]] = {name: [] for name in self._rules}

    @property
    def columns(self) -> list[str]:
        """The helper columns that `mark` adds."""
        return list(self._rules)

    def mark(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with a hash for each rule; null where a part of the key is missing: such a row repeats nothing."""
        for name, by in self._rules.items():
            has_key = rows.select(pl.all_horizontal(pl.col(by).is_not_null())).to_series()
            keys = rows.select(by).hash_rows(seed=_SEED)
            rows = rows.with_columns(keys.zip_with(has_key, pl.Series([None], dtype=pl.UInt64)).alias(name))
            self._hashes[name].append(rows[name].drop_nulls())
        return rows

    def mask(self) -> pl.Expr | None:
        """True for rows whose key may occur again; None when no row's does."""
        masks = []
        for name, hashes in self._hashes.items():
            every = np.sort(pl.concat(hashes).to_numpy()) if hashes else np.empty(0, np.uint64)
            again = pl.Series(np.unique(every[1:][every[1:] == every[:-1]]))
            if len(again) > 0:
                masks.append(pl.col(name).is_in(again.implode()).fill_null(False))
        return pl.any_horizontal(masks) if masks else None
