"""The rules that a source's yaml names: `name: {rule: kind, ..., severity: flag}`.

- `keep: {column, value}` or `{column, values}`: only these rows are asked about; the others are no fault
- `exclude: {column, value | values | prefix | pattern}`: test accounts; `pattern` is a regular expression
- `missing: {column}`: a value that is not given
- `range: {column, min, max}`: a value outside, also of a column that the schema lacks; mended: made missing
- `order: {first, then}`: the second time is before the first
- `speed: {max_mps}`: the schema's journey, as a great circle, was driven faster; mended: no driver's place is known
- `skew: {device, server, max_s, shift}`: two clocks tell one event further apart; mended: the times named in `shift`
  move by the difference
- `offset: {first, then, hours, max_s}`: `then` is one of `hours` off and less than max_s (3,600) after `first`: a local
  time written as UTC; mended: moved back
- `clock_change: {columns}`: a time lies in the hour that autumn repeats or where spring's skipped one is read
- `unit: {column, above | below, is | factor}`: a value is in another unit; mended: converted
- `duplicate: {by: [columns]}`: of rows alike in these columns the earliest request stays

A rule drops the row unless its `severity` says mend or flag; a flagged row stays as it is and is counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hailtime.errors import ConfigError, did_you_mean
from hailtime.preparation.rule_kinds import duplicate, exclude, in_range, keep, missing, speed, unit
from hailtime.preparation.rules import KINDS, Check, Duplicate, Severity
from hailtime.preparation.time_rule_kinds import clock_change, offset, order, skew
from hailtime.schema import Schema

_Build = Callable[[str, Mapping[str, Any], Schema, Severity], Check | Duplicate]


@dataclass(frozen=True)
class _RuleKind:
    """How a rule of a kind is made, the settings it needs and may have, and its severities, the usual one first."""

    build: _Build
    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = ("drop", "flag")

    @property
    def settings(self) -> tuple[str, ...]:
        return (*self.needed, *self.optional)


_MENDABLE: tuple[Severity, ...] = ("drop", "mend", "flag")
_RULES: dict[str, _RuleKind] = {
    "keep": _RuleKind(keep, (), ("column", "value", "values"), ("select",)),
    "exclude": _RuleKind(exclude, ("column",), ("value", "values", "prefix", "pattern")),
    "missing": _RuleKind(missing, ("column",)),
    "range": _RuleKind(in_range, ("column",), ("min", "max"), _MENDABLE),
    "order": _RuleKind(order, ("first", "then")),
    "speed": _RuleKind(speed, ("max_mps",), (), _MENDABLE),
    "skew": _RuleKind(skew, ("device", "server", "max_s"), ("shift",), _MENDABLE),
    "offset": _RuleKind(offset, ("first", "then", "hours"), ("max_s",), _MENDABLE),
    "clock_change": _RuleKind(clock_change, ("columns",)),
    "unit": _RuleKind(unit, ("column",), ("above", "below", "is", "factor"), _MENDABLE),
    "duplicate": _RuleKind(duplicate, ("by",), (), ("drop",)),
}


def read_rules(rules: Mapping[str, Mapping[str, Any]], schema: Schema) -> tuple[list[Check], list[Duplicate]]:
    """The declared rules: those of one row with selections first, and those that compare rows. ConfigError if wrong."""
    read = [_read_rule(name, entry, schema) for name, entry in rules.items()]
    checks = [rule for rule in read if isinstance(rule, Check)]
    duplicates = [rule for rule in read if isinstance(rule, Duplicate)]
    return sorted(checks, key=lambda check: check.severity != "select"), duplicates


def _read_rule(name: str, entry: Mapping[str, Any], schema: Schema) -> Check | Duplicate:
    if not isinstance(entry, Mapping) or "rule" not in entry:
        raise ConfigError(f"rule {name} needs an entry 'rule', one of {', '.join(sorted(_RULES))}; got {entry!r}")
    kind = str(entry["rule"])
    settings = {key: value for key, value in entry.items() if key not in ("rule", "severity")}
    if kind not in _RULES:
        raise ConfigError(f"rule {name}: there is no rule {kind!r}{did_you_mean(kind, _RULES)}")
    rule_kind = _RULES[kind]
    for key in settings:
        if key not in rule_kind.settings:
            raise ConfigError(f"rule {name}: {kind} has no setting {key!r}{did_you_mean(key, rule_kind.settings)}")
    for key in rule_kind.needed:
        if settings.get(key) is None:
            raise ConfigError(f"rule {name}: {kind} needs the setting {key!r}")
    severity = entry.get("severity", rule_kind.severities[0])
    if severity not in rule_kind.severities:
        possible = " or ".join(rule_kind.severities)
        raise ConfigError(f"rule {name}: the severity of {kind} is {possible}, got {severity!r}")
    rule = rule_kind.build(name, settings, schema, severity)
    _check_columns(rule, schema)
    return rule


def _check_columns(rule: Check | Duplicate, schema: Schema) -> None:
    """A column of a condition is not there yet when rules look, and one of the schema is read as it is declared."""
    names = dict.fromkeys([*rule.reads, *(rule.columns if isinstance(rule, Check) else ())])
    for column in (schema.by_name[name] for name in names if name in schema.by_name):
        if column.condition is not None:
            raise ConfigError(
                f"rule {rule.name} reads {column.name}, which is joined from {column.condition} after cleaning: "
                f"the schema's range and out_of_range hold such a column"
            )
        read, declared = rule.reads.get(column.name, "as_it_is"), KINDS[column.role]
        if read not in (declared, "as_it_is"):
            raise ConfigError(f"rule {rule.name} reads {column.name} as a {read}, and it is declared as a {declared}")
