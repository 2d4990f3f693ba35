"""The conditions that a backend joins, in a database: a SQLite file here, PostgreSQL where the URL says so.

tables = ConditionTables("sqlite:///conditions.sqlite")  # or postgresql://user@host/database, PGPASSWORD
tables.write({"weather": rows})                          # the feeds, as rows become known
Conditions.of_folder(run, tables.read)                   # the backend
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from hailtime.errors import ConfigError

try:
    import sqlalchemy as sa
except ImportError as error:
    raise ConfigError("the example needs more packages: pip install 'hailtime[example]'") from error

_TYPES: dict[pl.DataType, Any] = {pl.Int64(): sa.BigInteger, pl.Float64(): sa.Double, pl.String(): sa.Text}
_BACK = ((sa.Integer, pl.Int64), (sa.Float, pl.Float64), (sa.Text, pl.String))  # a BigInteger is an Integer
CLOSURES = "road_closures"


class ConditionTables:
    """One table a feed, with `observed_at` and `known_at` in microseconds since 1970 UTC. Threads may share it."""

    def __init__(self, url: str) -> None:
        try:
            place = sa.make_url(url)
            if place.drivername.startswith("postgres"):
                place = place.set(drivername="postgresql+psycopg")
            self._engine = sa.create_engine(place, connect_args={"timeout": 10} if "sqlite" in url else {})
        except (sa.exc.ArgumentError, ImportError) as error:
            raise ConfigError("a database is sqlite:///FILE or postgresql://user@host/database") from error
        if place.drivername.startswith("sqlite"):
            with self._engine.connect() as connection:  # so that who reads never waits for who writes
                connection.execute(sa.text("PRAGMA journal_mode = WAL"))

    def write(self, tables: Mapping[str, pl.DataFrame]) -> None:
        """Adds the rows, all in one transaction; a table is made with its first frame."""
        with self._engine.begin() as connection:
            for name, rows in tables.items():
                columns = [sa.Column[Any](column, _TYPES[kind]) for column, kind in rows.schema.items()]
                table = sa.Table(name, sa.MetaData(), *columns)
                table.create(connection, checkfirst=True)
                if not rows.is_empty():
                    connection.execute(table.insert(), rows.to_dicts())

    def read(self, since_us: int) -> dict[str, pl.DataFrame]:
        """Every table's rows that are new enough for `Conditions`; of events all, since one row may end another's."""
        with self._engine.connect() as connection:
            return {name: self._rows(connection, name, since_us) for name in sa.inspect(connection).get_table_names()}

    def closed_places(self, now_us: int) -> list[tuple[float, float]]:
        """Latitude and longitude of every kilometre of road that is known to be closed."""
        with self._engine.connect() as connection:
            if not sa.inspect(connection).has_table(CLOSURES):
                return []
            rows = self._rows(connection, CLOSURES, None).filter(pl.col("known_at") <= now_us)
        newest = rows.sort("known_at").unique("event_id", keep="last", maintain_order=True)
        is_open = pl.col("ends_at").is_not_null() & (pl.col("ends_at") <= now_us)
        return [(float(lat), float(lon)) for lat, lon in newest.filter(~is_open).select("lat", "lon").iter_rows()]

    def close(self) -> None:
        self._engine.dispose()

    @staticmethod
    def _rows(connection: sa.Connection, name: str, since_us: int | None) -> pl.DataFrame:
        table = sa.Table(name, sa.MetaData(), autoload_with=connection)
        query = sa.select(table)
        if since_us is not None and "event_id" not in table.c:
            query = query.where(sa.or_(table.c.observed_at >= since_us, table.c.known_at >= since_us))
        kinds = {c.name: next(kind for known, kind in _BACK if isinstance(c.type, known)) for c in table.columns}
        return pl.DataFrame([tuple(row) for row in connection.execute(query)], schema=kinds, orient="row")
