"""What a report says about whether its data can be trusted, in words made from its numbers.

`Remark.level` is good, note (look at it) or bad (do not train on this without knowing why).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hailtime.preparation.budget import limit_of

Report = Mapping[str, Any]
Level = Literal["good", "note", "bad"]

_KEPT = 0.90  # of the trips asked about; fewer is another data set
_HIT = 0.95
_MISSING = 0.10
_DRIFT = 0.25  # PSI that is commonly called another distribution
_NEAR_BUDGET = 0.8


@dataclass(frozen=True)
class Remark:
    level: Level
    text: str


def headline(report: Report) -> str:
    """`301,847 raw trips, 97.0 % kept; largest loss: arrived_before_asked, 1.78 %; no leakage suspected.`"""
    clean = report["clean"]
    asked = asked_about(report)
    parts = [f"{clean['rows_in']:,} raw trips, {clean['rows_out'] / max(asked, 1):.1%} kept"]
    if asked < clean["rows_in"]:
        parts[0] = (
            f"{clean['rows_in']:,} raw trips, {asked:,} asked about, {clean['rows_out'] / max(asked, 1):.1%} kept"
        )
    drops = [finding for finding in clean["findings"] if finding["severity"] == "drop" and finding["rows"]]
    if drops:
        worst = max(drops, key=lambda finding: finding["rows"])
        parts.append(f"largest loss: {worst['name']}, {worst['share']:.2%}")
    parts.append(_leakage_words(report))
    return "; ".join(parts) + "."


def remarks(report: Report) -> list[Remark]:
    """All that a reader should know before the pictures, the worst first."""
    found = [
        *_kept(report),
        *_budgets(report),
        *_leakage(report),
        *_conditions(report),
        *_missing(report),
        *_target(report),
        *_drift(report),
        *_days(report),
    ]
    return sorted(found, key=lambda remark: ("bad", "note", "good").index(remark.level))


def asked_about(report: Report) -> int:
    """The raw rows that no selection leaves out."""
    left_out = sum(f["rows"] for f in report["clean"]["findings"] if f["severity"] == "select")
    return int(report["clean"]["rows_in"]) - int(left_out)


def _kept(report: Report) -> Iterator[Remark]:
    share = report["clean"]["rows_out"] / max(asked_about(report), 1)
    level: Level = "good" if share >= _KEPT else "bad"
    yield Remark(level, f"{share:.1%} of the trips asked about can be believed.")


def _budgets(report: Report) -> Iterator[Remark]:
    budget = report["settings"].get("budget") or {}
    if not budget:
        yield Remark("note", "No rule has a budget: a feed that breaks tomorrow would be cleaned in silence.")
        return
    used = [(f, limit) for f in report["clean"]["findings"] if (limit := limit_of(f, budget))]
    near = [(f, limit) for f, limit in used if f["share"] > _NEAR_BUDGET * limit]
    for finding, limit in near:
        level: Level = "bad" if finding["share"] > limit else "note"
        yield Remark(level, f"{finding['name']} has used {finding['share']:.2%} of its budget of {limit:.2%}.")
    if not near:
        yield Remark("good", f"Every rule is well within its budget ({len(used)} rules).")


def _leakage_words(report: Report) -> str:
    leakage = report.get("leakage")
    if not leakage or not leakage["columns"]:
        return "leakage not checked"
    suspected = dict.fromkeys(
        one["column"] + (" (allowed)" if one["is_allowed"] else "") for one in leakage["suspicions"]
    )
    return f"leakage suspected in {', '.join(suspected)}" if suspected else "no leakage suspected"


def _leakage(report: Report) -> Iterator[Remark]:
    leakage = report.get("leakage")
    if not leakage or not leakage["columns"]:
        yield Remark("note", "Leakage was not checked: too few rows.")
        return
    for one in leakage["suspicions"]:
        allowed = " It is allowed by the settings." if one["is_allowed"] else ""
        yield Remark("note" if one["is_allowed"] else "bad", f"{one['meaning']}.{allowed}")
    if not leakage["suspicions"]:
        n_columns = len(leakage["columns"])
        yield Remark("good", f"No input knows more than was known at the request ({n_columns} checked, each alone).")


def _conditions(report: Report) -> Iterator[Remark]:
    shares = report["conditions"]
    for table, share in shares.items():
        if share < _HIT:
            yield Remark("note", f"{table} was known for only {share:.1%} of the requests.")
    known = [f"{table} {share:.1%}" for table, share in shares.items() if share >= _HIT]
    if known:
        yield Remark("good", f"Known at the request: {', '.join(known)}.")


def _missing(report: Report) -> Iterator[Remark]:
    shares = {name: by_part["train"] for name, by_part in report["profile"]["missing"].items()}
    often = {name: share for name, share in shares.items() if share > _MISSING}
    for name, share in sorted(often.items(), key=lambda item: -item[1])[:3]:
        yield Remark("note", f"{name} is missing in {share:.1%} of the training rows.")
    if not often:
        yield Remark("good", f"No column is missing in more than {_MISSING:.0%} of the training rows.")


def _target(report: Report) -> Iterator[Remark]:
    target = target_of(report)
    figures = report["profile"]["numbers"].get(target, {}).get("figures", {})
    if {"train", "test"} <= figures.keys():
        train, test = figures["train"]["p50"], figures["test"]["p50"]
        change = test / train - 1 if train else 0.0
        words = f"The median {target} is {test:,.0f} in test and {train:,.0f} in training ({change:+.1%})."
        yield Remark("good" if abs(change) < 0.1 else "note", words)


def _drift(report: Report) -> Iterator[Remark]:
    drifts = {name: column["drift"] or 0.0 for name, column in columns_of(report).items()}
    far = sorted((name for name, psi in drifts.items() if psi > _DRIFT), key=lambda name: -drifts[name])
    if far:
        shown = ", ".join(f"{name} (PSI {drifts[name]:.2f})" for name in far[:4])
        more = f" and {len(far) - 4} more" if len(far) > 4 else ""
        yield Remark("note", f"Test is not like training in {shown}{more}: expected of seasons, else worth a look.")
    elif drifts:
        worst = max(drifts, key=lambda name: drifts[name])
        yield Remark("good", f"Test looks like training; most different is {worst} (PSI {drifts[worst]:.2f}).")
    for name, column in report["profile"]["texts"].items():
        if column["new_in_test"]:
            yield Remark("note", f"{name} has {column['new_in_test']:,} values in test that training never saw.")


def _days(report: Report) -> Iterator[Remark]:
    """Days without any request; those that a gap of the split covers whole are among them."""
    counts = report["profile"]["days"]["counts"].values()
    totals = [sum(day) for day in zip(*counts, strict=True)]
    n_empty = sum(1 for total in totals if total == 0)
    if n_empty:
        days = "1 day has" if n_empty == 1 else f"{n_empty} days have"
        yield Remark("note", f"{days} no request between the first and the last.")


def columns_of(report: Report) -> dict[str, Any]:
    """The profiles of the inputs."""
    numbers, target = report["profile"]["numbers"], target_of(report)
    return {name: column for name, column in numbers.items() if name != target} | dict(report["profile"]["texts"])


def target_of(report: Report) -> str:
    return str(report["profile"]["target"])
