"""The `conditions` of a source's yaml, read: which columns are joined from which table, and how.

Every entry is named by the columns that come from it (`condition: NAME` in the schema) and is one of three kinds:

    weather: {key: null, freshness_h: 3}      # join: latest, from the table of the same name
    incidents_near:
      join: nearby                            # events that are active near the place of the request
      table: incident_reports
      id: event_id                            # a row known later corrects the row of the same id
      place: [lat, lon]                       # of the table
      at: [pickup_lat, pickup_lon]            # of the request
      radius_m: 1500
      freshness_h: 12                         # an event without an end is over that long after it began
      columns: {incidents_within_1500_m: count, nearest_incident_m: distance}
    recent_pickups:
      join: trailing                          # counts and means of the last minutes
      table: trips                            # the trips themselves; else a table of conditions
      key: pickup_zone
      window_min: 30
      columns: {recent_requests: {count: requested_at}, recent_pickup_time_s: {mean: pickup_time_s}}
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hailtime.errors import ConfigError, did_you_mean
from hailtime.schema import MICROSECONDS_PER_SECOND, Column, Schema

MINUTE_US = 60 * MICROSECONDS_PER_SECOND
HOUR_US = 60 * MINUTE_US
TRIPS = "trips"  # as the table of a trailing entry: the cleaned trips themselves
# cells are numbered in 60 bits, and the arcsine is a short series: both hold in between
RADIUS_M = (10.0, 100_000.0)
_REQUIRED: dict[str, tuple[str, ...]] = {
    "latest": ("freshness_h",),
    "nearby": ("table", "id", "place", "at", "radius_m", "freshness_h", "columns"),
    "trailing": ("table", "window_min", "columns"),
}
_OPTIONAL: dict[str, tuple[str, ...]] = {"latest": ("key",), "nearby": (), "trailing": ("key", "id", "delay_s")}


@dataclass(frozen=True)
class Latest:
    """The latest row known, of the table with the entry's name. `key`: the column both sides share, or None."""

    name: str
    columns: tuple[Column, ...]
    key: str | None
    freshness_us: int

    @property
    def table(self) -> str:
        return self.name

    @property
    def reach_us(self) -> int:
        """What was observed longer ago than this does not count."""
        return self.freshness_us


@dataclass(frozen=True)
class Nearby:
    """Events active within a radius. `columns`: what each joined column holds."""

    name: str
    columns: Mapping[str, Literal["count", "distance"]]
    table: str
    id: str
    place: tuple[str, str]
    at: tuple[str, str]
    radius_m: float
    freshness_us: int

    @property
    def reach_us(self) -> int:
        return self.freshness_us


@dataclass(frozen=True)
class Measure:
    """One joined column of a trailing window: `count` rows that have a value in the column `of`, or their `mean`."""

    name: str
    how: Literal["count", "mean"]
    of: str


@dataclass(frozen=True)
class Trailing:
    """Counts and means over the last minutes. `delay_us`: how long after a pickup its time is in the log."""

    name: str
    columns: tuple[Measure, ...]
    table: str
    key: str | None
    window_us: int
    id: str | None = None
    delay_us: int = 0

    @property
    def reach_us(self) -> int:
        return self.window_us

    @property
    def measured(self) -> list[str]:
        """The columns that are counted or averaged, each once."""
        return list(dict.fromkeys(measure.of for measure in self.columns))

    @property
    def averaged(self) -> set[str]:
        return {measure.of for measure in self.columns if measure.how == "mean"}


Entry = Latest | Nearby | Trailing


def entry_names(schema: Schema) -> list[str]:
    """The entries of `conditions` that the schema's columns come from, in order of appearance."""
    return list(dict.fromkeys(column.condition for column in schema.columns if column.condition is not None))


def read_entries(schema: Schema, settings: Mapping[str, Mapping[str, Any]]) -> list[Entry]:
    """One entry for every condition of the schema. ConfigError for whatever cannot work."""
    return [_read_entry(name, settings, schema) for name in entry_names(schema)]


def _read_entry(name: str, settings: Mapping[str, Mapping[str, Any]], schema: Schema) -> Entry:
    if name not in settings:
        raise ConfigError(f"conditions has no entry {name!r}, which columns come from{did_you_mean(name, settings)}")
    entry = settings[name]
    if not isinstance(entry, Mapping):
        raise ConfigError(f"condition {name} must be settings such as {{key: null, freshness_h: 3}}, got {entry!r}")
    kind = entry.get("join", "latest")
    if kind not in _READERS:
        raise ConfigError(f"condition {name}: there is no join {kind!r}{did_you_mean(str(kind), _READERS)}")
    known = ("join", *_REQUIRED[kind], *_OPTIONAL[kind])
    for setting in entry:
        if setting not in known:
            raise ConfigError(f"condition {name} has no setting {setting!r}{did_you_mean(str(setting), known)}")
    for setting in _REQUIRED[kind]:
        if setting not in entry and setting not in ("freshness_h", "window_min", "radius_m"):
            raise ConfigError(f"condition {name}: {kind} needs the setting {setting!r}")
    columns = tuple(column for column in schema.columns if column.condition == name)
    return _READERS[kind](name, entry, columns, schema)


def _latest(name: str, entry: Mapping[str, Any], columns: tuple[Column, ...], schema: Schema) -> Latest:
    return Latest(name, columns, _text_or_none(name, entry, "key"), _span(name, entry, "freshness_h", HOUR_US))


def _nearby(name: str, entry: Mapping[str, Any], columns: tuple[Column, ...], schema: Schema) -> Nearby:
    what = _declared(name, entry, columns)
    for column, value in what.items():
        if value not in ("count", "distance"):
            raise ConfigError(f"condition {name}: {column} must be count or distance, got {value!r}")
    if entry["table"] == TRIPS:
        raise ConfigError(f"condition {name}: nearby needs a table of events, and trips are none")
    radius_m = _number(name, entry, "radius_m")
    if not RADIUS_M[0] <= radius_m <= RADIUS_M[1]:
        raise ConfigError(f"condition {name}: radius_m must be {RADIUS_M[0]:g} to {RADIUS_M[1]:,.0f} m, got {radius_m}")
    at = _pair(name, entry, "at")
    for column in at:
        if column not in schema.numeric_names or schema.column(column).condition is not None:
            known = [own.name for own in schema.numeric if own.condition is None]
            raise ConfigError(
                f"condition {name}: at must name numbers of a request, got {column!r}{did_you_mean(column, known)}"
            )
    freshness_us = _span(name, entry, "freshness_h", HOUR_US)
    place, table, event_id = _pair(name, entry, "place"), _text(name, entry, "table"), _text(name, entry, "id")
    return Nearby(name, what, table, event_id, place, at, radius_m, freshness_us)


def _trailing(name: str, entry: Mapping[str, Any], columns: tuple[Column, ...], schema: Schema) -> Trailing:
    measures = tuple(_measure(name, column, what) for column, what in _declared(name, entry, columns).items())
    table, delay_s = _text(name, entry, "table"), _number(name, entry, "delay_s") if "delay_s" in entry else 0.0
    if table == TRIPS:
        _check_measures_of_trips(name, entry, measures, schema)
    elif delay_s:
        raise ConfigError(f"condition {name}: delay_s is for the table trips; {table} says itself when it was known")
    if delay_s < 0:
        raise ConfigError(f"condition {name}: delay_s must be seconds from 0 on, got {delay_s}")
    return Trailing(
        name,
        measures,
        table,
        key=_text_or_none(name, entry, "key"),
        window_us=_span(name, entry, "window_min", MINUTE_US),
        id=_text_or_none(name, entry, "id"),
        delay_us=int(delay_s * MICROSECONDS_PER_SECOND),
    )


def _check_measures_of_trips(name: str, entry: Mapping[str, Any], measures: Sequence[Measure], schema: Schema) -> None:
    if "id" in entry:
        raise ConfigError(f"condition {name}: id is for tables with corrections; a trip is known by {schema.id}")
    possible = {("count", schema.requested_at), ("count", schema.target), ("mean", schema.target)}
    for measure in measures:
        if (measure.how, measure.of) not in possible:
            told = ", ".join(f"{{{how}: {of}}}" for how, of in sorted(possible))
            raise ConfigError(
                f"condition {name}: of the trips there is {told}, {measure.name} asks for "
                f"{{{measure.how}: {measure.of}}}"
            )


def _measure(name: str, column: str, what: object) -> Measure:
    if not isinstance(what, Mapping) or len(what) != 1:
        raise ConfigError(f"condition {name}: {column} must be {{count: COLUMN}} or {{mean: COLUMN}}, got {what!r}")
    ((how, of),) = what.items()
    if how not in ("count", "mean"):
        raise ConfigError(f"condition {name}: {column} cannot be a {how!r}{did_you_mean(str(how), ('count', 'mean'))}")
    if how == "mean" and of in ("observed_at", "known_at"):
        raise ConfigError(f"condition {name}: {column} cannot be the mean of a time, got {of!r}")
    return Measure(column, how, str(of))


def _declared(name: str, entry: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """The entry's `columns`, which the schema must declare, all and no others, as numbers."""
    what = entry["columns"]
    if not isinstance(what, Mapping):
        raise ConfigError(f"condition {name}: columns must say what each joined column holds, got {what!r}")
    declared = {column.name: column for column in columns}
    for column in what:
        if column not in declared:
            raise ConfigError(
                f"condition {name}: the schema declares no column {column!r} with condition: {name}"
                f"{did_you_mean(str(column), declared)}"
            )
    for column in columns:
        if column.name not in what:
            raise ConfigError(f"condition {name}: columns does not say what {column.name} holds")
        if column.role != "numeric":
            raise ConfigError(f"condition {name}: {column.name} is a number, the schema declares it {column.role}")
    return {column.name: what[column.name] for column in columns}


def _span(name: str, entry: Mapping[str, Any], setting: str, unit_us: int) -> int:
    units = {"freshness_h": "hours", "window_min": "minutes"}[setting]
    value = entry.get(setting)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ConfigError(f"condition {name}: {setting} must be {units} above 0, got {value!r}")
    return max(1, int(value * unit_us))


def _number(name: str, entry: Mapping[str, Any], setting: str) -> float:
    value = entry.get(setting)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigError(f"condition {name}: {setting} must be a number, got {value!r}")
    return float(value)


def _text(name: str, entry: Mapping[str, Any], setting: str) -> str:
    value = entry.get(setting)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"condition {name}: {setting} must be a name, got {value!r}")
    return value


def _text_or_none(name: str, entry: Mapping[str, Any], setting: str) -> str | None:
    return None if entry.get(setting) is None else _text(name, entry, setting)


def _pair(name: str, entry: Mapping[str, Any], setting: str) -> tuple[str, str]:
    value = entry[setting]
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ConfigError(f"condition {name}: {setting} must be two columns [latitude, longitude], got {value!r}")
    return str(value[0]), str(value[1])


_READERS: dict[str, Callable[[str, Mapping[str, Any], tuple[Column, ...], Schema], Entry]] = {
    "latest": _latest,
    "nearby": _nearby,
    "trailing": _trailing,
}
