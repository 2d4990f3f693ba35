"""Which raw trips can be believed: rules in, clean trips and a report out.

    clean_trips, report = clean(raw.trips, schema, config.source.rules)

A source's yaml names its rules (`declared_rules.py`); missing values and every column's range are rules by themselves,
read from the schema. They look in this order:

- mends and flags of what came, one after the other: clocks, units, time zones
- a dropped row is counted once, under the first rule that catches it: selections, drops of what came, missing values,
  ranges of the inputs, the other declared drops in their order, the range of the target, duplicates
- values outside a range are mended before the other declared rules look: a driver at 0, 0 has no known place, and is
  not one who drove too fast

Everything here is written once for every engine (Narwhals): no index, no row order, no hash of an engine's own.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import narwhals as nw

from hailtime.errors import ConfigError, DataError
from hailtime.preparation.conform import AnyFrame, Kind, collected, conform, read_frame
from hailtime.preparation.declared_rules import read_rules
from hailtime.preparation.rules import KINDS, Check, Duplicate, Severity, missing_checks, range_checks, time_check
from hailtime.schema import MICROSECONDS_PER_SECOND, Column, Schema

ARRIVED_AT = "arrived_at"  # the raw column a missing target is computed from
_RULE, _ROWS = "_rule", "_rows"  # helper columns; a schema's columns cannot begin with an underscore


@dataclass(frozen=True)
class Finding:
    """What one rule caught: how many of the raw rows, and one of them with the values that broke the rule."""

    name: str
    kind: str
    severity: Severity
    meaning: str
    rows: int = 0
    share: float = 0.0
    example: dict[str, Any] | None = None


@dataclass(frozen=True)
class CleaningReport:
    """Rows in, rows out and what every rule did, also those that caught nothing."""

    rows_in: int
    rows_out: int
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for report.json."""
        return asdict(self)


def clean(
    trips: Any, schema: Schema, rules: Mapping[str, Mapping[str, Any]], keys: Iterable[str] = ()
) -> tuple[Any, CleaningReport]:
    """The trips that can be believed, in the caller's kind of frame, and what was done to the others.

    - trips: a raw table; where it has `arrived_at` and no target, the target is the seconds between the two
    - keys: further columns that joins need
    - the result holds the schema's columns without those of a condition, then the keys
    """
    declared, duplicates = read_rules(rules, schema)
    early, late = ([check for check in declared if check.is_early == is_early] for is_early in (True, False))
    selections = _of("select", declared)
    own = [column for column in schema.columns if column.condition is None]
    inputs = range_checks(column for column in own if column.role == "numeric")
    results = range_checks(column for column in own if column.role != "numeric")
    _check_names([*declared, *duplicates, *inputs, *results])

    frame, is_computed = _read_trips(read_frame(trips, "trips"), own, schema, [*declared, *duplicates], keys)
    frame, repaired = _mend_in_turn(frame, _asked_about(early, selections), schema)
    if is_computed:
        frame = _with_target(frame, schema)
    refused = [*selections, *_of("drop", early), *missing_checks(schema), time_check(schema), *_of("drop", inputs)]
    frame, unusable, rows_in = _drop_caught(frame, refused, schema)
    if rows_in == 0:
        raise DataError("there is no trip to clean: the table has 0 rows")
    frame = frame.with_columns(nw.col(schema.requested_at).cast(nw.Int64))
    frame, mended = _mend(frame, _of("mend", inputs), schema)
    frame, wrong, _ = _drop_caught(frame, [*_of("drop", late), *_of("drop", results)], schema)
    frame, mended_late = _mend_in_turn(frame, late, schema)
    frame, mended_results = _mend(frame, _of("mend", results), schema)
    repeated = []
    for duplicate in duplicates:
        frame, finding = _drop_duplicates(frame, duplicate, schema)
        repeated.append(finding)

    rows_out = rows_in - sum(finding.rows for finding in (*unusable, *wrong, *repeated))
    findings = [*unusable, *wrong, *repeated, *repaired, *mended, *mended_late, *mended_results]
    report = CleaningReport(rows_in, rows_out, _with_shares(findings, rows_in))
    _check_something_is_left(report)
    names = dict.fromkeys([*(column.name for column in own), *keys])
    return _to_native(frame.select(*names)), report


def mend_conditions(trips: Any, schema: Schema) -> tuple[Any, tuple[Finding, ...]]:
    """The same trips with the joined columns held to their ranges, for after the join."""
    frame = read_frame(trips, "joined trips")
    checks = range_checks(column for column in schema.columns if column.condition is not None)
    frame, dropped, rows = _drop_caught(frame, _of("drop", checks), schema)
    frame, mended = _mend(frame, _of("mend", checks), schema)
    return _to_native(frame), _with_shares([*dropped, *mended], rows)


def _of(severity: Severity, checks: Iterable[Check]) -> list[Check]:
    return [check for check in checks if check.severity == severity]


def _read_trips(
    frame: AnyFrame, own: Sequence[Column], schema: Schema, rules: Sequence[Check | Duplicate], keys: Iterable[str]
) -> tuple[AnyFrame, bool]:
    """The columns that the schema, the rules and the joins name, and whether the target is still to be computed."""
    kinds: dict[str, Kind] = {column.name: KINDS[column.role] for column in own}
    present = set(frame.collect_schema())
    is_computed = schema.target not in present and ARRIVED_AT in present
    if is_computed:
        del kinds[schema.target]
        kinds[ARRIVED_AT] = "time"
    for rule in rules:
        for name, kind in rule.reads.items():
            if kinds.get(name, "as_it_is") == "as_it_is":
                kinds[name] = kind
            elif kind not in (kinds[name], "as_it_is"):
                raise ConfigError(f"rule {rule.name} reads {name} as a {kind}, and another as a {kinds[name]}")
    kinds |= {key: "text" for key in keys if key not in kinds}
    return conform(frame, "trips", kinds), is_computed


def _with_target(frame: AnyFrame, schema: Schema) -> AnyFrame:
    """The seconds from request to arrival."""
    taken_us = nw.col(ARRIVED_AT).cast(nw.Float64) - nw.col(schema.requested_at).cast(nw.Float64)
    return frame.with_columns((taken_us / MICROSECONDS_PER_SECOND).alias(schema.target))


def _drop_caught(frame: AnyFrame, checks: Sequence[Check], schema: Schema) -> tuple[AnyFrame, list[Finding], int]:
    """The rows that no check catches, what each check caught first, and how many rows there were."""
    first_rule = nw.lit(-1)
    for place, check in reversed(list(enumerate(checks))):
        first_rule = nw.when(check.caught).then(nw.lit(place)).otherwise(first_rule)
    flagged = frame.with_columns(first_rule.alias(_RULE))
    counts = collected(flagged.group_by(_RULE).agg(nw.len().alias(_ROWS)))
    rows = dict(zip(counts[_RULE].to_list(), counts[_ROWS].to_list(), strict=True))
    findings = [
        _finding(check, int(rows.get(place, 0)), flagged.filter(nw.col(_RULE) == place), schema)
        for place, check in enumerate(checks)
    ]
    return flagged.filter(nw.col(_RULE) == -1).drop(_RULE), findings, int(sum(rows.values()))


def _drop_duplicates(frame: AnyFrame, rule: Duplicate, schema: Schema) -> tuple[AnyFrame, Finding]:
    """The earliest request of each group; ties fall by all other columns, so that row order decides nothing."""
    by = list(rule.by)
    names = list(frame.collect_schema())
    order = [schema.requested_at, *sorted(name for name in names if name != schema.requested_at)]
    # asked apart from the count: pandas groups no row whose key is missing
    has_no_key = nw.any_horizontal(*(nw.col(name).is_null() for name in by), ignore_nulls=True)
    keyed = frame.filter(~has_no_key).with_columns(nw.len().over(by).alias(_ROWS))
    alike = keyed.filter(nw.col(_ROWS) > 1).drop(_ROWS)
    rows = int(collected(alike.select(nw.len())).item())
    finding = Finding(rule.name, "duplicate", "drop", rule.meaning)
    if rows == 0:
        return frame, finding
    kept = alike.unique(by, keep="first", order_by=order)
    parts: list[Any] = [keyed.filter(nw.col(_ROWS) == 1).drop(_ROWS), frame.filter(has_no_key), kept]
    shown = dict.fromkeys([schema.id, *by, schema.requested_at])
    dropped = rows - int(collected(kept.select(nw.len())).item())
    example = _first_row(alike, list(shown))
    return nw.concat([part.select(*names) for part in parts]), replace(finding, rows=dropped, example=example)


def _asked_about(checks: Sequence[Check], selections: Sequence[Check]) -> list[Check]:
    """The checks without the rows that a selection takes out."""
    if not selections:
        return list(checks)
    is_left_out = nw.any_horizontal(*(selection.caught for selection in selections), ignore_nulls=True)
    return [replace(check, caught=check.caught & ~is_left_out) for check in checks]


def _mend_in_turn(frame: AnyFrame, checks: Sequence[Check], schema: Schema) -> tuple[AnyFrame, list[Finding]]:
    """Mends and flags one after the other: a time that one rule moves is the time that the next one judges."""
    findings: list[Finding] = []
    for check in checks:
        if check.severity in ("mend", "flag"):
            frame, found = _mend(frame, [check], schema)
            findings.extend(found)
    return frame, findings


def _mend(frame: AnyFrame, checks: Sequence[Check], schema: Schema) -> tuple[AnyFrame, list[Finding]]:
    """What mending and flagging rules caught, and the rows with other values where they mend."""
    if not checks:
        return frame, []
    counts = collected(frame.select(*(check.caught.cast(nw.Int64).sum().alias(check.name) for check in checks)))
    rows = {check.name: int(counts[check.name].item() or 0) for check in checks}
    findings = [_finding(check, rows[check.name], frame.filter(check.caught), schema) for check in checks]
    mended = {name: value for check in checks for name, value in check.mends.items()}
    return frame.with_columns(**mended), findings


def _finding(check: Check, rows: int, caught: AnyFrame, schema: Schema) -> Finding:
    shown = list(dict.fromkeys([schema.id, *check.columns]))
    example = _first_row(caught, shown) if rows else None
    return Finding(check.name, check.kind, check.severity, check.meaning, rows, example=example)


def _first_row(frame: AnyFrame, columns: list[str]) -> dict[str, Any]:
    """The smallest row: the same one in any engine and any row order."""
    row = collected(frame.select(*columns).sort(*columns).head(1))
    return {name: _plain(row[name].to_list()[0]) for name in columns}


def _plain(value: Any) -> Any:
    """A value JSON can hold; pandas shows a missing one as NaN."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)  # a time with gaps is a float in pandas
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _with_shares(findings: Sequence[Finding], rows: int) -> tuple[Finding, ...]:
    return tuple(replace(finding, share=finding.rows / max(rows, 1)) for finding in findings)


def _check_names(rules: Sequence[Check | Duplicate]) -> None:
    names = [rule.name for rule in rules]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"a rule needs a name of its own; {', '.join(sorted(twice))} is taken by the schema's rules")


def _check_something_is_left(report: CleaningReport) -> None:
    if report.rows_out > 0:
        return
    worst = max(report.findings, key=lambda finding: finding.rows)
    raise DataError(
        f"no trip is left after cleaning: {worst.rows} of {report.rows_in} fell to the rule {worst.name} "
        f"({worst.meaning}), for example {worst.example}"
    )


def _to_native(frame: AnyFrame) -> Any:
    return (nw.maybe_reset_index(frame) if isinstance(frame, nw.DataFrame) else frame).to_native()
