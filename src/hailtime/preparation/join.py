"""The conditions of the world at a request, as far as anybody could know them then.

    joins = ConditionJoin(raw.conditions, schema, settings["conditions"])
    joined = [joins.join(block) for block in blocks]  # trips in time order

A row of a condition table has two clocks: `observed_at`, when it was true, and `known_at`, when it could be read. Only
what was known at the request counts, and a row learnt later never changes it: without the second clock late corrections
leak into training. There are three kinds of joins, each in a file of its own: the latest row known (`join_latest`),
events nearby (`join_nearby`), counts and means of the last minutes (`join_trailing`). `known` is what they share.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import narwhals as nw

from hailtime.errors import DataError, SchemaError, did_you_mean
from hailtime.preparation.conform import AnyFrame, read_frame
from hailtime.preparation.join_latest import LatestJoin
from hailtime.preparation.join_nearby import NearbyJoin
from hailtime.preparation.join_settings import TRIPS, Entry, Latest, Nearby, Trailing, entry_names, read_entries
from hailtime.preparation.join_trailing import TrailingJoin, TrailingTripsJoin
from hailtime.schema import Schema

Join = LatestJoin | NearbyJoin | TrailingJoin | TrailingTripsJoin
_ORDER = "_order"


def join_conditions(
    trips: Any, conditions: Mapping[str, Any], schema: Schema, settings: Mapping[str, Mapping[str, Any]]
) -> Any:
    """The trips with every condition column of the schema; null where nothing fresh was known.

    - trips: clean trips, and `conditions`: frames of the same engine
    - settings: by entry, what `join_settings` describes
    """
    return ConditionJoin(conditions, schema, settings).join(trips)


def tables_of(schema: Schema) -> list[str]:
    """The entries of `conditions` that the schema's columns come from, in order of appearance."""
    return entry_names(schema)


def keys_of(schema: Schema, settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The trip columns that the joins need beside the schema's. ConfigError when a setting cannot work."""
    entries = read_entries(schema, settings)
    keys = [entry.key for entry in entries if not isinstance(entry, Nearby) and entry.key is not None]
    return list(dict.fromkeys(keys))


class ConditionJoin:
    """The joins of one preparation: tables are read and worked out once, then asked block by block in time order.

    - tables: frames by name, all of one engine, which is also that of the trips
    - since_us: rows about what was over before are left out; for serving, which never asks about them
    """

    def __init__(
        self,
        tables: Mapping[str, Any],
        schema: Schema,
        settings: Mapping[str, Mapping[str, Any]],
        since_us: int | None = None,
    ) -> None:
        self.schema = schema
        self.joins = [_join_of(entry, tables, schema, since_us) for entry in read_entries(schema, settings)]

    def join(self, trips: Any) -> Any:
        """The block with every condition column, its rows in the order they came in.

        Blocks follow each other in time and are cut between two times of request; rows within may come in any order.
        """
        frame: Any = read_frame(trips, "trips")
        _check_trips(frame, self.schema, self.joins)
        is_eager = isinstance(frame, nw.DataFrame)
        is_sorted = not is_eager or frame[self.schema.requested_at].is_sorted()
        if not is_sorted:
            frame = frame.with_row_index(_ORDER).sort(self.schema.requested_at)
        # A lazy frame is worked out anew wherever it is named, and with what was joined to it at every join: so joins
        # read the requests from the trips as they came.
        asked = frame
        for join in self.joins:
            frame = join.join(frame, asked)
        if not is_sorted:
            frame = frame.sort(_ORDER).drop(_ORDER)
        return nw.to_native(frame)


def _join_of(entry: Entry, tables: Mapping[str, Any], schema: Schema, since_us: int | None) -> Join:
    if entry.table == TRIPS and isinstance(entry, Trailing):
        return TrailingTripsJoin(entry, schema)
    if entry.table not in tables:
        raise DataError(f"the source brings no condition {entry.table!r}{did_you_mean(entry.table, tables)}")
    table = read_frame(tables[entry.table], entry.table)
    if isinstance(entry, Latest):
        return LatestJoin(entry, table, schema.requested_at, since_us)
    if isinstance(entry, Nearby):
        return NearbyJoin(entry, table, schema.requested_at, since_us)
    return TrailingJoin(entry, table, schema.requested_at, since_us)


def _check_trips(trips: AnyFrame, schema: Schema, joins: Iterable[Join]) -> None:
    types = dict(trips.collect_schema())
    for name in dict.fromkeys(name for join in joins for name in join.needs):
        if name not in types:
            raise SchemaError(f"trips have no column {name!r} to join by{did_you_mean(name, types)}")
    if schema.requested_at in types and not types[schema.requested_at].is_integer():
        raise SchemaError(
            f"{schema.requested_at} of the trips must be int64 microseconds since 1970 UTC without gaps, got "
            f"{types[schema.requested_at]}: clean them first"
        )
    for column in schema.columns:
        if column.condition is not None and column.name in types:
            raise SchemaError(f"{column.name} comes from {column.condition}, and the trips have such a column already")
