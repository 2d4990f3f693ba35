"""The conditions of the world at a request, as far as anybody could know them then.

A row of a condition table has two clocks: `observed_at`, when it was true, and `known_at`, when it could be read. A
request gets the row with the latest `observed_at` among those known by then (of corrections, the latest known), and
nothing when that row is older than the table's freshness. A row learnt later never changes a request: without the
second clock late corrections leak into training.

There is no as-of join here, because engines differ in it. Each row is turned into the interval in which it is the
answer, the interval into the hours it touches, and requests meet it by equality of key and hour.
"""

from collections.abc import Mapping
from typing import Any, cast

import narwhals as nw

from hailtime.errors import ConfigError, DataError, SchemaError, did_you_mean
from hailtime.preparation.conform import AnyFrame, Kind, conform, read_frame
from hailtime.schema import MICROSECONDS_PER_SECOND, Column, Schema

HOUR_US = 3600 * MICROSECONDS_PER_SECOND
_MOST_HOURS = 12  # copies of one row; a table that stays fresh for longer gets wider buckets instead
# Helper columns begin with an underscore, as no column of a schema can.
_KEY, _FROM, _UNTIL, _BUCKET, _NEWEST = "_key", "_from", "_until", "_bucket", "_newest"


def join_conditions(
    trips: Any, conditions: Mapping[str, Any], schema: Schema, settings: Mapping[str, Mapping[str, Any]]
) -> Any:
    """The trips with every condition column of the schema; null where nothing fresh was known.

    - trips: clean trips, and `conditions`: frames of the same engine
    - settings: by table, `key` (the column both sides share, null for one value for the whole city) and `freshness_h`
    """
    frame: Any = read_frame(trips, "trips")
    for table in tables_of(schema):
        key, freshness_us = read_settings(table, settings)
        if table not in conditions:
            raise DataError(f"the source brings no condition {table!r}{did_you_mean(table, conditions)}")
        columns = [column for column in schema.columns if column.condition == table]
        rows = _read_table(read_frame(conditions[table], table), table, columns, key)
        shared = [schema.requested_at, *([key] if key else [])]
        _check_trips(frame, shared, columns)
        frame = frame.join(_answers(frame, rows, shared, freshness_us), on=shared, how="left")
    return nw.to_native(frame)


def tables_of(schema: Schema) -> list[str]:
    """The condition tables that the schema's columns come from, in order of appearance."""
    return list(dict.fromkeys(column.condition for column in schema.columns if column.condition is not None))


def keys_of(schema: Schema, settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The trip columns that the joins need."""
    return [key for key in (read_settings(table, settings)[0] for table in tables_of(schema)) if key is not None]


def read_settings(table: str, settings: Mapping[str, Mapping[str, Any]]) -> tuple[str | None, int]:
    """The key of a table and its freshness in microseconds; ConfigError when the yaml does not say."""
    if table not in settings:
        raise ConfigError(f"conditions has no entry {table!r}, which columns come from{did_you_mean(table, settings)}")
    entry = settings[table]
    for name in entry:
        if name not in ("key", "freshness_h"):
            raise ConfigError(f"condition {table} has no setting {name!r}{did_you_mean(name, ('key', 'freshness_h'))}")
    hours = entry.get("freshness_h")
    if not isinstance(hours, int | float) or isinstance(hours, bool) or not hours > 0:
        raise ConfigError(f"condition {table}: freshness_h must be hours above 0, got {hours!r}")
    return entry.get("key"), int(hours * HOUR_US)


def _check_trips(trips: AnyFrame, shared: list[str], columns: list[Column]) -> None:
    present = trips.collect_schema().names()
    for name in shared:
        if name not in present:
            raise SchemaError(f"trips have no column {name!r} to join by{did_you_mean(name, present)}")
    for column in columns:
        if column.name in present:
            raise SchemaError(f"{column.name} comes from {column.condition}, and the trips have such a column already")


def _read_table(frame: AnyFrame, table: str, columns: list[Column], key: str | None) -> AnyFrame:
    """The rows that can be placed in time, with the key in a column of its own (constant for the whole city)."""
    kinds: dict[str, Kind] = {"observed_at": "time", "known_at": "time"}
    if key is not None:
        kinds[key] = "text"
    kinds |= {column.name: "text" if column.role == "categorical" else "number" for column in columns}
    frame = conform(frame, f"rows of {table}", kinds)
    frame = frame.drop_nulls(["observed_at", "known_at", *([key] if key else [])])
    # a row cannot be known before it is true: a clock that is ahead must not let the future in
    known_at = nw.max_horizontal("observed_at", "known_at").cast(nw.Int64)
    frame = frame.with_columns(
        nw.col("observed_at").cast(nw.Int64),
        known_at.alias("known_at"),
        (nw.col(key) if key else nw.lit("")).alias(_KEY),
    )
    return frame.drop(key) if key else frame


def _intervals(rows: AnyFrame, freshness_us: int) -> AnyFrame:
    """Each row with the time span [_from, _until) in which it is the latest known one of its key and still fresh."""
    values = sorted(set(rows.collect_schema()) - {"observed_at", "known_at", _KEY})
    clocks = [_KEY, "known_at", "observed_at"]
    # rows alike in both clocks: one of them, the same in every engine
    rows = rows.unique(clocks, keep="last", order_by=[*clocks, *values])
    newest = nw.col("observed_at").cum_max().over(_KEY, order_by=["known_at", "observed_at"])
    rows = rows.with_columns(newest.alias(_NEWEST)).filter(nw.col("observed_at") == nw.col(_NEWEST))
    next_known = nw.col("known_at").shift(-1).over(_KEY, order_by=["known_at", "observed_at"])
    stale_at = nw.col("observed_at") + (freshness_us + 1)
    until = nw.min_horizontal(nw.coalesce(next_known, stale_at), stale_at).cast(nw.Int64)
    rows = rows.with_columns(nw.col("known_at").alias(_FROM), until.alias(_UNTIL)).filter(
        nw.col(_FROM) < nw.col(_UNTIL)
    )
    return rows.select(_KEY, _FROM, _UNTIL, *values)


def _answers(trips: AnyFrame, rows: AnyFrame, shared: list[str], freshness_us: int) -> AnyFrame:
    """One row for every time (and key) at which somebody asked and something was known."""
    requested_at, *key = shared
    bucket_us = -(-freshness_us // (_MOST_HOURS * HOUR_US)) * HOUR_US  # one hour, or more for a slow table
    intervals = _by_bucket(_intervals(rows, freshness_us), freshness_us, bucket_us)
    asked: Any = trips.select(*shared).drop_nulls().unique()
    asked = asked.with_columns(
        (nw.col(key[0]) if key else nw.lit("")).alias(_KEY), (nw.col(requested_at) // bucket_us).alias(_BUCKET)
    )
    met = asked.join(intervals, on=[_KEY, _BUCKET], how="inner")
    met = met.filter((nw.col(_FROM) <= nw.col(requested_at)) & (nw.col(requested_at) < nw.col(_UNTIL)))
    return cast(AnyFrame, met.drop(_KEY, _BUCKET, _FROM, _UNTIL))


def _by_bucket(intervals: AnyFrame, freshness_us: int, bucket_us: int) -> AnyFrame:
    """Each interval once for every bucket it touches."""
    first, last = nw.col(_FROM) // bucket_us, (nw.col(_UNTIL) - 1) // bucket_us
    copies: list[Any] = [
        intervals.with_columns((first + offset).alias(_BUCKET)).filter(nw.col(_BUCKET) <= last)
        for offset in range(freshness_us // bucket_us + 2)
    ]
    return cast(AnyFrame, nw.concat(copies))
