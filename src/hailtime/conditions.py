"""The joined columns of a request at serving time, by the same definition as in preparation.

    conditions = Conditions.of_folder(Path("data/prepared/city"), read_tables)
    with conditions:                                   # reads again every 15 s in a thread
        row = conditions.add_to(request)               # the request with its joined columns, None where unknown
        client.predict(row)
        conditions.report_request(request)             # where an entry looks back on the trips themselves
        conditions.report_arrival(request["request_id"], pickup_time_s=412)

`read_tables(since_us)` gives the tables of conditions by name, as Polars frames, from wherever they are. Needed are the
rows with `observed_at` or `known_at` at or after `since_us`; of an entry with an `id` those with such an `ends_at` too,
and with one row of an event all of them. More rows do no harm. It may give `trips` (id, time, key, target or null) as
well, which count like those reported.

Needs polars and narwhals beside the client: pip install 'hailtime[train]'.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl

from hailtime.clock import now
from hailtime.errors import ConfigError, DataError, RequestError, SchemaError
from hailtime.preparation.conform import Kind, conform, read_frame
from hailtime.preparation.join import ConditionJoin
from hailtime.preparation.join_settings import MINUTE_US, TRIPS, Entry, Latest, Trailing, read_entries
from hailtime.preparation.join_trailing import TrailingTripsJoin
from hailtime.preparation.lookup import Lookup, Request, lookup_of, names_of, text_of, time_of
from hailtime.preparation.recent_trips import RecentTrips
from hailtime.schema import MICROSECONDS_PER_SECOND, Schema
from hailtime.whole_folder import present_folder

log = logging.getLogger(__name__)

LATE_US = 10 * MINUTE_US  # how old a request may be and still get the values of its time

ReadTables = Callable[[int], Mapping[str, pl.DataFrame]]


@dataclass(frozen=True)
class Freshness:
    """How new what an entry knows is. Times are microseconds since 1970 UTC, None where there is no row.

    A latest value is stale when its newest row is older than its freshness; events and windows, for which no row is no
    news, are when their table was not read for that long.
    """

    observed_at: int | None
    known_at: int | None
    age_s: float | None
    is_stale: bool


@dataclass(frozen=True)
class _Known:
    """What one reading of the tables gave; never changed, so threads may share it."""

    read_at_us: int
    lookups: dict[str, Lookup]
    newest: dict[str, tuple[int | None, int | None]]


class Conditions:
    """Adds the joined columns to requests. One serves a whole backend: threads may share it.

    - settings: the `conditions` of a source's yaml
    - read_tables: see above; None where all entries are over the trips
    - refresh_s: how often `start` reads again; a reading that fails leaves the last one, and values go missing as
      they become stale
    - clock: seconds since 1970

    The tables are read once here. SchemaError when they do not fit; when they cannot be read, all is missing until
    they can.
    """

    def __init__(
        self,
        schema: Schema,
        settings: Mapping[str, Mapping[str, Any]],
        read_tables: ReadTables | None,
        refresh_s: float = 15.0,
        clock: Callable[[], float] = now,
    ) -> None:
        if not refresh_s > 0:
            raise ConfigError(f"refresh_s must be seconds above 0, got {refresh_s}")
        self.schema, self._settings, self._read_tables = schema, settings, read_tables
        self._refresh_s, self._clock = refresh_s, clock
        self._entries = {entry.name: entry for entry in read_entries(schema, settings)}
        looks_back = [
            entry for entry in self._entries.values() if isinstance(entry, Trailing) and _is_over_trips(entry)
        ]
        self._trips = RecentTrips(looks_back, schema)
        self._of_trips = looks_back
        self._reach_us = max((entry.reach_us for entry in self._entries.values()), default=0)
        self._missing = {name: None for entry in self._entries.values() for name in names_of(entry)}
        self._known = _Known(0, {}, {})
        self._is_failing = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if read_tables is None and len(looks_back) < len(self._entries):
            names = sorted({entry.table for entry in self._entries.values() if not _is_over_trips(entry)})
            raise ConfigError(f"conditions need read_tables to give {', '.join(names)}, got None")
        self.refresh(raises=(SchemaError,))

    @classmethod
    def of_folder(cls, folder: Path, read_tables: ReadTables | None, **how: Any) -> Self:
        """As a prepared folder or a run folder was made. DataError when it is neither."""
        settings = _settings_of(Path(folder))
        return cls(Schema.from_dict(settings["schema"]), settings.get("conditions") or {}, read_tables, **how)

    def add_to(self, request: Request) -> dict[str, Any]:
        """The request with every joined column, None where nothing fresh is known. RequestError when it lacks a key.

        `requested_at` is an aware datetime, ISO 8601 text with an offset, or epoch seconds.
        """
        now_us, known = time_of(request, self.schema.requested_at), self._known
        row = {**request, **self._missing}
        for name, lookup in known.lookups.items():
            if now_us - known.read_at_us <= self._entries[name].reach_us:
                row |= lookup.at(now_us, request)
        return row | self._trips.at(now_us, request)

    def report_request(self, request: Request) -> None:
        """A request was made, whatever was answered. The same id again changes nothing."""
        trip_id = text_of(request, self.schema.id)
        if trip_id is None:
            raise RequestError(f"a reported request needs its {self.schema.id}, got {request[self.schema.id]!r}")
        self._trips.report_request(trip_id, time_of(request, self.schema.requested_at), request)

    def report_arrival(self, request_id: str, pickup_time_s: float) -> None:
        """The driver of a reported request arrived, so long after it was made."""
        self._trips.report_pickup(str(request_id), float(pickup_time_s))

    def freshness(self, now_s: float | None = None) -> dict[str, Freshness]:
        """For every entry how new its rows are."""
        now_us = self._now_us() if now_s is None else round(now_s * MICROSECONDS_PER_SECOND)
        return {name: self._freshness_of(entry, now_us) for name, entry in self._entries.items()}

    def refresh(self, raises: tuple[type[Exception], ...] = ()) -> bool:
        """Reads the tables now. False when that failed, which is logged once until it works again."""
        now_us = self._now_us()
        since_us = now_us - self._reach_us - LATE_US
        self._trips.forget(now_us - LATE_US)
        try:
            if self._read_tables is not None:
                self._known = self._read(now_us, since_us)
        except raises:
            raise
        except Exception as error:  # whatever a database or a disk may raise: serving goes on without
            if not self._is_failing:
                log.warning("conditions cannot be read, the last ones stay until they are stale: %s", error)
            self._is_failing = True
            return False
        if self._is_failing:
            log.info("conditions can be read again")
        self._is_failing = False
        return True

    def start(self) -> None:
        """Reads again every `refresh_s`, in a thread that ends with `close` or with the process."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._refresh_forever, name="hailtime-conditions", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the thread; what is known stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refresh_forever(self) -> None:
        while not self._stop.wait(self._refresh_s):
            self.refresh()

    def _read(self, now_us: int, since_us: int) -> _Known:
        assert self._read_tables is not None
        tables = self._read_tables(since_us)
        if self._of_trips and TRIPS in tables:
            self._report_all(tables[TRIPS])
        lookups: dict[str, Lookup] = {}
        for join in ConditionJoin(tables, self.schema, self._settings, since_us).joins:
            if not isinstance(join, TrailingTripsJoin):
                lookups[join.entry.name] = lookup_of(join, now_us - LATE_US)
        newest = {
            name: _newest(tables[entry.table]) for name, entry in self._entries.items() if not _is_over_trips(entry)
        }
        return _Known(now_us, lookups, newest)

    def _report_all(self, trips: pl.DataFrame) -> None:
        """The trips of a log, also those of other processes."""
        schema = self.schema
        kinds: dict[str, Kind] = {schema.id: "text", schema.requested_at: "time", schema.target: "number"}
        kinds |= {entry.key: "text" for entry in self._of_trips if entry.key is not None}
        for trip in conform(read_frame(trips, TRIPS), TRIPS, kinds).to_native().iter_rows(named=True):
            trip_id, asked_us, taken_s = trip[schema.id], trip[schema.requested_at], trip[schema.target]
            if trip_id is not None and asked_us is not None:
                self._trips.report_request(trip_id, int(asked_us), trip)
                if taken_s is not None:
                    self._trips.report_pickup(trip_id, taken_s)

    def _freshness_of(self, entry: Entry, now_us: int) -> Freshness:
        if _is_over_trips(entry):
            observed_at = known_at = self._trips.newest_us()
        else:
            observed_at, known_at = self._known.newest.get(entry.name, (None, None))
        age_us = None if observed_at is None else now_us - observed_at
        since_us = now_us - self._known.read_at_us
        if isinstance(entry, Latest) or _is_over_trips(entry):
            since_us = entry.reach_us + 1 if age_us is None else age_us
        age_s = None if age_us is None else age_us / MICROSECONDS_PER_SECOND
        return Freshness(observed_at, known_at, age_s, since_us > entry.reach_us)

    def _now_us(self) -> int:
        return round(self._clock() * MICROSECONDS_PER_SECOND)


def _is_over_trips(entry: Entry) -> bool:
    return isinstance(entry, Trailing) and entry.table == TRIPS


def _newest(table: pl.DataFrame) -> tuple[int | None, int | None]:
    """The newest observed_at and known_at."""
    clocks: dict[str, Kind] = {"observed_at": "time", "known_at": "time"}
    newest = conform(read_frame(table, "conditions"), "conditions", clocks).to_native().max()
    observed_at, known_at = (None if value is None else int(value) for value in newest.row(0))
    return observed_at, known_at


def _settings_of(folder: Path) -> dict[str, Any]:
    """The source's settings as a prepared folder's report or a run folder's configuration holds them."""
    present = present_folder(folder)
    if (present / "report.json").is_file():
        return dict(json.loads((present / "report.json").read_text())["settings"])
    if (folder / "config.yaml").is_file():
        from omegaconf import OmegaConf  # wrote it, and a backend that reads a prepared folder does without

        config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        return dict(config["source"])
    raise DataError(
        f"conditions are read from a prepared folder's report.json or a run's config.yaml, {folder} has none"
    )
