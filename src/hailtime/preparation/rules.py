"""What a rule is, and the rules that a source's schema implies: missing values, times of another age, ranges.

Rules of a source's own are in `declared_rules.py`. A rule of one row is written once as a Narwhals expression that is
true where a row is caught, and never null; so every engine catches the same rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import narwhals as nw

from hailtime.preparation.conform import Kind
from hailtime.schema import MICROSECONDS_PER_SECOND, Column, Schema

# select: the row is not asked about; drop: it goes; mend: it stays with another value; flag: it stays as it is, counted
Severity = Literal["select", "drop", "mend", "flag"]

KINDS: dict[str, Kind] = {  # how a column of a role is read
    "id": "text",
    "requested_at": "time",
    "numeric": "number",
    "categorical": "text",
    "target": "number",
    "truth": "number",
}

# a time outside these years is a time in another unit or a clock that was never set
FIRST_YEAR, LAST_YEAR = 2000, 2100


@dataclass(frozen=True)
class Check:
    """A rule that looks at one row: `caught` is true where the row breaks it; `columns` are shown in the example.

    - reads: columns of the raw table beside the schema's
    - mends: by column its values afterwards, in all rows; only where the severity is mend
    - is_early: it judges what came, before the target is computed and values are held to their ranges
    """

    name: str
    kind: str
    severity: Severity
    columns: tuple[str, ...]
    caught: nw.Expr
    meaning: str
    reads: Mapping[str, Kind] = field(default_factory=dict)
    mends: Mapping[str, nw.Expr] = field(default_factory=dict)
    is_early: bool = False


@dataclass(frozen=True)
class Duplicate:
    """Rows alike in the columns `by` are one request; a row without a value in any of them is never a duplicate."""

    name: str
    by: tuple[str, ...]
    reads: Mapping[str, Kind]
    severity: Severity = "drop"

    @property
    def meaning(self) -> str:
        return f"the same {' and '.join(self.by)} again: the earliest is kept"


def implied_names(schema: Schema) -> list[str]:
    """The names of all rules that a schema implies."""
    checks = [*missing_checks(schema), time_check(schema), *range_checks(schema.columns)]
    return [check.name for check in checks]


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
        int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * MICROSECONDS_PER_SECOND for year in (FIRST_YEAR, LAST_YEAR)
    )
    meaning = f"{name} is not in the years {FIRST_YEAR} to {LAST_YEAR}, read as microseconds since 1970 UTC"
    return Check(f"range_{name}", "range", "drop", (name,), outside(name, first, last), meaning)


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
    caught = outside(column.name, column.minimum, column.maximum)
    is_clipped = column.out_of_range == "clip"
    mended = nw.col(column.name).clip(column.minimum, column.maximum) if is_clipped else without(column.name, caught)
    return Check(
        name=f"range_{column.name}",
        kind="range",
        severity="drop" if is_dropped else "mend",
        columns=(column.name,),
        caught=caught,
        meaning=f"{column.name} is outside {column.range_text}: {fate}",
        mends={} if is_dropped else {column.name: mended},
    )


def outside(name: str, low: float | None, high: float | None) -> nw.Expr:
    """True where a value is below `low` or above `high`."""
    caught = nw.lit(False)
    if low is not None:
        caught = caught | (nw.col(name) < low).fill_null(False)
    if high is not None:
        caught = caught | (nw.col(name) > high).fill_null(False)
    return caught


def without(name: str, caught: nw.Expr) -> nw.Expr:
    """The column with the caught values made missing."""
    return nw.when(~caught).then(nw.col(name))
