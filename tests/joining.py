"""What the tests of the joins share: a town, requests and tables in minutes after noon, and the joined rows."""

import polars as pl

from hailtime.preparation.join import join_conditions
from hailtime.schema import Schema
from tests.conftest import ENGINES

T0 = 1_768_219_200_000_000  # 2026-01-12 12:00 UTC
MINUTE = 60_000_000
OWN = {
    "request_id": {"role": "id"},
    "requested_at": {"role": "requested_at"},
    "lat": {"role": "numeric", "unit": "deg"},
    "lon": {"role": "numeric", "unit": "deg"},
    "zone": {"role": "categorical"},
    "pickup_time_s": {"role": "target", "unit": "s"},
}
_TRIP = {
    "request_id": pl.String,
    "requested_at": pl.Int64,
    "lat": pl.Float64,
    "lon": pl.Float64,
    "zone": pl.String,
    "pickup_time_s": pl.Float64,
}


def schema_of(**joined):
    """The town's schema with numbers joined: `column="entry"`."""
    columns = {name: {"role": "numeric", "unit": "1", "condition": entry} for name, entry in joined.items()}
    return Schema.from_dict({"source": "town", "timezone": "Europe/Berlin", "columns": {**OWN, **columns}})


def at(minute):
    return T0 + round(minute * MINUTE)


def trips(*rows):
    """Requests r0, r1, ... from dicts with `minute` and any of lat, lon, zone, pickup_time_s."""
    filled = [
        {"request_id": f"r{i:03}", "requested_at": at(row["minute"]), **{k: v for k, v in row.items() if k != "minute"}}
        for i, row in enumerate(rows)
    ]
    return pl.DataFrame({name: [row.get(name) for row in filled] for name in _TRIP}, schema=_TRIP, strict=False)


def table(types, *rows):
    """Rows whose first columns are `observed_at` and `known_at`, in minutes; `types` are the columns after those."""
    names = ["observed_at", "known_at", *types]
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    for name in names:
        if name.endswith("_at"):
            columns[name] = [None if minute is None else at(minute) for minute in columns[name]]
    return pl.DataFrame(columns, schema={"observed_at": pl.Int64, "known_at": pl.Int64, **types}, strict=False)


def joined(asked, tables, schema, settings, make=ENGINES["polars"]):
    """The joined trips as Polars in the order of their ids."""
    native = join_conditions(make(asked), {name: make(rows) for name, rows in tables.items()}, schema, settings)
    return as_polars(native, schema)


def as_polars(native, schema):
    native = native.collect() if isinstance(native, pl.LazyFrame) else native
    rows = native if isinstance(native, pl.DataFrame) else pl.from_pandas(native)
    types = {column.name: pl.Float64 for column in schema.columns if column.condition is not None}
    return rows.cast({**types, "zone": pl.String, "pickup_time_s": pl.Float64}).sort("request_id")
