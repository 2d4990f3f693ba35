"""Trips in PostgreSQL, or in a SQLite or DuckDB file: the yaml says which column is which, and no code is written.

    raw = load("postgresql://reader@db.example.org/city", "rides", {"request_id": "id", "requested_at": "created"},
               password_env="CITY_PASSWORD")

- url: `postgresql://user@host:5432/database`, `sqlite:///trips.db`, `duckdb:///trips.duckdb` (four slashes: from the
  root). A password in it is refused, because settings are written into report.json and logs: `password_env` names the
  environment variable that holds it. Without one PostgreSQL's own ways are used (PGPASSWORD, ~/.pgpass, a socket).
- a table is `rides`, `schema.rides` or a whole SELECT; `columns.py` says what an entry of `columns` can hold

Trips come in blocks of one reading of the table. Conditions are read when the source is loaded, and are whole frames.

PostgreSQL: one SELECT in a repeatable-read, read-only transaction through a server-side cursor, so a reading gives
exactly the rows of the moment it began, whatever is inserted meanwhile. The rows come ordered by `order_by`; when the
connection is cut, a new one goes on behind the last key that was handed over: no row twice, none lost. The part that is
read after a cut is as of the new connection: rows inserted meanwhile with a later key are in it. Every use of the
blocks is a reading of its own. An index on `order_by` spares the server a sort.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from hailtime.errors import ConfigError, DataError, did_you_mean
from hailtime.sources import Blocks, RawData
from hailtime.sources.columns import Kinds, TableColumns, check_keys, grouped
from hailtime.sources.queries import Query


class Database(Protocol):
    """What can be asked of any database. DataError when it does not answer."""

    def columns(self, query: Query) -> list[str]:
        """The names of all columns of the table."""
        ...

    def frames(self, query: Query) -> Iterator[pl.DataFrame]:
        """The query's rows as they are there, some at a time."""
        ...


def load(
    url: str,
    trips: str,
    columns: Mapping[str, Any],
    conditions: Mapping[str, Mapping[str, Any]] | None = None,
    timezone: str | None = None,
    password_env: str | None = None,
    order_by: str | Sequence[str] | None = None,
) -> RawData:
    """The trips of a table or SELECT, and for each name in `conditions` a table read the same way.

    - conditions: name → {table, columns, timezone (the trips' when left out)}
    - order_by: the table's columns that order the trips, never missing, best a unique key with an index; the column of
      `request_id` when left out. All rows of one key must fit into memory. DuckDB, which cannot be cut, needs none.

    DataError names what cannot be reached, found or read, here or when the blocks are read.
    """
    read = TableColumns.read(columns, timezone)
    database = _open(url, password_env)
    tables = {}
    for name, settings in (conditions or {}).items():
        check_keys(f"condition {name}", settings, ("table", "columns", "timezone"), needed=("table", "columns"))
        own = TableColumns.read(settings["columns"], settings.get("timezone") or timezone)
        query = Query.of(f"condition {name}", settings["table"], own)
        tables[name] = pl.concat(read_pages(database, _checked(database, query, own), own), how="vertical_relaxed")
    query = _checked(database, Query.of("trips", trips, read, _key(order_by, read)), read)
    return RawData(Blocks(lambda: grouped(read_pages(database, query, read))), tables)


def _open(url: str, password_env: str | None) -> Database:
    """The database of a URL; what is wrong is told without it, because a password may be in it."""
    scheme, _, place = str(url).partition("://")
    if scheme in ("postgresql", "postgresql+psycopg", "postgres"):
        from hailtime.sources.sql_database import postgresql

        return postgresql(url, _password(password_env))
    if scheme not in ("sqlite", "duckdb"):
        raise ConfigError("url must begin with postgresql://, sqlite:/// or duckdb:///")
    path = Path(place.removeprefix("/"))
    if not path.is_file():
        raise DataError(f"{scheme}:/// must name a file, there is none at {path}")
    if scheme == "sqlite":
        from hailtime.sources.sql_database import sqlite

        return sqlite(path)
    from hailtime.sources.duckdb_file import DuckDbFile

    return DuckDbFile(path)


def _password(name: str | None) -> str | None:
    """The variable's value. Its name is not repeated in a message: it may be the password, put there by mistake."""
    if name is not None and name not in os.environ:
        raise ConfigError(
            "password_env must be the name of an environment variable that holds the password, and no variable of the "
            "name given is set"
        )
    return None if name is None else os.environ[name]


def _key(order_by: str | Sequence[str] | None, columns: TableColumns) -> tuple[str, ...]:
    if order_by is not None:
        return (order_by,) if isinstance(order_by, str) else tuple(order_by)
    found = tuple(entry.column for entry in columns.entries if entry.name == "request_id")
    if not found:
        raise ConfigError("order_by must name the columns that order the trips when no column is called request_id")
    return found


def _checked(database: Database, query: Query, columns: TableColumns) -> Query:
    """The query, when its table has all columns."""
    present = database.columns(query)
    columns.check_present(present, query.where)
    for name in query.order_by:
        if name not in present:
            raise ConfigError(f"order_by must name columns of {query.where}, got {name!r}{did_you_mean(name, present)}")
    return query


def read_pages(database: Database, query: Query, columns: TableColumns) -> Iterator[pl.DataFrame]:
    """The query's rows in our columns, as they come: what blocks are made of."""
    kinds, rows_read = Kinds(columns), 0
    for raw in database.frames(query):
        kinds.check(raw, f"{query.where}, rows from {rows_read + 1:,} on")
        yield columns.convert(raw, query.where, rows_read + 1)
        rows_read += raw.height
    if rows_read == 0:
        raise DataError(f"{query.where} has no rows")
