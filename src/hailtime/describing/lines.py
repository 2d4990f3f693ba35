"""One column's lines in a yaml: what it is called in the file and how it is read, and what the schema says of it."""

import json
import re
from dataclasses import dataclass

from hailtime.describing.columns import Column
from hailtime.describing.description import Description
from hailtime.describing.guess import Guess
from hailtime.describing.names import BECOMES, our_name, without_unit
from hailtime.describing.ranges import number_text, range_of
from hailtime.sources.columns import UNITS

_OURS = {"id": "request_id", "requested_at": "requested_at", "arrived_at": "arrived_at", "target": "pickup_time_s"}
_PLACES = ("pickup_lat", "pickup_lon", "driver_lat", "driver_lon", "dropoff_lat", "dropoff_lon")
_WORDS_OF_YAML = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}


@dataclass(frozen=True)
class Line:
    """`ours: load # why` under load.columns and `ours: schema # why` under schema.columns, where there is one."""

    ours: str
    load: str
    load_why: str
    schema: str = ""
    schema_why: str = ""


def lines_of(description: Description) -> list[Line]:
    """The columns that are loaded: id and times first, the target last, as in the yamles beside it."""
    roles = description.roles
    target = roles.moments.target
    lines = [_id_line(description), _time_line(description, "requested_at")]
    if target is None or description.arrived is not None:
        lines.append(_time_line(description, "arrived_at"))
    taken = {*_OURS.values(), *_PLACES}
    for column in (*roles.of(*_PLACES), *roles.of("number"), *roles.of("category")):
        line = _input_line(column, description.guesses[column.name], taken)
        taken.add(line.ours)
        lines.append(line)
    return [*lines, _target_line(description)]


def condition_lines(description: Description) -> list[Line]:
    """The columns of a table of conditions: its clocks, its values, and the zone that it is joined by."""
    roles, taken = description.roles, {"observed_at", "known_at"}
    observed = roles.of("observed_at")[0]
    known = next(iter(roles.of("known_at")), None)
    lines = [Line("observed_at", time_entry(observed), roles.guesses[observed.name].why)]
    if known is not None:
        lines.append(Line("known_at", time_entry(known), roles.guesses[known.name].why))
    else:
        lines.append(
            Line(
                "known_at",
                time_entry(observed, delay_s=300),
                "check this: when could anybody know it? 5 minutes is a guess",
            )
        )
    for column in roles.of("number"):
        line = _input_line(column, roles.guesses[column.name], taken)
        taken.add(line.ours)
        lines.append(line)
    if roles.zone is not None:
        lines.append(_input_line(roles.columns[roles.zone], roles.guesses[roles.zone], taken))
    return lines


def quoted(text: str) -> str:
    """A name as yaml and OmegaConf read it back, whatever is in it."""
    if re.fullmatch(r"[A-Za-z_/.][A-Za-z0-9_/.-]*", text) and text.lower() not in _WORDS_OF_YAML:
        return text
    return json.dumps(text.replace("${", "\\${"), ensure_ascii=False)


def time_entry(column: Column, delay_s: int = 0) -> str:
    """How a time is read: its unit since 1970, or its format where it is not ISO 8601."""
    time = column.reading.time
    assert time is not None
    return _entry(column.name, unit=time.unit, format=time.format, delay_s=delay_s or None)


def _entry(name: str, **settings: str | int | None) -> str:
    given = {key: value for key, value in settings.items() if value is not None}
    if not given:
        return quoted(name)
    shown = [f"{key}: {json.dumps(v) if key == 'format' else v}" for key, v in given.items()]
    return f"{{column: {quoted(name)}, {', '.join(shown)}}}"


def _id_line(description: Description) -> Line:
    roles, schema = description.roles, "{role: id}"
    if roles.id is not None:
        guess = roles.guesses[roles.id]
        return Line("request_id", _entry(roles.id, kind="text"), _why(guess), schema)
    requested = description.requested
    if requested is None:
        return Line("request_id", "???", "fill in: no column names a row", schema)
    # a time as a number is read as one: kind text would take its unit's place
    is_number = requested.reading.time is not None and requested.reading.time.unit is not None
    entry = quoted(requested.name) if is_number else _entry(requested.name, kind="text")
    return Line("request_id", entry, "no column names a row: the time stands in, and is not unique", schema)


def _time_line(description: Description, ours: str) -> Line:
    is_request = ours == "requested_at"
    usable = description.requested if is_request else description.arrived
    schema = "{role: requested_at}" if is_request else ""
    if usable is None:
        gap = next((gap for gap in description.to_fill if f".{ours}:" in gap), f": {ours}")
        return Line(ours, "???", f"fill in: {gap.partition(': ')[2]}", schema)
    time = usable.reading.time
    how = "" if time is None else f"; {time.why}" + ("" if time.is_sure else ": check this")
    return Line(ours, time_entry(usable), f"{_why(description.guesses[usable.name])}{how}", schema)


def _target_line(description: Description) -> Line:
    moments = description.roles.moments
    low, high = description.target_range_s
    schema = f"{{role: target, unit: s, range: [{low}, {high}], out_of_range: reject}}"
    told = "a guess" if moments.target_s is None else "P0.1 to P99.9 of what is above 0, rounded"
    if moments.target is None:
        return Line("pickup_time_s", "", "", schema, f"arrived_at - requested_at; {told}")
    unit = None if moments.target_unit == "s" and not moments.target.reading.needs_kind else moments.target_unit
    return Line(
        "pickup_time_s",
        _entry(moments.target.name, unit=unit),
        _why(description.guesses[moments.target.name]),
        schema,
        told,
    )


def _input_line(column: Column, guess: Guess, taken: set[str]) -> Line:
    if guess.role == "category":
        ours, entry = our_name(column.name, taken), _entry(column.name, kind="text")
        return Line(ours, entry, _why(guess), "{role: categorical}", f"{column.distinct:,} values{_missing(column)}")
    becomes, ending = BECOMES.get(column.unit or "", (column.unit or "1", ""))
    factor = UNITS[column.unit] if column.unit in BECOMES else 1.0
    is_converted = factor != 1
    ours = guess.role if guess.role in _PLACES else our_name(column.name, taken)
    if is_converted:
        ours = our_name(f"{without_unit(column.name)}_{ending}", taken)
    kind = "number" if column.reading.needs_kind and not is_converted else None
    entry = _entry(column.name, unit=column.unit if is_converted else None, kind=kind)
    low, high = range_of(column, factor)
    unit = '"1"' if becomes == "1" else quoted(becomes)
    schema = f"{{role: numeric, unit: {unit}, range: [{number_text(low)}, {number_text(high)}]}}"
    assert column.low is not None
    assert column.high is not None
    span = f"P0.1 {column.low * factor:.6g}, P99.9 {column.high * factor:.6g}{_missing(column)}"
    return Line(ours, entry, _why(guess), schema, span if column.unit else f"{span}; unit? the name does not say")


def _missing(column: Column) -> str:
    return f", {column.missing:.1%} missing" if column.missing > 0 else ""


def _why(guess: Guess) -> str:
    return f"{guess.sure}: {guess.why}"
