"""Tables of a DuckDB file, read in batches of Arrow and never written to. Nothing can be cut, so no order is asked for.

DuckDB lets one process write or several read: a file that another process writes to is refused, with its words.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from hailtime.errors import ConfigError, DataError, did_you_mean
from hailtime.sources import BLOCK_ROWS
from hailtime.sources.queries import Query

try:
    import duckdb
except ImportError as error:
    raise ConfigError("reading a DuckDB file needs duckdb: pip install 'hailtime[duckdb]'") from error


class DuckDbFile:
    """A connection for every reading, closed after it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def columns(self, query: Query) -> list[str]:
        with self._told(query), self._connection() as connection:
            self._check_table(connection, query)
            return list(connection.sql(f"SELECT * FROM {_source(query)} LIMIT 0").columns)

    def frames(self, query: Query) -> Iterator[pl.DataFrame]:
        statement = f"SELECT {', '.join(map(_quoted, query.names))} FROM {_source(query)}"
        with self._told(query), self._connection() as connection:
            for batch in connection.sql(statement).to_arrow_reader(BLOCK_ROWS):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame

    def _connection(self) -> "duckdb.DuckDBPyConnection":
        return duckdb.connect(str(self._path), read_only=True)

    def _check_table(self, connection: "duckdb.DuckDBPyConnection", query: Query) -> None:
        found = connection.sql("SELECT table_schema, table_name FROM information_schema.tables").fetchall()
        known = {name for schema, table in found for name in (f"{schema}.{table}", table)}
        if not query.is_select and query.table not in known:
            raise DataError(f"{self._path} has no {query.where}{did_you_mean(query.table, known)}")

    @contextmanager
    def _told(self, query: Query) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, pl.exceptions.PolarsError) as error:
            raise DataError(f"{query.where} of {self._path} cannot be read: {' '.join(str(error).split())}") from error


def _source(query: Query) -> str:
    if query.is_select:
        return f"({query.table}) AS source"
    return ".".join(_quoted(part) for part in query.schema_and_table if part)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
