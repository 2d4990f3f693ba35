"""What was asked and what became of it, as trips to train on: the log of the backend's own answers.

The inputs are those that the live model was given, joined columns and all, so training and serving cannot differ. The
schema is the live model's, which lies beside it; nobody spells a column twice (`retraining/window.py` puts it into the
settings).

Trips whose end nobody has told yet are not there, and near the log's end those are the long ones: a window must end a
label delay before now, by the time of the request.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from hailtime.errors import ConfigError, DataError, LogError
from hailtime.schema import MICROSECONDS_PER_SECOND, Schema
from hailtime.sources import RawData


class LogReader:
    """A prediction log to read, by path or by URL (`postgresql://...`). Every question opens it anew and only reads.

    Not in the process that writes the file: ADBC brings a SQLite of its own, and two in one process undo each other's
    locks (seen: a bus error).
    """

    def __init__(self, log: Path | str) -> None:
        self._is_postgres = str(log).startswith(("postgresql://", "postgres://"))
        self._where = str(log) if self._is_postgres else f"{Path(log).absolute().as_uri()}?mode=ro"
        if not self._is_postgres and not Path(log).is_file():
            raise ConfigError(f"the log to watch must be a prediction log or a postgresql:// URL, got {log}")

    def frame(self, query: str) -> pl.DataFrame:
        """The answer to a query. LogError when the log cannot be read."""
        with self._connection() as connection, closing(connection.cursor()) as cursor:
            if not self._is_postgres:
                # who closes a file last holds it for a moment, and a backend may be that
                cursor.execute("PRAGMA busy_timeout = 10000")
                cursor.fetchall()
            cursor.execute(query)
            frame = pl.from_arrow(cursor.fetch_arrow_table())
        assert isinstance(frame, pl.DataFrame)
        return frame

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            import adbc_driver_manager
            import adbc_driver_postgresql.dbapi
            import adbc_driver_sqlite.dbapi
        except ImportError as error:
            raise ConfigError("reading a log needs more packages: pip install 'hailtime[monitor]'") from error
        driver = adbc_driver_postgresql.dbapi if self._is_postgres else adbc_driver_sqlite.dbapi
        try:
            with closing(driver.connect(self._where)) as connection:
                yield connection
        except adbc_driver_manager.Error as error:
            raise LogError(f"the log at {_without_password(self._where)} cannot be read: {error}") from error


def load(
    log: str,
    live: str,
    from_s: float,
    to_s: float,
    since_s: float | None = None,
    old_per_new: float = 1.0,
    older: str | None = None,
) -> RawData:
    """The answered requests of a span (UTC seconds) whose end is known.

    - log: a backend's file or postgresql://...
    - live: the folder of the live version (or of a run), for its schema.json
    - since_s: the world changed then; of the rows before it only `old_per_new` are kept for each one since, evenly
    - older: a prepared folder of the same schema whose rows come before those of the log; with `since_s` None they are
      the old ones
    """
    schema = Schema.from_json((Path(live) / "schema.json").read_text())
    asked = answered(LogReader(log), schema, from_s, to_s)
    begins_us = asked[schema.requested_at].min() if since_s is None else int(since_s * MICROSECONDS_PER_SECOND)
    is_new = pl.col(schema.requested_at) >= begins_us
    new, old = asked.filter(is_new), asked.filter(~is_new)
    n_old = int(old_per_new * len(new))
    if older is not None and n_old > len(old):
        before_us = asked[schema.requested_at].min()
        earlier = prepared_rows(Path(older), asked.columns).filter(pl.col(schema.requested_at) < before_us)
        old = pl.concat([_evenly(earlier, n_old - len(old)), old])
    return as_trips(pl.concat([_evenly(old, n_old), new]), schema)


def answered(log: LogReader, schema: Schema, from_s: float, to_s: float) -> pl.DataFrame:
    """One row a request in time order: the schema's columns, as they were asked. DataError when there are none."""
    said = log.frame(
        "SELECT p.request_id, p.requested_at_s, p.features, a.pickup_time_s FROM predictions p "
        f"JOIN actuals a ON a.request_id = p.request_id WHERE p.requested_at_s >= {from_s:.0f} "
        f"AND p.requested_at_s < {to_s:.0f} AND a.pickup_time_s IS NOT NULL AND p.features IS NOT NULL ORDER BY p.id"
    )
    if said.is_empty():
        raise DataError(
            f"the log has no answered request from {from_s:.0f} to {to_s:.0f} (UTC seconds) with its inputs and end: "
            "keep them with PredictionLog(..., features='all') and tell it the ends"
        )
    return _with_inputs(said.unique("request_id", keep="first", maintain_order=True), schema)


def prepared_rows(folder: Path, columns: list[str]) -> pl.DataFrame:
    """All rows of a prepared folder in time order."""
    return pl.read_parquet(sorted(folder.glob("*/*.parquet"))).select(columns).sort("requested_at", maintain_order=True)


def as_trips(rows: pl.DataFrame, schema: Schema) -> RawData:
    """Trips that carry the joined columns already, as the joins want them: each request is its own key of them."""
    joined: dict[str, list[str]] = {}
    for column in schema.columns:
        if column.condition is not None:
            joined.setdefault(column.condition, []).append(column.name)
    at = pl.col(schema.requested_at)
    tables = {
        table: rows.select(schema.id, at.alias("observed_at"), at.alias("known_at"), *names)
        for table, names in joined.items()
    }
    return RawData(rows.drop(name for names in joined.values() for name in names), tables)


def join_settings(schema: Schema) -> dict[str, dict[str, Any]]:
    """The `conditions` of a source's yaml that go with `as_trips`."""
    return {c.condition: {"key": schema.id, "freshness_h": 1} for c in schema.columns if c.condition is not None}


def _with_inputs(said: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    inputs = {**dict.fromkeys(schema.numeric_names, pl.Float64), **dict.fromkeys(schema.categorical_names, pl.String)}
    kept = said["features"].str.json_decode(pl.Struct(inputs)).struct.unnest()
    at_us = (said["requested_at_s"] * MICROSECONDS_PER_SECOND).alias(schema.requested_at)
    frame = kept.with_columns(at_us, said["request_id"].alias(schema.id), said["pickup_time_s"].alias(schema.target))
    if schema.truth is not None:  # which no log knows
        frame = frame.with_columns(pl.lit(None, pl.Float64).alias(schema.truth))
    return frame.select(column.name for column in schema.columns).sort(schema.requested_at, maintain_order=True)


def _evenly(rows: pl.DataFrame, n: int) -> pl.DataFrame:
    """About `n` of the rows, at most, evenly drawn."""
    return rows.head(0) if n <= 0 else rows.gather_every(max(1, -(-len(rows) // n)))


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
