"""What the monitor knows, in one SQLite file: the hours' sums and counts, and how far the log was read.

The file can be deleted at any time: the next pass makes it anew from the log.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hailtime.errors import LogError
from hailtime.monitoring.arrivals import N_BINS, Arrivals
from hailtime.monitoring.drift import ColumnCounts
from hailtime.monitoring.hours import KEYS, SUMS

STORE_VERSION = 1
_TABLES = f"""
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sums (hour_s INTEGER NOT NULL, {", ".join(f"{key} TEXT NOT NULL" for key in KEYS)},
    {", ".join(f"{name} REAL NOT NULL" for name in SUMS)}, errors TEXT, latencies TEXT,
    PRIMARY KEY (slice, hour_s, version, path, value)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS columns (hour_s INTEGER NOT NULL, name TEXT NOT NULL, counts TEXT NOT NULL,
    PRIMARY KEY (hour_s, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS arrivals (hour_s INTEGER NOT NULL, version TEXT NOT NULL, n_late INTEGER NOT NULL,
    grid BLOB NOT NULL, PRIMARY KEY (hour_s, version)) WITHOUT ROWID;
"""
_HOURLY = ("sums", "columns", "arrivals")


class MonitorStore:
    """The monitor's file. One process writes, any number read. LogError when it cannot be used.

    - read_only: for a reader, which then makes no file where there is none
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.path, self._read_only = path, read_only
        if read_only:
            self._check_release()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_TABLES)
        self._check_release()
        self.set_state(version=STORE_VERSION)

    def _check_release(self) -> None:
        if self.state("version", STORE_VERSION) != STORE_VERSION:
            raise LogError(f"{self.path} is of another release: delete it, the next pass makes it anew from the log")

    def state(self, name: str, default: Any) -> Any:
        """A value kept under a name."""
        with self._connection() as connection:
            found = connection.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return json.loads(found[0]) if found else default

    def set_state(self, **values: Any) -> None:
        with self._connection() as connection:
            _set_state(connection, values)

    def replace_hour(
        self,
        hour_s: int,
        sums: pl.DataFrame,
        columns: Mapping[str, ColumnCounts],
        arrivals: Sequence[Arrivals] = (),
    ) -> None:
        """Everything of an hour at once, in place of what was known of it."""
        names = ["hour_s", *KEYS, *SUMS, "errors", "latencies"]
        rows = sums.with_columns(pl.lit(hour_s).alias("hour_s")).select(
            *names[:-2], *(pl.col(name).map_elements(_to_text, pl.String) for name in names[-2:])
        )
        places = ", ".join("?" * len(names))
        with self._connection() as connection:
            for table in _HOURLY:
                connection.execute(f"DELETE FROM {table} WHERE hour_s = ?", (hour_s,))
            connection.executemany(f"INSERT INTO sums ({', '.join(names)}) VALUES ({places})", rows.iter_rows())
            counted = [(hour_s, name, json.dumps(_plain(counts))) for name, counts in columns.items()]
            connection.executemany("INSERT INTO columns VALUES (?, ?, ?)", counted)
            grids = [(hour_s, one.version, one.n_late, zlib.compress(one.grid.tobytes())) for one in arrivals]
            connection.executemany("INSERT INTO arrivals VALUES (?, ?, ?, ?)", grids)

    def forget(self, before_s: float) -> None:
        """Drops the hours that begin before a moment."""
        with self._connection() as connection:
            for table in _HOURLY:
                connection.execute(f"DELETE FROM {table} WHERE hour_s < ?", (before_s,))

    def span(self) -> tuple[int, int] | None:
        """The begin of the first hour that anything is known of, and of the last; None without any."""
        with self._connection() as connection:
            first, last = connection.execute("SELECT min(hour_s), max(hour_s) FROM sums WHERE slice = ''").fetchone()
        return None if first is None else (first, last)

    def sums(self, slice_name: str = "", since_s: float = 0, until_s: float = 2**62) -> pl.DataFrame:
        """The sums of one slice ("" for all rows) of the hours that begin in a span."""
        names = ["hour_s", *KEYS, *SUMS, *(["errors", "latencies"] if slice_name == "" else [])]
        with self._connection() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(names)} FROM sums WHERE slice = ? AND hour_s >= ? AND hour_s < ?",
                (slice_name, since_s, until_s),
            ).fetchall()
        kinds = _kinds(KEYS)
        lists = dict.fromkeys(names[len(kinds) :], pl.String)
        frame = pl.DataFrame(rows, schema={**kinds, **lists}, orient="row")
        return frame.with_columns(pl.col(name).str.json_decode(pl.List(pl.Int64)) for name in lists)

    def totals(
        self,
        by: Sequence[str],
        slice_name: str = "",
        since_s: float = 0,
        until_s: float = 2**62,
        version: str | None = None,
    ) -> pl.DataFrame:
        """The sums of one slice added up over everything but `by`, without the counts of errors and latencies.

        - version: only what this one answered

        A tenth of the time that `sums` takes where there are many values: 90 days of 60 zones are 260,000 rows.
        """
        keys = [key for key in by if key != "hour_s"]
        hour = "hour_s" if "hour_s" in by else "max(hour_s)"
        added = [f"sum({name})" for name in SUMS]
        with self._connection() as connection:
            rows = connection.execute(
                f"SELECT {', '.join([hour, *keys, *added])} FROM sums "
                "WHERE slice = ?1 AND hour_s >= ?2 AND hour_s < ?3 AND (?4 IS NULL OR version = ?4) "
                f"GROUP BY {', '.join(by)}",
                (slice_name, since_s, until_s, version),
            ).fetchall()
        kinds = _kinds(keys)
        return pl.DataFrame(rows, schema=kinds, orient="row")

    def arrivals(self, since_s: float = 0, until_s: float = 2**62, version: str | None = None) -> list[Arrivals]:
        """What was said against what happened, an hour and a version each."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT version, grid, n_late FROM arrivals WHERE hour_s >= ?1 AND hour_s < ?2 "
                "AND (?3 IS NULL OR version = ?3)",
                (since_s, until_s, version),
            ).fetchall()
        return [Arrivals(version, _grid(content), n_late) for version, content, n_late in rows]

    def columns(self, since_s: float = 0, until_s: float = 2**62) -> dict[int, dict[str, dict[str, Any]]]:
        """Hour → column → its counts as they were stored; `counts_of` makes them `ColumnCounts`."""
        found: dict[int, dict[str, dict[str, Any]]] = {}
        with self._connection() as connection:
            for hour_s, name, counts in connection.execute(
                "SELECT hour_s, name, counts FROM columns WHERE hour_s >= ? AND hour_s < ? ORDER BY hour_s",
                (since_s, until_s),
            ):
                found.setdefault(hour_s, {})[name] = json.loads(counts)
        return found

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing."""
        try:
            where = f"{self.path.absolute().as_uri()}?mode={'ro' if self._read_only else 'rwc'}"
            with closing(sqlite3.connect(where, timeout=10.0, uri=True)) as connection, connection:
                # in WAL a power cut then costs the last hours at most, which the next pass counts again
                connection.execute("PRAGMA synchronous = NORMAL")
                yield connection
        except sqlite3.Error as error:
            # without room not even a reader gets the few pages that it shares with the writer
            is_disk = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
            hint = " (is there room on its disk?)" if is_disk else ""
            raise LogError(f"the monitor's file {self.path} cannot be used: {error}{hint}") from error


def counts_of(stored: Mapping[str, Any], reference: Mapping[str, Any]) -> ColumnCounts:
    """Stored counts of a column; those of another model's bins, which cannot be compared, count as no rows."""
    counts = ColumnCounts.like(reference)
    if len(stored["counts"]) != len(counts.counts) or stored["edges"] != edges_of(counts):
        return counts
    counts.counts = np.asarray(stored["counts"], np.int64)
    counts.values.update(stored["values"])
    counts.missing, counts.rows = stored["missing"], stored["rows"]
    return counts


def _kinds(keys: Sequence[str]) -> dict[str, Any]:
    return {"hour_s": pl.Int64} | dict.fromkeys(keys, pl.String) | dict.fromkeys(SUMS, pl.Float64)


def _grid(content: bytes) -> Any:
    return np.frombuffer(zlib.decompress(content), np.int32).reshape(N_BINS, N_BINS)


def _plain(counts: ColumnCounts) -> dict[str, Any]:
    told = {"counts": counts.counts.tolist(), "values": dict(counts.values), "edges": edges_of(counts)}
    return {**told, "missing": counts.missing, "rows": counts.rows}


def edges_of(counts: ColumnCounts) -> list[float] | None:
    """As they are stored with the counts; None for categories."""
    return None if counts.edges is None else [float(edge) for edge in counts.edges]


def _set_state(connection: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    rows = [(name, json.dumps(value)) for name, value in values.items()]
    connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", rows)


def _to_text(counts: Any) -> str:
    return json.dumps(list(counts))
