"""The latest row known: of those known at the request the one observed last, and nothing once it is no longer fresh.

Of corrections the latest known counts. A late row about the past does not replace a newer one, and a newest row that is
stale is not replaced by an older one.
"""

from typing import Any

import narwhals as nw

from hailtime.preparation.conform import AnyFrame, Kind
from hailtime.preparation.join_settings import Latest
from hailtime.preparation.known import (
    FROM,
    KEY,
    UNTIL,
    along,
    as_steps,
    in_order,
    join_spans,
    join_steps,
    not_over_before,
    read_rows,
    true_and_known,
)

_NEWEST, _NEXT, _NEXT_OBSERVED = "_newest", "_next", "_next_observed"


class LatestJoin:
    """One table, worked out once. `steps`: KEY, FROM and the columns from then on; None for lazy frames."""

    def __init__(self, entry: Latest, table: AnyFrame, requested_at: str, since_us: int | None = None) -> None:
        self.entry, self.requested_at = entry, requested_at
        self.needs = [requested_at, *([] if entry.key is None else [entry.key])]
        self._table: Any = table
        kinds: dict[str, Kind] = {c.name: "text" if c.role == "categorical" else "number" for c in entry.columns}
        rows = read_rows(table, entry.table, kinds, entry.key)
        self._spans: Any = _spans(
            not_over_before(rows, since_us, ["observed_at"], None), list(kinds), entry.freshness_us
        )
        self.steps = as_steps(self._spans) if isinstance(self._spans, nw.DataFrame) else None

    def join(self, trips: Any, asked: Any) -> Any:
        longest_us = self.entry.freshness_us + 1
        if self.steps is not None:
            return join_steps(trips, self.steps, self.requested_at, self.entry.key, longest_us)
        return join_spans(trips, asked, self._spans, self.requested_at, self.entry.key, longest_us, self._table)


def _spans(rows: AnyFrame, values: list[str], freshness_us: int) -> AnyFrame:
    """Each row with the span [FROM, UNTIL) in which it is the latest known one of its key and still fresh."""
    rows = rows.with_columns(true_and_known().alias(FROM))
    # rows alike in both clocks: the one known last counts, and of rows known at once the same in every engine
    order = [FROM, "observed_at", "known_at", *sorted(values)]
    rows = in_order(rows, order)
    rows = rows.with_columns(
        along(nw.col("observed_at").cum_max(), rows, [KEY], order).alias(_NEWEST),
        along(nw.col(FROM).shift(-1), rows, [KEY], order).alias(_NEXT),
        along(nw.col("observed_at").shift(-1), rows, [KEY], order).alias(_NEXT_OBSERVED),
    )
    is_replaced = ((nw.col(_NEXT) == nw.col(FROM)) & (nw.col(_NEXT_OBSERVED) == nw.col("observed_at"))).fill_null(False)
    rows = rows.filter(nw.col("observed_at") == nw.col(_NEWEST), ~is_replaced)
    rows = rows.with_columns(along(nw.col(FROM).shift(-1), rows, [KEY], order).alias(_NEXT))
    stale_at = nw.col("observed_at") + (freshness_us + 1)
    until = nw.min_horizontal(nw.coalesce(nw.col(_NEXT), stale_at), stale_at).cast(nw.Int64)
    rows = rows.with_columns(until.alias(UNTIL)).filter(nw.col(FROM) < nw.col(UNTIL))
    return rows.select(KEY, FROM, UNTIL, *values)
