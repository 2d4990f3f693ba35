"""Tables of PostgreSQL (psycopg 3) and SQLite through SQLAlchemy, some rows at a time, and on after a cut.

Rows of one key are handed over together, and only when the next key has come. So after a cut everything up to the last
key handed over is complete, and a new connection asks for what is behind it: `WHERE (key) > (last key)`. A key need not
be unique for that; without a key all rows are handed over at the end, and a cut starts them anew.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import polars as pl

from hailtime.errors import ConfigError, DataError, did_you_mean
from hailtime.sources.queries import Query

_INSTALL = "reading PostgreSQL or SQLite needs sqlalchemy and psycopg: pip install 'hailtime[postgres]'"
try:
    import sqlalchemy as sa
    from sqlalchemy.pool import NullPool
except ImportError as error:
    raise ConfigError(_INSTALL) from error

log = logging.getLogger(__name__)

PAGE_ROWS = 50_000  # as Python objects some 700 bytes a row of ten columns: 35 MB
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # between tries after a cut; half a minute in all, as a restart may take
# A cut without a word (a firewall, a machine that went) is noticed after a minute; the system's default is two hours.
_CONNECT = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "application_name": "hailtime",
}
_SECRET = ("password", "sslpassword")

# What a column may hold. The first that fits is its type, so one without a value is whole numbers.
_TYPES: tuple[tuple[set[type], Any], ...] = (
    ({int}, pl.Int64),
    ({int, float}, pl.Float64),
    ({bool}, pl.Boolean),
    ({str}, pl.String),
    ({datetime}, pl.Datetime("us")),
    ({date}, pl.Date),
)

Row = Sequence[Any]


def postgresql(url: str, password: str | None) -> "SqlDatabase":
    """A PostgreSQL server. ConfigError when the URL holds a password or is none, without repeating it."""
    try:
        place = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigError("url must be like postgresql://user@host:5432/database") from None
    if place.password is not None or any(name in place.query for name in _SECRET):
        raise ConfigError(
            "url must hold no password, because settings are written into report.json: take it out, put it into an "
            "environment variable and name that: password_env: CITY_PASSWORD"
        )
    try:
        engine = sa.create_engine(
            place.set(drivername="postgresql+psycopg", password=password),
            poolclass=NullPool,
            isolation_level="REPEATABLE READ",
            connect_args=_CONNECT,
            execution_options={"postgresql_readonly": True},
        )
    except ImportError as error:
        raise ConfigError(_INSTALL) from error
    return SqlDatabase(engine, place.set(drivername="postgresql").render_as_string(), WAITS_S)


def sqlite(path: Path) -> "SqlDatabase":
    """A SQLite file, never written to."""
    address = f"file:{quote(os.fspath(path))}?mode=ro"
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(address, uri=True), poolclass=NullPool)
    return SqlDatabase(engine, str(path), ())


class SqlDatabase:
    """Reads with a connection of its own each time.

    - shown: what messages call the database; no secret is in it
    - waits_s: how long to wait before each further try after a cut; none for what cannot be cut
    """

    def __init__(self, engine: sa.Engine, shown: str, waits_s: Sequence[float]) -> None:
        self._engine, self._shown, self._waits_s = engine, shown, waits_s

    def columns(self, query: Query) -> list[str]:
        with self._told(query), self._engine.connect() as connection:
            self._check_table(connection, query)
            everything: sa.Select[Any] = sa.select(sa.literal_column("*")).select_from(_source(query)).limit(0)
            return list(connection.execute(everything).keys())

    def frames(self, query: Query) -> Iterator[pl.DataFrame]:
        names = _selected(query)
        with self._told(query):
            for rows in self._pages(query):
                values = dict(zip(names, zip(*rows, strict=True), strict=True))
                _check_key(values, query)
                yield pl.DataFrame([_series(name, values[name], query) for name in query.names])

    def _pages(self, query: Query) -> Iterator[list[Row]]:
        """All rows, each key's together; after a cut from the last key on."""
        last: Row | None = None
        held: list[Row] = []
        n_failed = 0
        while True:
            try:
                for page in self._stream(query, last):
                    whole, held = _split_last_key([*held, *page], query)
                    if whole:
                        last, n_failed = _key(whole[-1], query), 0
                        yield whole
                break
            except sa.exc.OperationalError as error:
                if n_failed == len(self._waits_s):
                    raise
                log.warning(
                    "reading %s was cut, going on in %s s: %s", query.where, self._waits_s[n_failed], _said(error)
                )
                time.sleep(self._waits_s[n_failed])
                held, n_failed = [], n_failed + 1
        if held:
            yield held

    def _stream(self, query: Query, last: Row | None) -> Iterator[Sequence[Row]]:
        """The rows behind a key in one snapshot, page by page."""
        with self._engine.connect() as connection:
            if (
                last is not None
            ):  # a comparison with a missing value is not true: such rows would be lost without a word
                _check_no_gap(connection, query)
            options = {"stream_results": True, "yield_per": PAGE_ROWS}
            result = connection.execute(_statement(query, last), execution_options=options)
            with closing(result.cursor):  # SQLAlchemy forgets it when the connection is cut, and psycopg complains
                yield from result.partitions()

    def _check_table(self, connection: sa.Connection, query: Query) -> None:
        schema, name = query.schema_and_table
        inspector = sa.inspect(connection)
        if query.is_select or inspector.has_table(name, schema):
            return
        known = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
        raise DataError(f"{self._shown} has no {query.where}{did_you_mean(name, known)}")

    @contextmanager
    def _told(self, query: Query) -> Iterator[None]:
        """Errors of the database in one line, without the statement's values and without a password."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise DataError(f"{query.where} cannot be read from {self._shown}: {_said(error)}") from error


def _selected(query: Query) -> list[str]:
    return list(dict.fromkeys((*query.names, *query.order_by)))


def _source(query: Query) -> sa.FromClause | sa.TextClause:
    if query.is_select:
        # SQLAlchemy takes :name for a parameter, and here a colon is the user's own
        return sa.text("(" + query.table.replace(":", r"\:") + ") AS source")
    schema, name = query.schema_and_table
    return sa.table(name, schema=schema)


def _statement(query: Query, last: Row | None) -> Any:
    key: list[sa.ColumnClause[Any]] = [sa.column(name) for name in query.order_by]
    statement: Any = sa.select(*map(sa.column, _selected(query))).select_from(_source(query)).order_by(*key)
    if last is None:
        return statement
    # without a type of SQLAlchemy's, which would cast an enum's value to VARCHAR and then find no comparison
    behind = sa.tuple_(*(sa.bindparam(None, value, type_=sa.types.NULLTYPE) for value in last))
    return statement.where(sa.tuple_(*key) > behind)


def _key(row: Row, query: Query) -> Row:
    names = _selected(query)
    return [row[names.index(name)] for name in query.order_by]


def _split_last_key(rows: list[Row], query: Query) -> tuple[list[Row], list[Row]]:
    """The rows before the last key, and those of it, of which more may come."""
    n_whole = len(rows)
    while n_whole and _key(rows[n_whole - 1], query) == _key(rows[-1], query):
        n_whole -= 1
    return rows[:n_whole], rows[n_whole:]


def _check_key(values: dict[str, tuple[Any, ...]], query: Query) -> None:
    for name in query.order_by:
        if None in values[name]:
            raise DataError(_gap(name, query))


def _check_no_gap(connection: sa.Connection, query: Query) -> None:
    for name in query.order_by:
        key: sa.ColumnClause[Any] = sa.column(name)
        gap = sa.select(key).select_from(_source(query)).where(key.is_(None)).limit(1)
        if connection.execute(gap).first() is not None:
            raise DataError(_gap(name, query))


def _gap(name: str, query: Query) -> str:
    return f"order_by needs columns without a missing value, {name} of {query.where} has one: name others or filter it"


def _series(name: str, values: tuple[Any, ...], query: Query) -> pl.Series:
    """The values of a column; SQLite has no types, so what is there decides."""
    types = set(map(type, values)) - {type(None)}
    if types in ({UUID}, {Decimal}) or (name in query.texts and len(types) > 1):
        plain = float if types == {Decimal} and name not in query.texts else str
        values, types = tuple(None if value is None else plain(value) for value in values), {plain}
    for known, dtype in _TYPES:
        if types <= known:
            has_zone = types == {datetime} and next(v for v in values if v is not None).tzinfo is not None
            return pl.Series(name, values, dtype=pl.Datetime("us", "UTC") if has_zone else dtype)
    found = ", ".join(sorted(kind.__name__ for kind in types))
    raise DataError(f"{query.where}: {name} must be all numbers, texts or times, got {found}: cast it in a SELECT")


def _said(error: sa.exc.DBAPIError) -> str:
    return " ".join(str(error.orig).split())
