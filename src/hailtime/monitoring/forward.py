"""From every backend's log file into one PostgreSQL: at least once on the way, once in the table.

    forward = Forwarder(Path("predictions.sqlite"), "postgresql://hailtime@db/eta", password_env="ETA_PASSWORD")
    forward.send()  # what is new; again and again

How far a file was read is kept in PostgreSQL, in the transaction that brings its rows: whoever is killed in between,
forwarder or server, leaves either both or neither. A file is known by a number of its own, so that two backends, or a
file made anew under the same name, never share a position.
"""

import logging
import math
import os
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from hailtime.errors import ConfigError, LogError

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 5_000
DAY_S = 86_400
_ANSWERS = "request_id, answered_at_us, requested_at_s, version, path, p10_s, p50_s, p90_s, latency_s, features"
_ENDS = "request_id, pickup_time_s, cancelled_after_s, n_changed, reported_at_us"
_ENDS_AT = (1, 2)  # their seconds
_COLUMNS = {"predictions": _ANSWERS, "shadow_predictions": _ANSWERS, "actuals": _ENDS}
_ANSWER_TABLE = """(
    id BIGINT GENERATED ALWAYS AS IDENTITY, request_id TEXT NOT NULL, answered_at_us BIGINT NOT NULL,
    requested_at_s BIGINT NOT NULL, version TEXT NOT NULL, path TEXT NOT NULL, p10_s FLOAT8 NOT NULL,
    p50_s FLOAT8 NOT NULL, p90_s FLOAT8 NOT NULL, latency_s FLOAT8 NOT NULL, features TEXT
) PARTITION BY RANGE (requested_at_s)"""
# Days are partitions: an old day is dropped at once, where deleting its rows would take minutes and leave holes
_TABLES = f"""
CREATE TABLE IF NOT EXISTS log_files (file TEXT PRIMARY KEY, positions JSONB NOT NULL);
CREATE TABLE IF NOT EXISTS predictions {_ANSWER_TABLE};
CREATE INDEX IF NOT EXISTS predictions_by_request ON predictions (request_id);
CREATE INDEX IF NOT EXISTS predictions_by_time ON predictions (requested_at_s);
CREATE INDEX IF NOT EXISTS predictions_by_id ON predictions (id);
CREATE TABLE IF NOT EXISTS predictions_other PARTITION OF predictions DEFAULT;
CREATE TABLE IF NOT EXISTS shadow_predictions {_ANSWER_TABLE};
CREATE INDEX IF NOT EXISTS shadow_predictions_by_request ON shadow_predictions (request_id);
CREATE TABLE IF NOT EXISTS shadow_predictions_other PARTITION OF shadow_predictions DEFAULT;
CREATE TABLE IF NOT EXISTS actuals (
    id BIGINT GENERATED ALWAYS AS IDENTITY, request_id TEXT PRIMARY KEY, pickup_time_s FLOAT8, cancelled_after_s FLOAT8,
    n_changed BIGINT NOT NULL, reported_at_us BIGINT NOT NULL);
CREATE INDEX IF NOT EXISTS actuals_by_id ON actuals (id);
CREATE INDEX IF NOT EXISTS actuals_by_time ON actuals (reported_at_us);
"""
_LOCK = 7_317_041  # of forwarders among each other: ids then come in the order in which they can be seen


@dataclass(frozen=True)
class Sent:
    """How many rows of each kind went over."""

    predictions: int
    shadow_predictions: int
    actuals: int

    def __bool__(self) -> bool:
        return self != Sent(0, 0, 0)


class Forwarder:
    """Sends one log file on.

    - `password_env`: the environment variable with the password; None for PostgreSQL's own ways
    - `keep_days`: in PostgreSQL, whole days (UTC) of requests older than that are dropped; in the file, rows that were
      sent and are older are deleted
    """

    def __init__(self, path: Path, url: str, password_env: str | None = None, keep_days: int = 90) -> None:
        if keep_days < 1:
            raise ConfigError(f"keep_days must be from 1, got {keep_days}")
        self.path, self.keep_days = path, keep_days
        self._url, self._password_env = url, password_env

    def send(self) -> Sent:
        """Sends what is new, in transactions of up to 5,000 rows. LogError when a side cannot be reached: try again."""
        import psycopg

        total = Sent(0, 0, 0)
        try:
            with self._connect() as server, closing(self._open()) as file:
                number = _number_of(file)
                while sent := self._send_some(server, file, number):
                    total = Sent(*(a + b for a, b in zip(_counts(total), _counts(sent), strict=True)))
        except (psycopg.Error, sqlite3.Error, OSError) as error:
            raise LogError(f"{self.path} could not be forwarded, its rows stay where they are: {error}") from error
        return total

    def forget(self, today: date | None = None) -> list[str]:
        """Drops old days in PostgreSQL and sent old rows in the file. What was dropped."""
        today = today or datetime.now(UTC).date()
        oldest_s = int(datetime(today.year, today.month, today.day, tzinfo=UTC).timestamp()) - self.keep_days * DAY_S
        with self._connect() as server, server.cursor() as cursor:
            cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^(shadow_)?predictions_d'")
            old = [name for (name,) in cursor.fetchall() if _day_of(name) < today - timedelta(days=self.keep_days)]
            for name in old:
                cursor.execute(f"DROP TABLE {name}")
            cursor.execute("DELETE FROM actuals WHERE reported_at_us < %s", (oldest_s * 1_000_000,))
            with closing(self._open()) as file:
                positions = _positions(cursor, _number_of(file))
                for table in ("predictions", "shadow_predictions"):
                    file.execute(
                        f"DELETE FROM {table} WHERE id <= ? AND requested_at_s < ?", (positions.get(table, 0), oldest_s)
                    )
                file.execute(
                    "DELETE FROM actuals WHERE id <= ? AND reported_at_us < ?",
                    (positions.get("actuals", 0), oldest_s * 1_000_000),
                )
        return old

    def _send_some(self, server: Any, file: sqlite3.Connection, number: str) -> Sent:
        with server.transaction(), server.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            positions = _positions(cursor, number)
            counts: dict[str, int] = {}
            for table, columns in _COLUMNS.items():
                rows = file.execute(
                    f"SELECT id, {columns} FROM {table} WHERE id > ? ORDER BY id LIMIT ?",
                    (positions.get(table, 0), ROWS_AT_ONCE),
                ).fetchall()
                counts[table] = len(rows)
                if rows:
                    _insert(cursor, table, columns, [row[1:] for row in rows])
                    positions[table] = rows[-1][0]
            if any(counts.values()):
                _keep_positions(cursor, number, positions)
        return Sent(**counts)

    def _connect(self) -> Any:
        try:
            import psycopg
        except ImportError as error:
            raise ConfigError("forwarding needs psycopg: pip install 'hailtime[postgres]'") from error
        password = os.environ.get(self._password_env) if self._password_env else None
        if self._password_env and password is None:
            raise ConfigError(f"the environment variable {self._password_env} must hold the password, it is not set")
        try:
            server = psycopg.connect(
                self._url, password=password, autocommit=True, connect_timeout=10, application_name="hailtime"
            )
        except psycopg.Error as error:
            raise LogError(f"PostgreSQL cannot be used, the log's rows stay where they are: {error}") from error
        try:
            # one transaction, and the lock is its own: given back earlier, another forwarder would make tables that
            # are made but not committed, fail, and keep the lock as long as its connection lives (seen)
            server.execute(f"SELECT pg_advisory_xact_lock({_LOCK}); {_TABLES}")
        except psycopg.Error as error:
            server.close()
            raise LogError(f"PostgreSQL cannot be used, the log's rows stay where they are: {error}") from error
        return server

    def _open(self) -> sqlite3.Connection:
        if not self.path.is_file():
            raise LogError(f"the log to forward must be a prediction log's file, {self.path} is not there")
        return sqlite3.connect(self.path, timeout=5.0, isolation_level=None)


def _counts(sent: Sent) -> Sequence[int]:
    return sent.predictions, sent.shadow_predictions, sent.actuals


def _number_of(file: sqlite3.Connection) -> str:
    """The file's own number, given to it the first time that it is forwarded."""
    file.execute("CREATE TABLE IF NOT EXISTS log_file (number TEXT NOT NULL)")
    file.execute("INSERT INTO log_file SELECT ? WHERE NOT EXISTS (SELECT 1 FROM log_file)", (uuid.uuid4().hex,))
    (number,) = file.execute("SELECT number FROM log_file").fetchone()
    return str(number)


def _positions(cursor: Any, number: str) -> dict[str, int]:
    found = cursor.execute("SELECT positions FROM log_files WHERE file = %s", (number,)).fetchone()
    return dict(found[0]) if found else {}


def _keep_positions(cursor: Any, number: str, positions: dict[str, int]) -> None:
    from psycopg.types.json import Jsonb

    cursor.execute(
        "INSERT INTO log_files VALUES (%s, %s) ON CONFLICT (file) DO UPDATE SET positions = excluded.positions",
        (number, Jsonb(positions)),
    )


def _insert(cursor: Any, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
    places = ", ".join(["%s"] * len(rows[0]))
    if table == "actuals":
        rows = [tuple(_number(cell) if place in _ENDS_AT else cell for place, cell in enumerate(row)) for row in rows]
        # the last word counts; it gets a new id, so that who reads on by id sees it
        cursor.executemany(
            f"INSERT INTO actuals ({columns}) VALUES ({places}) ON CONFLICT (request_id) DO UPDATE SET "
            "id = DEFAULT, pickup_time_s = excluded.pickup_time_s, cancelled_after_s = excluded.cancelled_after_s, "
            "n_changed = excluded.n_changed, reported_at_us = excluded.reported_at_us",
            rows,
        )
        return
    _make_days(cursor, table, {int(row[2]) // DAY_S for row in rows})
    with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _number(cell: Any) -> float | None:
    """What is no number goes over as NaN: PostgreSQL would refuse it and all after it, and the monitor counts NaN."""
    return cell if cell is None or isinstance(cell, int | float) else math.nan


def _make_days(cursor: Any, table: str, days: set[int]) -> None:
    """A partition for each day of the rows that is within ten years of today; a wilder clock's rows go to the rest."""
    today = int(datetime.now(UTC).timestamp()) // DAY_S
    for day in sorted(days):
        if abs(day - today) > 3650:
            continue
        name = f"{table}_d{datetime.fromtimestamp(day * DAY_S, UTC):%Y%m%d}"
        if cursor.execute("SELECT to_regclass(%s)", (name,)).fetchone()[0] is not None:
            continue  # to make one locks the whole table, also where it is there
        cursor.execute(
            f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ({day * DAY_S}) TO ({(day + 1) * DAY_S})"
        )


def _day_of(partition: str) -> date:
    return datetime.strptime(partition[-8:], "%Y%m%d").replace(tzinfo=UTC).date()
