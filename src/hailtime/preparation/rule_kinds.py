"""How each kind of declared rule catches a row, and mends it where it can: one function a kind.

The settings are described in `declared_rules.py`. Each function gets the rule's name, its settings, the schema and the
severity, and raises ConfigError for settings that cannot work.
"""

import math
import re
from typing import Any

import narwhals as nw

from hailtime.errors import ConfigError, did_you_mean
from hailtime.preparation.conform import Kind
from hailtime.preparation.exact import EARTH_RADIUS_M
from hailtime.preparation.rule_settings import Settings, read_column, read_number, read_values
from hailtime.preparation.rules import Check, Duplicate, Severity, outside, without
from hailtime.schema import Schema
from hailtime.sources.columns import UNITS

_SAME_QUANTITY = ({"s", "ms", "min", "h"}, {"m", "km", "ft", "mi"}, {"m/s", "km/h", "mph"})


def keep(name: str, settings: Settings, schema: Schema, severity: Severity) -> Check:
    if "column" not in settings or ("value" in settings) == ("values" in settings):
        raise ConfigError(f"rule {name}: keep needs column and either value or values, got {dict(settings)}")
    column, values, kind = read_values(name, settings)
    meaning = f"{column} is not {_listed(values)}"
    return Check(name, "keep", severity, (column,), ~_is_one_of(column, values), meaning, {column: kind})


def exclude(name: str, settings: Settings, schema: Schema, severity: Severity) -> Check:
    given = [key for key in ("value", "values", "prefix", "pattern") if key in settings]
    if len(given) != 1:
        raise ConfigError(f"rule {name}: exclude needs one of value, values, prefix and pattern, got {given}")
    kind: Kind = "text"
    if given[0] in ("value", "values"):
        column, values, kind = read_values(name, settings)
        caught, meaning = _is_one_of(column, values), f"{column} is {_listed(values)}"
    else:
        column, text = read_column(name, settings), str(settings[given[0]])
        if given[0] == "pattern":
            _check_pattern(name, text)
            caught, meaning = nw.col(column).str.contains(text), f"{column} matches {text}"
        else:
            caught, meaning = nw.col(column).str.starts_with(text), f"{column} begins with {text}"
        caught = caught.fill_null(False)
    return Check(name, "exclude", severity, (column,), caught, meaning, {column: kind}, is_early=True)


def missing(name: str, settings: Settings, schema: Schema, severity: Severity) -> Check:
    column = read_column(name, settings)
    reads: dict[str, Kind] = {} if column in schema.by_name else {column: "as_it_is"}
    return Check(name, "missing", severity, (column,), nw.col(column).is_null(), f"{column} is not given", reads)


def in_range(name: str, settings: Settings, schema: Schema, severity: Severity) -> Check:
    column = read_column(name, settings)
    low, high = (read_number(name, settings, key) for key in ("min", "max"))
    if (low is None and high is None) or (low is not None and high is not None and low >= high):
        raise ConfigError(f"rule {name}: range needs min or max, and min below max, got {dict(settings)}")
    if severity == "mend" and column in (schema.id, schema.requested_at, schema.target):
        raise ConfigError(f"rule {name}: mended is made missing, and without {column} a trip is nothing: drop or flag")
    caught = outside(column, low, high)
    ends = [f"{word} {limit:g}" for word, limit in (("below", low), ("above", high)) if limit is not None]
    reads: dict[str, Kind] = {} if column == schema.target else {column: "number"}  # it may have to be computed first
    mends, sequel = ({column: without(column, caught)}, ": made missing") if severity == "mend" else ({}, "")
    return Check(name, "range", severity, (column,), caught, f"{column} is {' or '.join(ends)}{sequel}", reads, mends)


def speed(name: str, settings: Settings, schema: Schema, severity: Severity) -> Check:
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
    caught = (way > reach).fill_null(False)
    meaning = f"the way to the pickup needs more than {max_mps:g} m/s"
    mends = {}
    if severity == "mend":
        mends = {place: without(place, caught) for place in schema.journey[:2]}
        meaning += f": {' and '.join(mends)} are made missing"
    return Check(name, "speed", severity, (*schema.journey, schema.target), caught, meaning, mends=mends)


def unit(name: str, settings: Settings, schema: Schema, severity: Severity) -> Check:
    column = read_column(name, settings)
    above, below = (read_number(name, settings, key) for key in ("above", "below"))
    if (above is None) == (below is None):
        raise ConfigError(f"rule {name}: unit needs either above or below, got {dict(settings)}")
    caught = outside(column, below, above)
    mends, sequel = {}, ""
    if severity == "mend":
        factor = _read_factor(name, settings, column, schema)
        mends = {column: nw.when(caught).then(nw.col(column) * factor).otherwise(nw.col(column))}
        sequel = f": multiplied by {factor:.5g}"
    elif "is" in settings or "factor" in settings:
        raise ConfigError(f"rule {name}: 'is' and 'factor' say how to mend: add severity: mend")
    limit = f"above {above:g}" if above is not None else f"below {below:g}"
    meaning = f"{column} {limit} is in another unit{sequel}"
    return Check(name, "unit", severity, (column,), caught, meaning, {column: "number"}, mends, is_early=True)


def duplicate(name: str, settings: Settings, schema: Schema, severity: Severity) -> Duplicate:
    by = settings["by"]
    if isinstance(by, str) or not by:
        raise ConfigError(f"rule {name}: by must be a list of columns such as [{schema.id}], got {by!r}")
    return Duplicate(name, tuple(by), dict.fromkeys(by, "as_it_is"))


def _is_one_of(column: str, values: list[Any]) -> nw.Expr:
    return nw.any_horizontal(*(nw.col(column) == value for value in values), ignore_nulls=True).fill_null(False)


def _listed(values: list[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _check_pattern(name: str, pattern: str) -> None:
    try:
        has_groups = re.compile(pattern).groups > 0
    except re.error as error:
        raise ConfigError(f"rule {name}: pattern must be a regular expression, got {pattern!r}: {error}") from error
    if has_groups or re.search(r"\(\?(?!:)", pattern):
        raise ConfigError(f"rule {name}: of groups, engines agree only on (?:...), got {pattern!r}")


def _read_factor(name: str, settings: Settings, column: str, schema: Schema) -> float:
    if ("is" in settings) == ("factor" in settings):
        raise ConfigError(f"rule {name}: to mend, unit needs either 'is' (such as km/h) or 'factor'")
    if "factor" in settings:
        factor = read_number(name, settings, "factor")
        if factor is None or factor <= 0:
            raise ConfigError(f"rule {name}: factor must be above 0, got {factor}")
        return factor
    found, ours = str(settings["is"]), schema.by_name[column].unit if column in schema.by_name else ""
    for units in _SAME_QUANTITY:
        if ours in units and found in units:
            return UNITS[found] / UNITS[ours]
    raise ConfigError(
        f"rule {name}: {column} is in {ours or 'no unit that the schema knows'}, and {found!r} cannot be converted to "
        f"it{did_you_mean(found, UNITS)}: give factor, what its values are multiplied by"
    )
