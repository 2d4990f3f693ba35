"""What was answered and what came true, in a local SQLite file: a `kill -9` of the backend loses nothing of it.

    log = PredictionLog(Path("predictions.sqlite"), features="all")
    client = EtaClient("127.0.0.1:8001", log=log)
    log.report_actual(answer.request_id, pickup_time_s=412.0)  # when the driver was there; also from another process

Three tables, each to be read on from the last `id` seen: `predictions` (every answer, there before the caller has it),
`shadow_predictions` (what a shadow version said beside it) and `actuals` (the last word on each request, also that it
was cancelled).
"""

import logging
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from hailtime.client.log_rows import RowMaker
from hailtime.client.log_tables import BUSY_S, INSERT, INSERT_ACTUAL, LogFile, transaction
from hailtime.client.question import Answer, Question
from hailtime.clock import now
from hailtime.errors import ConfigError, LogError

log = logging.getLogger(__name__)

TRY_AGAIN_S = 1.0  # a disk that was full is tried once a second: opening the file costs milliseconds
MAX_WAITING = 100_000  # rows kept in memory while the file cannot be written: 50 MB with all features
CHECKPOINT_ROWS = 2_000  # then the journal has 16 MB

Row = tuple[str, tuple[Any, ...]]  # its table and its values


class NoLog:
    """Keeps nothing."""

    def write(self, question: Question, answer: Answer, latency_s: float, *, shadow: bool = False) -> None:
        """Called for every answer before the caller has it."""


class PredictionLog(NoLog):
    """One file, shared by all threads, clients and processes of a backend.

    - `features`: which inputs to keep with an answer, as JSON: "none", "all", or a list of columns
    - `n_written`, `n_waiting`, `n_lost`: rows in the file, rows that wait for the disk, rows that found no room

    An answer never fails because of the log: what cannot be written waits in memory, and goes first when the file is
    back. ConfigError when the file cannot be used from the start.
    """

    def __init__(
        self,
        path: Path | str,
        features: Literal["none", "all"] | Sequence[str] = "none",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self.n_written, self.n_lost = 0, 0
        self._maker = RowMaker(features)
        self._clock = clock
        self._writing, self._reporting = threading.Lock(), threading.Lock()
        self._file, self._actuals = LogFile(self.path, BUSY_S), LogFile(self.path, busy_s=2.0)
        self._waiting: deque[Row] = deque()
        self._late: deque[Row] = deque()
        self._is_failing, self._try_at = False, 0.0
        self._is_due, self._is_closed = threading.Event(), False
        self._n_checkpointed, self._is_nearly_done = 0, False
        self._checkpointing: threading.Thread | None = None
        try:
            self._file.connection()
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"the prediction log must be a SQLite file one can write, {path}: {error}") from error

    @property
    def n_waiting(self) -> int:
        return len(self._waiting) + len(self._late)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits, if the file is there, and close it."""
        self._is_closed, self._try_at = True, 0.0
        self._is_due.set()
        with self._writing:
            self._write()
            self._file.close()
        with self._reporting:
            self._actuals.close()

    def write(self, question: Question, answer: Answer, latency_s: float, *, shadow: bool = False) -> None:
        """One transaction for all rows; never raises. 30 µs for a row, 3 µs for each of many (measured).

        Who writes takes the rows of those who wait behind him along, so that calls that end together do not queue.
        """
        table = "shadow_predictions" if shadow else "predictions"
        rows = self._maker.rows(question.request_ids(), answer, latency_s)
        self._late.extend((table, values) for values in rows)
        if not self._writing.acquire(timeout=BUSY_S):  # another thread waits for the disk
            return
        try:
            self._write()
            self._keep_journal_short()
        except (sqlite3.Error, OSError) as error:
            log.debug("no checkpoint of %s: %s", self.path, error)
        finally:
            self._writing.release()

    def report_actual(self, request_id: str, pickup_time_s: float) -> None:
        """The driver was there after so many seconds. The same word twice counts once, another word replaces it.

        LogError when it is not in the file: report it again later.
        """
        self.report_actuals([(request_id, pickup_time_s)])

    def report_cancelled(self, request_id: str, after_s: float) -> None:
        """The ride was given up after so many seconds, so nobody will know how long the driver would have taken.

        Counted apart from arrivals: who waits long cancels more often, so what arrived is not a fair sample.
        """
        self._report([(_checked(request_id, after_s), None, float(after_s))])

    def report_actuals(self, actuals: Iterable[tuple[str, float]]) -> None:
        """Request ids and seconds, such as a trips table of yesterday; all of them in one transaction or none."""
        self._report([(_checked(request_id, seconds), float(seconds), None) for request_id, seconds in actuals])

    def _report(self, words: list[tuple[str, float | None, float | None]]) -> None:
        now_us = int(now() * 1e6)
        with self._reporting:
            try:
                connection = self._actuals.connection()
                with transaction(connection):
                    connection.executemany(INSERT_ACTUAL, [(*word, now_us) for word in words])
            except (sqlite3.Error, OSError) as error:
                self._actuals.close()
                first = words[0][0] if words else ""
                raise LogError(
                    f"{len(words)} actuals from {first} on could not be written to {self.path}: {error}"
                ) from error

    def _write(self) -> None:
        rows = [self._late.popleft() for _ in range(len(self._late))]
        if not rows and not self._waiting:
            return
        if self._clock() < self._try_at:
            self._keep(rows)
            return
        try:
            self._insert(self._file.connection(), [*self._waiting, *rows])
        except (sqlite3.Error, OSError) as error:
            self._failed(rows, error)
            return
        if self._is_failing:
            log.info("the prediction log is back, %d rows that waited are in it", len(self._waiting))
        self._is_failing = False
        self.n_written += len(self._waiting) + len(rows)
        self._waiting.clear()

    def _insert(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        if len(rows) == 1:  # a statement alone is a transaction, without two more statements around it
            ((table, values),) = rows
            connection.execute(INSERT[table], values)
            return
        with transaction(connection):
            for table, insert in INSERT.items():
                connection.executemany(insert, [values for where, values in rows if where == table])

    def _failed(self, rows: list[Row], error: Exception) -> None:
        self._keep(rows)
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:  # another process writes: next call
            return
        if not self._is_failing:
            log.warning("the prediction log cannot be written, its rows wait in memory: %s: %s", self.path, error)
        self._is_failing, self._try_at = True, self._clock() + TRY_AGAIN_S
        self._file.close()

    def _keep(self, rows: list[Row]) -> None:
        room = MAX_WAITING - len(self._waiting)
        self._waiting.extend(rows[:room])
        self.n_lost += len(rows[room:])

    def _keep_journal_short(self) -> None:
        """Its content goes into the file beside the answers, which waits for the disk. What came meanwhile, a caller
        has to take there: one in CHECKPOINT_ROWS, because a journal that is never empty grows for ever.
        """
        if self._is_nearly_done:
            self._is_nearly_done, self._n_checkpointed = False, self.n_written
            self._file.connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        if self._is_due.is_set() or self.n_written - self._n_checkpointed < CHECKPOINT_ROWS:
            return
        if self._checkpointing is None or not self._checkpointing.is_alive():  # the first, or after a fork
            self._checkpointing = threading.Thread(target=self._checkpoint, name="hailtime-log", daemon=True)
            self._checkpointing.start()
        self._is_due.set()

    def _checkpoint(self) -> None:
        while self._is_due.wait() and not self._is_closed:
            try:
                uri = f"{self.path.absolute().as_uri()}?mode=rw"
                with closing(sqlite3.connect(uri, uri=True)) as connection:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._is_nearly_done = True
            except sqlite3.Error as error:  # what is wrong with the file, the writer tells
                log.debug("no checkpoint of %s: %s", self.path, error)
            self._n_checkpointed = self.n_written
            self._is_due.clear()


def _checked(request_id: str, seconds: float) -> str:
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not (request_id and isinstance(request_id, str) and is_number and 0 <= seconds < math.inf):
        raise LogError(f"an actual is a request id and seconds from 0, got {request_id!r} and {seconds!r}")
    return request_id
