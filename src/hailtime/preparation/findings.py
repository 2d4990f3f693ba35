"""What cleaning found: rules with the rows that they caught and one example each, added up over a table's blocks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import narwhals as nw

from hailtime.errors import DataError
from hailtime.preparation.conform import AnyFrame, collected
from hailtime.preparation.rules import Check, Severity
from hailtime.schema import Schema


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

    @classmethod
    def of(cls, rows_in: int, findings: Iterable[Finding]) -> "CleaningReport":
        """The findings with their shares of the raw rows, what drops rows first. DataError when no row is left."""
        shared = [replace(finding, share=finding.rows / max(rows_in, 1)) for finding in findings]
        drops = [finding for finding in shared if finding.severity in ("select", "drop")]
        rest = [finding for finding in shared if finding.severity not in ("select", "drop")]
        report = cls(rows_in, rows_in - sum(finding.rows for finding in drops), (*drops, *rest))
        _check_something_is_left(report)
        return report

    def to_dict(self) -> dict[str, Any]:
        """Plain data for report.json."""
        return asdict(self)


def add_findings(some: Sequence[Finding], more: Sequence[Finding]) -> list[Finding]:
    """Findings of the same rules over two pieces of a table: rows added, the smaller example kept."""
    if not some:
        return list(more)
    return [
        replace(a, rows=a.rows + b.rows, example=_smaller(a.example, b.example))
        for a, b in zip(some, more, strict=True)
    ]


def finding_of(check: Check, rows: int, frame: AnyFrame, caught: nw.Expr, schema: Schema) -> Finding:
    """What a check caught: `rows` of the frame, and of those where `caught` is true the first."""
    example = first_row(frame.filter(caught), shown_columns([check], schema)) if rows else None
    return Finding(check.name, check.kind, check.severity, check.meaning, rows, example=example)


def shown_columns(checks: Sequence[Check], schema: Schema) -> list[str]:
    """The columns that examples are made of."""
    return list(dict.fromkeys([schema.id, *(name for check in checks for name in check.columns)]))


def first_row(frame: AnyFrame, columns: list[str]) -> dict[str, Any]:
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


def _smaller(a: dict[str, Any] | None, b: dict[str, Any] | None) -> dict[str, Any] | None:
    """Of two examples the one that would come first in a table sorted by their columns, as in `first_row`."""
    if a is None or b is None:
        return a or b
    return min(a, b, key=lambda example: [(value is not None, value) for value in example.values()])


def _check_something_is_left(report: CleaningReport) -> None:
    if report.rows_in == 0:
        raise DataError("there is no trip to clean: the table has 0 rows")
    if report.rows_out > 0:
        return
    worst = max(report.findings, key=lambda finding: finding.rows)
    raise DataError(
        f"no trip is left after cleaning: {worst.rows} of {report.rows_in} fell to the rule {worst.name} "
        f"({worst.meaning}), for example {worst.example}"
    )
