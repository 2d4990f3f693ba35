"""The joins asked for one request at a time: what serving looks up, by the very frames that preparation joins with.

Each lookup holds what one join worked out as Python numbers, and answers in a few microseconds. It never changes, so
threads may share it.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import narwhals as nw

from hailtime.errors import RequestError, did_you_mean
from hailtime.preparation.exact import great_circle_m, half_angles, on_sphere, sine
from hailtime.preparation.join_latest import LatestJoin
from hailtime.preparation.join_nearby import CELL, THEN, NearbyJoin, cell_of
from hailtime.preparation.join_settings import Latest, Nearby, Trailing
from hailtime.preparation.join_trailing import TrailingJoin
from hailtime.preparation.known import FROM, KEY, UNTIL
from hailtime.schema import MICROSECONDS_PER_SECOND

Request = Mapping[str, Any]
Values = dict[str, float | str | None]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Lookup(Protocol):
    """What one entry of `conditions` knows."""

    def at(self, now_us: int, request: Request) -> Values:
        """The joined columns of a request made at that time."""


class StepLookup:
    """The latest row known, or a trailing window over a table: a value from a moment on until the next."""

    def __init__(self, join: LatestJoin | TrailingJoin, since_us: int) -> None:
        assert join.steps is not None, "serving reads eager frames"
        self._key = join.entry.key
        self._names = names_of(join.entry)
        self._nothing = nothing_in(join.entry)
        self._steps = _by_key(join.steps, self._names, since_us)

    def at(self, now_us: int, request: Request) -> Values:
        key = "" if self._key is None else text_of(request, self._key)
        if key is None:
            return dict.fromkeys(self._names)
        if key not in self._steps:
            return dict(self._nothing)
        times, rows = self._steps[key]
        place = bisect_right(times, now_us)
        return dict(zip(self._names, rows[place - 1], strict=True)) if place else dict(self._nothing)


class NearbyLookup:
    """Events by the cells from which they may be reached."""

    def __init__(self, join: NearbyJoin, since_us: int) -> None:
        assert isinstance(join.cells, nw.DataFrame), "serving reads eager frames"
        self._entry = join.entry
        self._cells: dict[int, list[tuple[int, int, float, float, float]]] = defaultdict(list)
        recent = join.cells.filter(nw.col(UNTIL) > since_us).select(CELL, FROM, UNTIL, *THEN)
        for cell, *event in recent.iter_rows():
            self._cells[cell].append(tuple(event))

    def at(self, now_us: int, request: Request) -> Values:
        lat, lon = (number_of(request, name) for name in self._entry.at)
        if lat is None or lon is None or not (-90 <= lat <= 90 and -180 <= lon <= 180):
            return dict.fromkeys(self._entry.columns)
        events = self._cells.get(cell_of(lat, lon, self._entry.radius_m), ())
        active = [event for event in events if event[0] <= now_us < event[1]]
        near_m = []
        if active:
            x, y, z = on_sphere(*map(sine, half_angles(lat, lon)))
            ways_m = (great_circle_m(x - then_x, y - then_y, z - then_z) for _, _, then_x, then_y, then_z in active)
            near_m = [way_m for way_m in ways_m if way_m <= self._entry.radius_m]
        held = {"count": float(len(near_m)), "distance": min(near_m, default=None)}
        return {name: held[what] for name, what in self._entry.columns.items()}


def lookup_of(join: LatestJoin | NearbyJoin | TrailingJoin, since_us: int) -> Lookup:
    """What a join over tables knows of the time from `since_us` on."""
    return NearbyLookup(join, since_us) if isinstance(join, NearbyJoin) else StepLookup(join, since_us)


def names_of(entry: Latest | Nearby | Trailing) -> list[str]:
    """The joined columns."""
    if isinstance(entry, Nearby):
        return list(entry.columns)
    return [column.name for column in entry.columns]


def nothing_in(entry: Latest | Trailing) -> Values:
    """The columns where nothing was observed: a count is 0, all else is missing."""
    if isinstance(entry, Latest):
        return dict.fromkeys(names_of(entry))
    return {measure.name: 0.0 if measure.how == "count" else None for measure in entry.columns}


def text_of(request: Request, name: str) -> str | None:
    """A category of a request; None where it is missing."""
    value = _given(request, name)
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise RequestError(f"{name} must be text or an int, or None for missing, got {value!r}")


def number_of(request: Request, name: str) -> float | None:
    """A number of a request; None where it is missing."""
    value = _given(request, name)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{name} must be a number, or None for missing, got {value!r}") from error
    return number if number - number == 0 else None  # NaN and infinity are missing


def time_of(request: Request, name: str) -> int:
    """Microseconds since 1970 UTC of an aware datetime, ISO 8601 text with an offset or epoch seconds."""
    value = _given(request, name)
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(time, datetime):
            return (time - _EPOCH) // timedelta(microseconds=1)
        return round(float(time) * MICROSECONDS_PER_SECOND)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(
            f"{name} must be an aware datetime, ISO 8601 text with an offset or epoch seconds, got {value!r}"
        ) from error


def _given(request: Request, name: str) -> Any:
    if name not in request:
        raise RequestError(f"a request needs {name!r} for its conditions{did_you_mean(name, request)}")
    return request[name]


def _by_key(
    steps: nw.DataFrame[Any], names: list[str], since_us: int
) -> dict[str, tuple[list[int], list[tuple[Any, ...]]]]:
    """Of each key the moments at which something changes, and the values from then on; none that ended before."""
    found: dict[str, tuple[list[int], list[tuple[Any, ...]]]] = defaultdict(lambda: ([], []))
    for key, moment, *values in steps.select(KEY, FROM, *names).iter_rows():
        times, rows = found[key]
        if times and moment <= since_us:
            times.clear()
            rows.clear()
        times.append(moment)
        rows.append(tuple(values))
    return dict(found)
