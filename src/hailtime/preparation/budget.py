"""How much of the raw data a rule may touch: past its budget, preparation stops before anything is replaced.

    budget:
      default: 0.03 # of every rule that drops or mends
      range_pickup_lat: 0.10

A share is of the raw rows. A selection is no fault and a flag changes nothing: they have a budget only where they are
named. Without an entry `budget` there is none.
"""

import math
from collections.abc import Mapping
from typing import Any

from hailtime.errors import ConfigError, DataError, did_you_mean
from hailtime.preparation.declared_rules import read_rules
from hailtime.preparation.findings import CleaningReport, Finding
from hailtime.preparation.rules import implied_names
from hailtime.schema import Schema

DEFAULT = "default"


def read_budget(settings: Mapping[str, Any], schema: Schema) -> dict[str, float]:
    """The limits by rule, `default` among them, from a source's settings. ConfigError for a rule there is not."""
    budget = settings.get("budget") or {}
    checks, duplicates = read_rules(settings.get("rules") or {}, schema)
    known = {DEFAULT, *implied_names(schema), *(check.name for check in checks), *(rule.name for rule in duplicates)}
    for name, limit in budget.items():
        if name not in known:
            raise ConfigError(f"budget: there is no rule {name!r}{did_you_mean(str(name), known)}")
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= 1:
            raise ConfigError(f"budget.{name} must be a share of the raw rows from 0 to 1, got {limit!r}")
    return {name: float(limit) for name, limit in budget.items()}


def limit_of(finding: Mapping[str, Any], budget: Mapping[str, float]) -> float | None:
    """The share of the raw rows that a rule may touch, or None for any."""
    is_named_only = finding["severity"] in ("select", "flag")
    return budget.get(finding["name"], None if is_named_only else budget.get(DEFAULT))


def check_budget(report: CleaningReport, budget: Mapping[str, float]) -> None:
    """DataError naming every rule that touched more than it may, with an example and the way out."""
    over = [(finding, limit) for finding in report.findings if (limit := _passed(finding, budget)) is not None]
    if over:
        raise DataError("; ".join(_told(finding, limit, report.rows_in, budget) for finding, limit in over))


def _passed(finding: Finding, budget: Mapping[str, float]) -> float | None:
    limit = limit_of({"name": finding.name, "severity": finding.severity}, budget)
    return limit if limit is not None and finding.share > limit else None


def _told(finding: Finding, limit: float, rows_in: int, budget: Mapping[str, float]) -> str:
    did = {"drop": "dropped", "mend": "mended", "flag": "flagged", "select": "left out"}[finding.severity]
    add = "" if finding.name in budget else "+"  # Hydra's word for a setting that the yaml does not have
    enough = min(1.0, math.ceil(finding.share * 110) / 100)  # a tenth more, in whole percent
    return (
        f"the rule {finding.name} {did} {finding.share:.2%} of {rows_in:,} raw trips, its budget is {limit:.2%} "
        f"({finding.meaning}), for example {finding.example}: mend the source, or allow it with "
        f"{add}source.budget.{finding.name}={enough:.2f}"
    )
