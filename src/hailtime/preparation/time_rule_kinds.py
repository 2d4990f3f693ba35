"""How each kind of declared rule about times catches a row: order, clock skew, hours off, changes of the clock.

As in `rule_kinds.py`, a function a kind. Times are microseconds since 1970 UTC.
"""

from itertools import pairwise

import narwhals as nw

from hailtime.errors import ConfigError
from hailtime.preparation.clock_changes import HALF_HOUR_US, doubtful_half_hours
from hailtime.preparation.conform import Kind
from hailtime.preparation.rule_settings import Settings, read_number, read_two_times
from hailtime.preparation.rules import FIRST_YEAR, LAST_YEAR, Check, Severity
from hailtime.schema import MICROSECONDS_PER_SECOND, Schema

_HOUR_US = 3600 * MICROSECONDS_PER_SECOND
_MOST_HOURS = 14  # of a clock from UTC, Kiribati's


def order(name: str, settings: Settings, schema: Schema, severity: Severity) -> Check:
    first, then = read_two_times(name, settings, "first", "then")
    caught = (nw.col(then) < nw.col(first)).fill_null(False)
    reads: dict[str, Kind] = {first: "time", then: "time"}
    return Check(name, "order", severity, (first, then), caught, f"{then} is before {first}", reads)


def skew(name: str, settings: Settings, schema: Schema, severity: Severity) -> Check:
    device, server = read_two_times(name, settings, "device", "server")
    max_s, shift = read_number(name, settings, "max_s"), list(settings.get("shift") or [])
    if max_s is None or max_s <= 0:
        raise ConfigError(f"rule {name}: max_s must be seconds above 0, got {max_s}")
    if bool(shift) != (severity == "mend") or not all(isinstance(column, str) for column in shift):
        raise ConfigError(f"rule {name}: shift names the times to move when the severity is mend, and only then")
    ahead_us = nw.col(device) - nw.col(server)
    caught = (ahead_us.abs() > max_s * MICROSECONDS_PER_SECOND).fill_null(False)
    reads: dict[str, Kind] = dict.fromkeys([device, server, *shift], "time")
    mends = {column: _moved(column, caught, ahead_us) for column in shift}
    sequel = f": {' and '.join(shift)} moved by as much" if shift else ""
    meaning = f"{device} and {server} are more than {max_s:g} s apart{sequel}"
    return Check(name, "skew", severity, tuple(reads), caught, meaning, reads, mends, is_early=True)


def offset(name: str, settings: Settings, schema: Schema, severity: Severity) -> Check:
    first, then = read_two_times(name, settings, "first", "then")
    hours, max_s = _read_hours(name, settings), read_number(name, settings, "max_s", 3600.0)
    if max_s is None or not 0 < max_s <= 3600:
        raise ConfigError(f"rule {name}: max_s must be 0 to 3600 s, else a whole hour says nothing, got {max_s}")
    taken_us = nw.col(then) - nw.col(first)
    caught, moved = nw.lit(False), nw.col(then)
    for hour in hours:
        off_us = round(hour * _HOUR_US)
        late_us = taken_us - off_us
        is_off = ((late_us >= 0) & (late_us < max_s * MICROSECONDS_PER_SECOND)).fill_null(False)
        caught, moved = caught | is_off, nw.when(is_off).then(nw.col(then) - off_us).otherwise(moved)
    meaning = f"{then} is {' or '.join(f'{hour:+g}' for hour in hours)} h and less than {max_s:g} s after {first}"
    if severity == "mend":
        meaning += ": moved back"
    reads: dict[str, Kind] = {first: "time", then: "time"}
    mends = {then: moved} if severity == "mend" else {}
    return Check(name, "offset", severity, (first, then), caught, meaning, reads, mends, is_early=True)


def clock_change(name: str, settings: Settings, schema: Schema, severity: Severity) -> Check:
    columns = settings["columns"]
    if isinstance(columns, str) or not all(isinstance(column, str) for column in columns) or not columns:
        raise ConfigError(f"rule {name}: columns must be a list of times such as [{schema.requested_at}]")
    doubtful = list(doubtful_half_hours(schema.timezone, FIRST_YEAR, LAST_YEAR))
    caught = nw.lit(False)
    for column in columns:
        caught = caught | (nw.col(column) // HALF_HOUR_US).is_in(doubtful).fill_null(False)
    meaning = f"{' or '.join(columns)} is in an hour that {schema.timezone} had twice or not at all"
    reads: dict[str, Kind] = dict.fromkeys(columns, "time")
    return Check(name, "clock_change", severity, tuple(columns), caught, meaning, reads, is_early=True)


def _moved(column: str, caught: nw.Expr, back_us: nw.Expr) -> nw.Expr:
    return nw.when(caught).then(nw.col(column) - back_us).otherwise(nw.col(column))


def _read_hours(name: str, settings: Settings) -> list[float]:
    hours = settings["hours"]
    hours = list(hours) if isinstance(hours, list | tuple) else [hours]
    if not all(isinstance(h, int | float) and not isinstance(h, bool) and 0 < abs(h) <= _MOST_HOURS for h in hours):
        raise ConfigError(f"rule {name}: hours must be offsets such as [-5, -4], none of them 0, got {hours}")
    spread = sorted(hours)
    if not hours or any(later - earlier < 1 for earlier, later in pairwise(spread)):
        raise ConfigError(f"rule {name}: hours must be an hour or more apart, got {hours}")
    return hours
