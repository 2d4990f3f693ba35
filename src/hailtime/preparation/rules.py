"""What makes a raw trip unbelievable: the rules a source's yaml may name, and those its schema implies.

A rule is an entry `name: {rule: kind, ...}`:

- `keep: {column, value}` or `{column, values}`: only these rows are asked about; the others are no fault
- `order: {first, then}`: the second time is not before the first
- `speed: {max_mps}`: the great circle of the schema's journey, driven in the pickup time, is no faster
- `duplicate: {by: [columns]}`: of rows alike in these columns the earliest request stays

A rule is written once as a Narwhals expression that is true where a row is caught, and never null.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import narwhals as nw

from hailtime.errors import ConfigError, did_you_mean
from hailtime.preparation.conform import Kind
from hailtime.schema import MICROSECONDS_PER_SECOND, Column, Schema

Severity = Literal["select", "drop", "mend"]

EARTH_RADIUS_M = 6_371_008.8  # mean radius, IUGG
# a time outside these years is a time in another unit or a clock that was never set
_FIRST_YEAR, _LAST_YEAR = 2000, 2100


@dataclass(frozen=True)
class Check:
    """A rule that looks at one row: `caught` is true where the row breaks it; `columns` are shown in the example."""

    name: str
    kind: str
    severity: Severity
    columns: tuple[str, ...]
    caught: nw.Expr
    meaning: str
    reads: Mapping[str, Kind] = field(default_factory=dict)  # columns of the raw table beside the schema's


@dataclass(frozen=True)
class Duplicate:
    """Rows alike in the columns `by` are one request; a row without a value in any of them is never a duplicate."""

    name: str
    by: tuple[str, ...]
    reads: Mapping[str, Kind]

    @property
    def meaning(self) -> str:
        return f"the same {' and '.join(self.by)} again: the earliest is kept"


def read_rules(rules: Mapping[str, Mapping[str, Any]], schema: Schema) -> tuple[list[Check], list[Duplicate]]:
    """The declared rules: those of one row with selections first, and those that compare rows. ConfigError if wrong."""
    checks: list[Check] = []
    duplicates: list[Duplicate] = []
    for name, entry in rules.items():
        rule = _read_rule(name, entry, schema)
        if isinstance(rule, Duplicate):
            duplicates.append(rule)
        else:
            checks.append(rule)
    return sorted(checks, key=lambda check: check.severity != "select"), duplicates


def missing_checks(schema: Schema) -> list[Check]:
    """Without an id, a time and a target a trip teaches nothing."""
    return [
        Check(f"missing_{name}", "missing", "drop", (name,), nw.col(name).is_null(), f"{name} is not given")
        for name in (schema.id, schema.requested_at, schema.target)
    ]


def time_check(schema: Schema) -> Check:
    """The time of the request is of our age."""
    name = schema.requested_at
    first, last = (
        int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * MICROSECONDS_PER_SECOND
        for year in (_FIRST_YEAR, _LAST_YEAR)
    )
    meaning = f"{name} is not in the years {_FIRST_YEAR} to {_LAST_YEAR}, read as microseconds since 1970 UTC"
    return Check(f"range_{name}", "range", "drop", (name,), _outside(name, first, last), meaning)


def range_checks(columns: Iterable[Column]) -> list[Check]:
    """One check for every column that declares a limit."""
    return [
        _range_check(column)
        for column in columns
        if column.role in ("numeric", "target", "truth") and (column.minimum, column.maximum) != (None, None)
    ]


def _range_check(column: Column) -> Check:
    # a trip whose target is made missing would teach nothing, so there `missing` means drop
    is_dropped = column.out_of_range == "reject" or (column.role == "target" and column.out_of_range == "missing")
    fate = "dropped" if is_dropped else {"missing": "made missing", "clip": "clipped"}[column.out_of_range]
    return Check(
        name=f"range_{column.name}",
        kind="range",
        severity="drop" if is_dropped else "mend",
        columns=(column.name,),
        caught=_outside(column.name, column.minimum, column.maximum),
        meaning=f"{column.name} is outside {column.range_text}: {fate}",
    )


def _outside(name: str, low: float | None, high: float | None) -> nw.Expr:
    caught = nw.lit(False)
    if low is not None:
        caught = caught | (nw.col(name) < low).fill_null(False)
    if high is not None:
        caught = caught | (nw.col(name) > high).fill_null(False)
    return caught


def _read_rule(name: str, entry: Mapping[str, Any], schema: Schema) -> Check | Duplicate:
    if not isinstance(entry, Mapping) or "rule" not in entry:
        raise ConfigError(f"rule {name} needs an entry 'rule', one of {', '.join(sorted(_RULES))}; got {entry!r}")
    kind, settings = str(entry["rule"]), {key: value for key, value in entry.items() if key != "rule"}
    if kind not in _RULES:
        raise ConfigError(f"rule {name}: there is no rule {kind!r}{did_you_mean(kind, _RULES)}")
    build, needed = _RULES[kind]
    for key in settings:
        if key not in needed:
            raise ConfigError(f"rule {name}: {kind} has no setting {key!r}{did_you_mean(key, needed)}")
    for key in needed:
        if key not in settings and kind != "keep":
            raise ConfigError(f"rule {name}: {kind} needs the setting {key!r}")
    return build(name, settings, schema)


def _keep(name: str, settings: Mapping[str, Any], schema: Schema) -> Check:
    if "column" not in settings or ("value" in settings) == ("values" in settings):
        raise ConfigError(f"rule {name}: keep needs column and either value or values, got {dict(settings)}")
    column, values = settings["column"], list(settings.get("values", [settings.get("value")]))
    kinds = {_kind_of(value) for value in values}
    if len(kinds) != 1 or None in values:
        raise ConfigError(f"rule {name}: the values to keep must be all text or all numbers, got {values}")
    kept = nw.any_horizontal(*(nw.col(column) == value for value in values), ignore_nulls=True)
    shown = ", ".join(str(value) for value in values)
    return Check(
        name, "keep", "select", (column,), ~kept.fill_null(False), f"{column} is not {shown}", {column: kinds.pop()}
    )


def _kind_of(value: object) -> Kind:
    if isinstance(value, bool):
        return "as_it_is"
    return "text" if isinstance(value, str) else "number"


def _order(name: str, settings: Mapping[str, Any], schema: Schema) -> Check:
    first, then = settings["first"], settings["then"]
    caught = (nw.col(then) < nw.col(first)).fill_null(False)
    reads: dict[str, Kind] = dict.fromkeys((first, then), "time")
    return Check(name, "order", "drop", (first, then), caught, f"{then} is before {first}", reads)


def _speed(name: str, settings: Mapping[str, Any], schema: Schema) -> Check:
    max_mps = settings["max_mps"]
    if not isinstance(max_mps, int | float) or isinstance(max_mps, bool) or not max_mps > 0:
        raise ConfigError(f"rule {name}: max_mps must be a speed in m/s above 0, got {max_mps!r}")
    if schema.journey is None:
        raise ConfigError(f"rule {name}: speed needs the schema's journey, the columns from lat, lon, to lat, lon")
    lat_1, lon_1, lat_2, lon_2 = (nw.col(column) * (math.pi / 180) for column in schema.journey)
    # The haversine's inner term grows with the distance up to half the Earth, so the longest drive possible is
    # compared there: Narwhals has no arcsine.
    way = ((lat_2 - lat_1) / 2).sin() ** 2 + lat_1.cos() * lat_2.cos() * ((lon_2 - lon_1) / 2).sin() ** 2
    reach = (nw.col(schema.target) * (max_mps / (2 * EARTH_RADIUS_M))).clip(0.0, math.pi / 2).sin() ** 2
    columns = (*schema.journey, schema.target)
    meaning = f"the way to the pickup needs more than {max_mps:g} m/s"
    return Check(name, "speed", "drop", columns, (way > reach).fill_null(False), meaning)


def _duplicate(name: str, settings: Mapping[str, Any], schema: Schema) -> Duplicate:
    by = settings["by"]
    if isinstance(by, str) or not by:
        raise ConfigError(f"rule {name}: by must be a list of columns such as [{schema.id}], got {by!r}")
    return Duplicate(name, tuple(by), dict.fromkeys(by, "as_it_is"))


_Build = Callable[[str, Mapping[str, Any], Schema], Check | Duplicate]
_RULES: dict[str, tuple[_Build, tuple[str, ...]]] = {
    "keep": (_keep, ("column", "value", "values")),
    "order": (_order, ("first", "then")),
    "speed": (_speed, ("max_mps",)),
    "duplicate": (_duplicate, ("by",)),
}
