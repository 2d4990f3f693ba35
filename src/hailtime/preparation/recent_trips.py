"""Trailing windows over the trips themselves while they happen: what a backend reports of its requests and pickups.

A request or a pickup is the same span as in `join_trailing`, and adds and takes away the same whole numbers; so a
window asked now is what preparation will compute of these trips later. Threads may share it.
"""

import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from hailtime.errors import RequestError
from hailtime.preparation.exact import LARGEST_VALUE, THOUSANDTHS, mean_of, to_whole
from hailtime.preparation.join_settings import HOUR_US, Measure, Trailing
from hailtime.preparation.join_trailing import span_of_pickup, span_of_request, totals_of
from hailtime.preparation.lookup import Request, Values, nothing_in, text_of
from hailtime.schema import Schema

_OPEN_US = 6 * HOUR_US  # a guess: a request without a pickup for so long will have none


class RecentTrips:
    """The entries of `conditions` over the table trips."""

    def __init__(self, entries: Sequence[Trailing], schema: Schema) -> None:
        self._schema = schema
        self._windows = [_EntryWindows(entry) for entry in entries]
        self._trips: dict[str, _Trip] = {}
        self._newest_us: int | None = None
        self._lock = threading.Lock()

    def report_request(self, trip_id: str, asked_us: int, request: Request) -> None:
        """A request was made; told again, nothing changes. `request` has the keys of the entries."""
        keys = tuple(windows.key_of(request) for windows in self._windows)
        with self._lock:
            if trip_id in self._trips:
                return
            trip = self._trips[trip_id] = _Trip(asked_us, keys, asked_us)
            self._newest_us = max(asked_us, self._newest_us or asked_us)
            for windows, key in zip(self._windows, keys, strict=True):
                span = span_of_request(windows.entry, asked_us)
                trip.until_us = max(trip.until_us, span[1])
                windows.add(key, self._schema.requested_at, span, 0.0)

    def report_pickup(self, trip_id: str, taken_s: float) -> None:
        """A reported request was picked up; told again, nothing changes. RequestError for one that was not reported."""
        with self._lock:
            trip = self._trips.get(trip_id)
            if trip is None:
                raise RequestError(f"a pickup needs its request reported before, {trip_id!r} was not or is forgotten")
            if trip.is_over or not abs(taken_s) <= LARGEST_VALUE:
                return
            trip.is_over = True
            for windows, key in zip(self._windows, trip.keys, strict=True):
                span = span_of_pickup(windows.entry, trip.asked_us, taken_s)
                trip.until_us = max(trip.until_us, span[1])
                windows.add(key, self._schema.target, span, taken_s)

    def at(self, now_us: int, request: Request) -> Values:
        """The joined columns of all entries for a request made at that time."""
        values: Values = {}
        for windows in self._windows:
            key = windows.key_of(request)
            with self._lock:
                values |= windows.at(now_us, key)
        return values

    def newest_us(self) -> int | None:
        """When the last reported request was made."""
        return self._newest_us

    def forget(self, before_us: int) -> None:
        """Nothing before that time will be asked for."""
        with self._lock:
            for windows in self._windows:
                windows.forget(before_us)
            for trip_id in [trip_id for trip_id, trip in self._trips.items() if trip.is_past(before_us)]:
                del self._trips[trip_id]

    def __len__(self) -> int:
        """How many trips are remembered."""
        return len(self._trips)


@dataclass
class _Trip:
    asked_us: int
    keys: tuple[str | None, ...]  # one for each entry
    until_us: int
    is_over: bool = False

    def is_past(self, before_us: int) -> bool:
        return self.until_us < (before_us if self.is_over else before_us - _OPEN_US)


class _EntryWindows:
    """One entry's totals by key, each as the changes to come and the sum of those that are past."""

    def __init__(self, entry: Trailing) -> None:
        self.entry = entry
        self._totals = totals_of(entry)
        self._by_key: dict[str, _Totals] = {}
        self._nothing = nothing_in(entry)
        self._places = {measure.name: self._places_of(measure) for measure in entry.columns}

    def _places_of(self, measure: Measure) -> tuple[int, int | None]:
        """Which totals a column is made of: the number, and the sum where it is a mean."""
        place = self.entry.measured.index(measure.of)
        names = [name for name, _ in self._totals]
        return names.index(f"_n{place}"), names.index(f"_sum{place}") if measure.how == "mean" else None

    def key_of(self, request: Request) -> str | None:
        return "" if self.entry.key is None else text_of(request, self.entry.key)

    def add(self, key: str | None, column: str, span: tuple[int, int], value: float) -> None:
        """What one event adds to the totals of `column` while it is in the window."""
        begin, end = span
        if key is None or begin >= end or column not in self.entry.measured:
            return
        parts = to_whole(value, THOUSANDTHS)
        weights = [0 if of != column else 1 if name.startswith("_n") else parts for name, of in self._totals]
        totals = self._by_key.setdefault(key, _Totals(len(weights)))
        totals.change(begin, weights)
        totals.change(end, [-weight for weight in weights])

    def at(self, now_us: int, key: str | None) -> Values:
        if key is None:
            return dict.fromkeys(self._places)
        if key not in self._by_key:
            return dict(self._nothing)
        totals = self._by_key[key].at(now_us)
        values: Values = {}
        for name, (n_place, sum_place) in self._places.items():
            n = totals[n_place]
            mean = mean_of(totals[sum_place], n) if n and sum_place is not None else None
            values[name] = float(n) if sum_place is None else mean
        return values

    def forget(self, before_us: int) -> None:
        for key in list(self._by_key):
            self._by_key[key].forget(before_us)
            if not self._by_key[key].times:
                del self._by_key[key]


class _Totals:
    """Running totals: the moments at which they change, and by how much each does."""

    def __init__(self, n_totals: int) -> None:
        self.times: list[int] = []
        self._changes: list[list[int]] = [[] for _ in range(n_totals)]
        self._before = [0] * n_totals

    def change(self, moment: int, weights: Sequence[int]) -> None:
        place = bisect_right(self.times, moment)
        self.times.insert(place, moment)
        for changes, weight in zip(self._changes, weights, strict=True):
            changes.insert(place, weight)

    def at(self, now_us: int) -> list[int]:
        place = bisect_right(self.times, now_us)
        return [before + sum(changes[:place]) for before, changes in zip(self._before, self._changes, strict=True)]

    def forget(self, before_us: int) -> None:
        place = bisect_right(self.times, before_us)
        self._before = self.at(before_us)
        for changes in (self.times, *self._changes):
            del changes[:place]
