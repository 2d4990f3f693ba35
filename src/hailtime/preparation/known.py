"""What was known when: rows of condition tables as the spans of time in which they are the answer.

A row has two clocks: `observed_at`, when it was true, and `known_at`, when it could be read. It counts from the later
of the two: a clock that is ahead must not let the future in. A row known later that is about the same thing replaces
it from then on, and a row learnt later never changes what was answered before.

Spans of one key do not overlap, so a request finds its answer in one of two ways that give the same bits:

- eager frames (Polars, pandas): the spans become steps, a value from a moment on and nothing from the end of a span
  on, and an as-of join finds the step. Measured: as fast as a hand-written `join_asof`.
- lazy frames (Polars, Spark): each span is copied into the hours it touches, and requests meet it by equality of key
  and hour. Engines differ in as-of joins, and Spark has none.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import narwhals as nw

from hailtime.preparation.conform import AnyFrame, Kind, conform
from hailtime.preparation.join_settings import HOUR_US

# Helper columns begin with an underscore, as no column of a schema can.
KEY, FROM, UNTIL = "_key", "_from", "_until"
_NEXT, _BUCKET, _OFFSET = "_next", "_bucket", "_offset"
_MOST_HOURS = 12  # copies of one span; spans that may be longer get wider buckets instead


def read_rows(
    frame: AnyFrame, table: str, kinds: Mapping[str, Kind], key: str | None, needed: Sequence[str] = ()
) -> AnyFrame:
    """The rows that can be placed in time and have all that is needed, with the key in KEY ("" for the whole city)."""
    clocks: dict[str, Kind] = {"observed_at": "time", "known_at": "time"}
    keys: dict[str, Kind] = {} if key is None else {key: "text"}
    frame = conform(frame, f"rows of {table}", {**clocks, **kinds, **keys})
    frame = frame.drop_nulls([*clocks, *keys, *needed])
    return frame.with_columns(
        nw.col("observed_at").cast(nw.Int64),
        nw.col("known_at").cast(nw.Int64),
        (nw.lit("") if key is None else nw.col(key)).alias(KEY),
    )


def not_over_before(rows: AnyFrame, since_us: int | None, clocks: Sequence[str], same: str | None) -> AnyFrame:
    """The rows with a clock at or after `since_us`, and all others about the `same` thing. None leaves all rows."""
    if since_us is None:
        return rows
    is_recent = nw.any_horizontal(*(nw.col(clock) >= since_us for clock in clocks), ignore_nulls=True)
    if same is None:
        return rows.filter(is_recent)
    recent: Any = rows.filter(is_recent).select(same).unique()
    return rows.join(recent, on=same, how="semi")


def true_and_known() -> nw.Expr:
    """From when on a row can be an answer."""
    return nw.max_horizontal("observed_at", "known_at").cast(nw.Int64)


def in_order(rows: AnyFrame, order: Sequence[str]) -> AnyFrame:
    """The rows sorted, where the engine has an order: what `along` counts on."""
    return rows.sort(*order) if isinstance(rows, nw.DataFrame) else rows


def along(window: nw.Expr, rows: AnyFrame, same: Sequence[str], order: Sequence[str]) -> nw.Expr:
    """A cumulative or shifted expression within rows alike in `same`; `rows` are `in_order`.

    Eager frames are sorted once for all windows: sorting within each costs four times as much.
    """
    return window.over(*same) if isinstance(rows, nw.DataFrame) else window.over(*same, order_by=list(order))


def spans_in_force(rows: AnyFrame, same: Sequence[str], end: nw.Expr, values: Sequence[str]) -> AnyFrame:
    """FROM, UNTIL of every row: until its end, or until a row known later is about the same thing.

    - same: the columns in which rows agree that are about the same thing
    - end: when a row is over by itself
    - values: all other columns; of rows known at once the one with the largest stays, the same in every engine
    """
    order = ["known_at", *(name for name in values if name not in same)]
    rows = in_order(rows, order)
    rows = rows.with_columns(along(nw.col("known_at").shift(-1), rows, same, order).alias(_NEXT))
    until = nw.min_horizontal(nw.coalesce(nw.col(_NEXT), end), end).cast(nw.Int64)
    rows = rows.with_columns(true_and_known().alias(FROM), until.alias(UNTIL))
    is_version = (nw.col(_NEXT) != nw.col("known_at")).fill_null(True)
    return rows.filter(is_version, nw.col(FROM) < nw.col(UNTIL)).drop(_NEXT)


def each_with(rows: AnyFrame, name: str, values: Sequence[int], table: AnyFrame) -> AnyFrame:
    """Every row once with each of the values in the column `name`.

    `table` is a frame of the same engine that costs little to read: on lazy frames the values come from a cross join
    with it, because a concatenation would work out `rows` again for every value.
    """
    if isinstance(rows, nw.DataFrame):
        return nw.concat([rows.with_columns(_whole(value, name)) for value in values])
    few: list[Any] = [table.select(_whole(value, name)).head(1) for value in values]
    return rows.join(nw.concat(few), how="cross")


def _whole(value: int, name: str) -> nw.Expr:
    return nw.lit(value).cast(nw.Int64).alias(name)


def as_steps(spans: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """KEY, FROM and the values from then on, ordered by FROM; values are null where a span ends and none follows."""
    spans = spans if spans[FROM].is_sorted() else spans.sort(FROM)
    spans = spans.with_columns(nw.col(FROM).shift(-1).over(KEY).alias(_NEXT))
    is_followed = (nw.col(_NEXT) == nw.col(UNTIL)).fill_null(False)
    ends = spans.filter(~is_followed).select(KEY, nw.col(UNTIL).alias(FROM))
    return nw.concat([spans.drop(UNTIL, _NEXT), ends], how="diagonal").sort(FROM)


def join_steps(
    trips: nw.DataFrame[Any], steps: nw.DataFrame[Any], requested_at: str, key: str | None, longest_us: int
) -> nw.DataFrame[Any]:
    """The trips, which are in time order, with the values of the step they fall on.

    No step with a value is longer than `longest_us`, so that a block needs few of them: the engine works through all
    it is given for every block.
    """
    if len(trips):
        first, last = trips[requested_at][0], trips[requested_at][-1]
        steps = steps.filter(nw.col(FROM) >= first - longest_us, nw.col(FROM) <= last)
    if key is None:
        steps = steps.drop(KEY)
    by: Any = {} if key is None else {"by_left": key, "by_right": KEY}
    if trips.implementation.is_polars():
        # Polars itself, because through Narwhals it warns that it cannot check the order within a key
        left, right = trips.to_native(), steps.to_native()
        joined = left.join_asof(right, left_on=requested_at, right_on=FROM, check_sortedness=False, **by)
        return cast(nw.DataFrame[Any], nw.from_native(joined).drop(FROM, KEY, strict=False))
    return trips.join_asof(steps, left_on=requested_at, right_on=FROM, **by).drop(FROM, KEY, strict=False)


def join_spans(
    trips: nw.LazyFrame[Any],
    asked: nw.LazyFrame[Any],
    spans: nw.LazyFrame[Any],
    requested_at: str,
    key: str | None,
    longest_us: int,
    table: nw.LazyFrame[Any],
) -> nw.LazyFrame[Any]:
    """The trips with the values of the span they fall into, which is no longer than `longest_us`.

    `asked` are the same trips, from where it costs least to read when they were.
    """
    shared = [requested_at, *([] if key is None else [key])]
    bucket_us = -(-longest_us // (_MOST_HOURS * HOUR_US)) * HOUR_US  # one hour, or more for long spans
    asked = asked.select(*shared).drop_nulls().unique()
    asked = asked.with_columns(
        (nw.lit("") if key is None else nw.col(key)).alias(KEY), (nw.col(requested_at) // bucket_us).alias(_BUCKET)
    )
    # each span once for every bucket it touches
    placed: Any = each_with(spans, _OFFSET, range(longest_us // bucket_us + 2), table)
    placed = placed.with_columns((nw.col(FROM) // bucket_us + nw.col(_OFFSET)).alias(_BUCKET))
    placed = placed.filter(nw.col(_BUCKET) <= (nw.col(UNTIL) - 1) // bucket_us)
    met = asked.join(placed, on=[KEY, _BUCKET], how="inner")
    met = met.filter(nw.col(FROM) <= nw.col(requested_at), nw.col(requested_at) < nw.col(UNTIL))
    return trips.join(met.drop(KEY, _BUCKET, _OFFSET, FROM, UNTIL), on=shared, how="left")
