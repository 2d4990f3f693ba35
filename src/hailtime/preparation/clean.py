"""Which raw trips can be believed: rules in, clean trips and a report out.

    clean_trips, report = clean(raw.trips, schema, config.source.rules)

A source's yaml names its rules (`declared_rules.py`); missing values and every column's range are rules by themselves,
read from the schema. A row is counted once, under the first rule that catches it: selections, drops of what came,
missing values, ranges of the inputs, the other declared rules in their order, the range of the target, duplicates. What
came is mended before all of them, one rule after the other: clocks, time zones, units. Values outside a range are
mended before the other declared rules look: a driver at 0, 0 has no known place, and is not one who drove too fast.

`clean_rows` looks at every row by itself, so a table may come to it in pieces whose findings are added up
(`findings.add_findings`); `drop_duplicates` must see all rows that are alike at once.

Everything here is written once for every engine (Narwhals): no index, no row order, no hash of an engine's own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import narwhals as nw

from hailtime.errors import ConfigError
from hailtime.preparation.conform import AnyFrame, Kind, collected, conform, kept, read_frame
from hailtime.preparation.declared_rules import read_rules
from hailtime.preparation.findings import CleaningReport, Finding, finding_of, first_row, shown_columns
from hailtime.preparation.rules import KINDS, Check, Duplicate, Severity, missing_checks, range_checks, time_check
from hailtime.schema import MICROSECONDS_PER_SECOND, Column, Schema

ARRIVED_AT = "arrived_at"  # the raw column a missing target is computed from
_RULE, _ROWS = "_rule", "_rows"  # helper columns; a schema's columns cannot begin with an underscore
_GOOD = -1  # in the helper column: no rule caught the row


@dataclass(frozen=True)
class CleaningPlan:
    """All rules of a source in the order in which they look at a row; `columns` is what comes out.

    What came is mended or flagged (`early`) before all else, and inputs are judged and mended by their own ranges
    before the other declared rules look at them.
    """

    schema: Schema
    kinds: Mapping[str, Kind]  # of every raw column that is read
    columns: tuple[str, ...]
    selections: tuple[Check, ...]
    early: tuple[Check, ...]
    before: tuple[Check, ...]
    mend_inputs: tuple[Check, ...]
    after: tuple[Check, ...]
    late: tuple[Check, ...]
    mend_results: tuple[Check, ...]
    duplicates: tuple[Duplicate, ...]


def cleaning_plan(schema: Schema, rules: Mapping[str, Mapping[str, Any]], keys: Iterable[str] = ()) -> CleaningPlan:
    """The declared rules and those of the schema. `keys` are further columns that joins need. ConfigError if wrong."""
    keys = tuple(keys)
    declared, duplicates = read_rules(rules, schema)
    early, late = ([check for check in declared if check.is_early == is_early] for is_early in (True, False))
    own = [column for column in schema.columns if column.condition is None]
    inputs = range_checks(column for column in own if column.role == "numeric")
    results = range_checks(column for column in own if column.role != "numeric")
    _check_names([*declared, *duplicates, *inputs, *results])
    return CleaningPlan(
        schema=schema,
        kinds=_kinds(own, [*declared, *duplicates], keys),
        columns=tuple(dict.fromkeys([*(column.name for column in own), *keys])),
        selections=tuple(_of("select", declared)),
        early=tuple(check for check in early if check.severity != "drop"),
        before=(*_of("drop", early), *missing_checks(schema), time_check(schema), *_of("drop", inputs)),
        mend_inputs=tuple(_of("mend", inputs)),
        after=(*_of("drop", late), *_of("drop", results)),
        late=tuple(check for check in late if check.severity in ("mend", "flag")),
        mend_results=tuple(_of("mend", results)),
        duplicates=tuple(duplicates),
    )


def clean(
    trips: Any, schema: Schema, rules: Mapping[str, Mapping[str, Any]], keys: Iterable[str] = ()
) -> tuple[Any, CleaningReport]:
    """The trips that can be believed, in the caller's kind of frame, and what was done to the others.

    - trips: a raw table; where it has `arrived_at` and no target, the target is the seconds between the two
    - keys: further columns that joins need
    - the result holds the schema's columns without those of a condition, then the keys
    """
    plan = cleaning_plan(schema, rules, keys)
    rows, findings, rows_in = clean_rows(trips, plan)
    rows, repeated = drop_duplicates(rows, plan)
    frame = read_frame(rows, "clean trips").select(*plan.columns)
    return _to_native(frame), CleaningReport.of(rows_in, [*findings, *repeated])


def clean_rows(trips: Any, plan: CleaningPlan) -> tuple[Any, list[Finding], int]:
    """The rows that no rule of one row catches, what every such rule caught, and how many rows there were.

    The result is in the caller's kind of frame and still holds what duplicates are told by. Shares are not filled in.
    """
    frame, is_computed = _read_trips(read_frame(trips, "trips"), plan)
    frame, repaired = _mend_in_turn(frame, plan.early, plan)
    if is_computed:
        frame = _with_target(frame, plan.schema)
    before = (*plan.selections, *plan.before)
    frame = frame.with_columns(_first_caught(before, nw.lit(_GOOD), 0).alias(_RULE))
    frame, mended = _mend(frame, plan.mend_inputs, plan.schema)
    frame = frame.with_columns(_first_caught(plan.after, nw.col(_RULE), len(before)).alias(_RULE))
    frame, mended_late = _mend_in_turn(frame, plan.late, plan)
    frame, mended_results = _mend(frame, plan.mend_results, plan.schema)
    findings, rows_in = _count_caught(frame, [*before, *plan.after], plan.schema)
    told_by = (name for rule in plan.duplicates for name in rule.by)
    good = frame.select(_RULE, *dict.fromkeys([*plan.columns, *told_by])).filter(nw.col(_RULE) == _GOOD).drop(_RULE)
    good = good.with_columns(nw.col(plan.schema.requested_at).cast(nw.Int64))
    return _to_native(good), [*findings, *repaired, *mended, *mended_late, *mended_results], rows_in


def drop_duplicates(rows: Any, plan: CleaningPlan) -> tuple[Any, list[Finding]]:
    """Of rows alike the earliest request, rule by rule, in the caller's kind of frame; shares are not filled in."""
    frame = read_frame(rows, "trips")
    findings = []
    for rule in plan.duplicates:
        frame, finding = _drop_duplicates(frame, rule, plan.schema)
        findings.append(finding)
    return _to_native(frame), findings


def mend_conditions(trips: Any, schema: Schema) -> tuple[Any, list[Finding]]:
    """The same trips with the joined columns held to their ranges, for after the join; shares are not filled in."""
    checks = range_checks(column for column in schema.columns if column.condition is not None)
    drops = _of("drop", checks)
    frame = read_frame(trips, "joined trips").with_columns(_first_caught(drops, nw.lit(_GOOD), 0).alias(_RULE))
    frame, mended = _mend(frame, _of("mend", checks), schema)
    dropped = _count_caught(frame, drops, schema)[0] if drops else []
    return _to_native(frame.filter(nw.col(_RULE) == _GOOD).drop(_RULE)), [*dropped, *mended]


def _of(severity: Severity, checks: Iterable[Check]) -> list[Check]:
    return [check for check in checks if check.severity == severity]


def _kinds(own: Sequence[Column], rules: Sequence[Check | Duplicate], keys: Iterable[str]) -> dict[str, Kind]:
    """What every column is read as that the schema, the rules and the joins name."""
    kinds: dict[str, Kind] = {column.name: KINDS[column.role] for column in own}
    for rule in rules:
        for name, kind in rule.reads.items():
            if kinds.get(name, "as_it_is") == "as_it_is":
                kinds[name] = kind
            elif kind not in (kinds[name], "as_it_is"):
                raise ConfigError(f"rule {rule.name} reads {name} as a {kind}, and another as a {kinds[name]}")
    return kinds | {key: "text" for key in keys if key not in kinds}


def _read_trips(frame: AnyFrame, plan: CleaningPlan) -> tuple[AnyFrame, bool]:
    """The columns that the plan reads, and whether the target is still to be computed."""
    schema, kinds = plan.schema, dict(plan.kinds)
    present = set(frame.collect_schema())
    is_computed = schema.target not in present and ARRIVED_AT in present
    if is_computed:
        del kinds[schema.target]
        kinds[ARRIVED_AT] = "time"
    return conform(frame, "trips", kinds), is_computed


def _with_target(frame: AnyFrame, schema: Schema) -> AnyFrame:
    """The seconds from request to arrival."""
    taken_us = nw.col(ARRIVED_AT).cast(nw.Float64) - nw.col(schema.requested_at).cast(nw.Float64)
    return frame.with_columns((taken_us / MICROSECONDS_PER_SECOND).alias(schema.target))


def _first_caught(checks: Sequence[Check], before: nw.Expr, first: int) -> nw.Expr:
    """The place of the first rule that catches a row, counted from `first`; a row caught `before` keeps its rule."""
    rule = before
    for place, check in reversed(list(enumerate(checks, first))):
        rule = nw.when(check.caught).then(nw.lit(place)).otherwise(rule)
    return nw.when(before != _GOOD).then(before).otherwise(rule) if first else rule


def _count_caught(frame: AnyFrame, checks: Sequence[Check], schema: Schema) -> tuple[list[Finding], int]:
    """What each rule caught first, by the places in `_RULE`, and how many rows there are."""
    caught = kept(frame.select(_RULE, *shown_columns(checks, schema)).filter(nw.col(_RULE) != _GOOD))
    counts = collected(caught.group_by(_RULE).agg(nw.len().alias(_ROWS)))
    rows = dict(zip(counts[_RULE].to_list(), counts[_ROWS].to_list(), strict=True))
    findings = [
        finding_of(check, int(rows.get(place, 0)), caught, nw.col(_RULE) == place, schema)
        for place, check in enumerate(checks)
    ]
    return findings, int(collected(frame.select(nw.len())).item())


def _drop_duplicates(frame: AnyFrame, rule: Duplicate, schema: Schema) -> tuple[AnyFrame, Finding]:
    """The earliest request of each group; ties fall by all other columns, so that row order decides nothing."""
    by = list(rule.by)
    names = list(frame.collect_schema())
    order = [schema.requested_at, *sorted(name for name in names if name != schema.requested_at)]
    # asked apart from the count: pandas groups no row whose key is missing
    has_no_key = nw.any_horizontal(*(nw.col(name).is_null() for name in by), ignore_nulls=True)
    counted = frame.select(*by).filter(~has_no_key).with_columns(nw.len().over(by).alias(_ROWS))
    # a few keys: only their rows are moved about and sorted
    repeated: Any = kept(counted.filter(nw.col(_ROWS) > 1).unique(by))
    sizes = collected(repeated.select(nw.len().alias(_RULE), nw.col(_ROWS).sum()))
    n_kept, n_alike = int(sizes[_RULE].item()), int(sizes[_ROWS].item() or 0)
    finding = Finding(rule.name, "duplicate", "drop", rule.meaning)
    if n_kept == 0:
        return frame, finding
    marked = frame.join(repeated, on=by, how="left")
    alike = marked.filter(~nw.col(_ROWS).is_null())
    parts: list[Any] = [marked.filter(nw.col(_ROWS).is_null()), alike.unique(by, keep="first", order_by=order)]
    example = first_row(alike, list(dict.fromkeys([schema.id, *by, schema.requested_at])))
    return nw.concat([part.select(*names) for part in parts]), replace(finding, rows=n_alike - n_kept, example=example)


def _mend_in_turn(frame: AnyFrame, checks: Sequence[Check], plan: CleaningPlan) -> tuple[AnyFrame, list[Finding]]:
    """Mends and flags one after the other: a time that one rule moves is the time that the next one judges.

    Before any rule has looked, all rows are good but those that are not asked about.
    """
    findings: list[Finding] = []
    if checks and _RULE not in frame.collect_schema():
        frame = frame.with_columns(_first_caught(plan.selections, nw.lit(_GOOD), 0).alias(_RULE))
    for check in checks:
        frame, found = _mend(frame, [check], plan.schema)
        findings.extend(found)
    return frame, findings


def _mend(frame: AnyFrame, checks: Sequence[Check], schema: Schema) -> tuple[AnyFrame, list[Finding]]:
    """The mends and flags of checks that do not touch each other, counted in rows that are still good."""
    if not checks:
        return frame, []
    masks = {f"_{check.name}": check.caught for check in checks}
    marked = frame.select(_RULE, *shown_columns(checks, schema), **masks)
    caught = kept(marked.filter(nw.any_horizontal(*masks, ignore_nulls=True)))  # a few rows, and all else is of them
    counts = _sums(caught.filter(nw.col(_RULE) == _GOOD), masks)
    findings = [
        finding_of(check, counts[mask], caught, nw.col(mask) & (nw.col(_RULE) == _GOOD), schema)
        for check, mask in zip(checks, masks, strict=True)
    ]
    touched = _sums(caught, masks)
    touching = [check for check, mask in zip(checks, masks, strict=True) if touched[mask]]
    mended = {name: values for check in touching for name, values in check.mends.items()}
    return frame.with_columns(**mended) if mended else frame, findings


def _sums(frame: AnyFrame, masks: Iterable[str]) -> dict[str, int]:
    """How many rows each of the masks is true for."""
    sums = collected(frame.select(nw.col(*masks).cast(nw.Int64).sum()))
    return {mask: int(sums[mask].item() or 0) for mask in masks}


def _check_names(rules: Sequence[Check | Duplicate]) -> None:
    names = [rule.name for rule in rules]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"a rule needs a name of its own; {', '.join(sorted(twice))} is taken by the schema's rules")


def _to_native(frame: AnyFrame) -> Any:
    return (nw.maybe_reset_index(frame) if isinstance(frame, nw.DataFrame) else frame).to_native()
