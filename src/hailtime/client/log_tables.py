"""The prediction log's file: its tables, and a connection that notices when the file under it is gone."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG_VERSION = 2
BUSY_S = 0.005  # a row of another process takes 50 µs; longer, and the row waits here for the next call

_ANSWERS = """(
    id INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL, answered_at_us INTEGER NOT NULL,
    requested_at_s INTEGER NOT NULL, version TEXT NOT NULL, path TEXT NOT NULL, p10_s REAL NOT NULL,
    p50_s REAL NOT NULL, p90_s REAL NOT NULL, latency_s REAL NOT NULL, features TEXT)"""
_TABLES = f"""
CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS predictions {_ANSWERS};
CREATE TABLE IF NOT EXISTS shadow_predictions {_ANSWERS};
CREATE INDEX IF NOT EXISTS predictions_by_request ON predictions (request_id);
CREATE INDEX IF NOT EXISTS predictions_by_time ON predictions (requested_at_s);
CREATE INDEX IF NOT EXISTS shadow_predictions_by_request ON shadow_predictions (request_id);
CREATE TABLE IF NOT EXISTS actuals (
    id INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, pickup_time_s REAL, cancelled_after_s REAL,
    n_changed INTEGER NOT NULL, reported_at_us INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS actuals_by_time ON actuals (reported_at_us);
INSERT OR IGNORE INTO schema_version SELECT {LOG_VERSION} WHERE NOT EXISTS (SELECT 1 FROM schema_version);
"""
INSERT = {
    table: f"INSERT INTO {table} (request_id, answered_at_us, requested_at_s, version, path, p10_s, p50_s, p90_s,"
    " latency_s, features) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    for table in ("predictions", "shadow_predictions")
}
# The same word again changes nothing; another one gets a new id, so that who reads on by id sees it, and is counted
INSERT_ACTUAL = """INSERT OR REPLACE INTO actuals
    (request_id, pickup_time_s, cancelled_after_s, n_changed, reported_at_us)
    SELECT ?1, ?2, ?3, coalesce((SELECT n_changed + 1 FROM actuals WHERE request_id = ?1), 0), ?4
    WHERE NOT EXISTS (SELECT 1 FROM actuals
        WHERE request_id = ?1 AND pickup_time_s IS ?2 AND cancelled_after_s IS ?3)"""
# Of a log of release 1: its actuals had no cancelled rides
_FROM_1 = """
ALTER TABLE actuals RENAME TO actuals_1;
CREATE TABLE actuals (
    id INTEGER PRIMARY KEY AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, pickup_time_s REAL, cancelled_after_s REAL,
    n_changed INTEGER NOT NULL, reported_at_us INTEGER NOT NULL);
INSERT INTO actuals SELECT id, request_id, pickup_time_s, NULL, 0, reported_at_us FROM actuals_1;
DROP TABLE actuals_1;
UPDATE schema_version SET version = 2;
"""


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All statements or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class LogFile:
    """One connection to the file at `path`, opened when asked for. Not for two threads at once."""

    def __init__(self, path: Path, busy_s: float) -> None:
        self._path, self._busy_s = path, busy_s
        self._connection: sqlite3.Connection | None = None
        self._opened = (0, 0, 0)

    def connection(self) -> sqlite3.Connection:
        """Opened anew after a fork, and where the file was moved or deleted: SQLite would go on writing into nothing.

        sqlite3.Error or OSError when it cannot be opened, or was written by another release.
        """
        if self._connection is None or self._opened != self._identity():
            self.close()
            self._open()
        assert self._connection is not None
        return self._connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._opened[0] == os.getpid():  # a parent's is not ours to close
            connection.close()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, self._busy_s, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # lost 0 of 12 M rows in 15 kill -9
            # Checkpoints are made beside the answers (PredictionLog), because they wait for the disk
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
            (found,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
            if found == 1:
                connection.executescript(f"BEGIN IMMEDIATE; {_FROM_1} COMMIT;")
                found = LOG_VERSION
            if found != LOG_VERSION:
                raise sqlite3.DatabaseError(f"it is a log of version {found}, this release writes {LOG_VERSION}")
            self._opened = self._identity()
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _identity(self) -> tuple[int, int, int]:
        try:
            file = os.stat(self._path)  # noqa: PTH116  2 µs less than Path.stat, at every answer
        except OSError:
            return (os.getpid(), 0, 0)
        return (os.getpid(), file.st_dev, file.st_ino)
