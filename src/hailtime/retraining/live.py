"""How a version fares live, from the log: its answers against what the old one says to the same requests.

The old version's file is asked about the logged inputs here, so the comparison is paired on the same rows and needs no
second group of riders. Only requests count that are old enough for nearly all to have their end.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from hailtime.monitoring.hours import with_inputs
from hailtime.monitoring.log_source import LogSource
from hailtime.retraining.champion import Champion
from hailtime.retraining.judge import Difference, compare
from hailtime.retraining.settings import RolloutSettings
from hailtime.schema import MICROSECONDS_PER_SECOND

DAY_S = 86_400
SURE = 0.997  # looked at again and again: three standard errors, so that chance alone seldom ends a trial
HALF = 0.5  # of the answers that a shadow or a canary should give: clients drop shadows where they are busy

Stage = Literal["shadow", "canary", "watch"]


@dataclass(frozen=True)
class Look:
    """What is known at a moment.

    - answered: what it answered (when watched: not by a fallback); expected: what it should have
    - rows: of those whose end is known; difference: on them, new minus old
    - latency_ms, old_latency_ms: medians; None without any
    """

    answered: int
    expected: float
    rows: int
    difference: Difference | None
    latency_ms: float | None
    old_latency_ms: float | None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "difference": self.difference and self.difference.to_dict()}


@dataclass(frozen=True)
class Verdict:
    """`good` and `bad` end a stage, `little` too (too few rows by its end), `wait` does not."""

    kind: Literal["wait", "good", "bad", "little"]
    text: str


def look(
    log: LogSource,
    old: Champion,
    version: int,
    stage: Stage,
    from_s: float,
    to_s: float,
    percent: float = 100.0,
    label_delay_s: float = 0.0,
) -> Look:
    """The version's answers to requests of a span, since its first one.

    Errors are those of requests that are `label_delay_s` old: sooner only short rides have their end, and on these who
    says less looks better (seen: +20 s after 3 minutes, of a model that was 17 s better).
    """
    said = log.asked(from_s, to_s)
    ours = log.shadowed(from_s, to_s) if stage == "shadow" else said
    ours = ours.filter((pl.col("version") == str(version)) & (pl.col("path") == "triton"))
    first_s = ours["requested_at_s"].min() if len(ours) else from_s
    since = said if stage == "watch" else said.filter(pl.col("requested_at_s") >= first_s)
    expected = since.height * percent / 100
    # once everybody has it, what did not come from it came from a fallback; clients may have the old plan for a moment
    answered = said.filter(pl.col("path") == "triton").height if stage == "watch" else len(ours)
    others = said if stage != "watch" else log.asked(from_s - DAY_S, from_s)
    others = others.filter((pl.col("version") == str(old.version)) & (pl.col("path") == "triton"))
    is_old = pl.col("requested_at_s") < to_s - label_delay_s
    ended = ours.filter(is_old & pl.col("pickup_time_s").is_not_null() & pl.col("features").is_not_null())
    return Look(answered, expected, len(ended), _difference(ended, old), _latency_ms(ours), _latency_ms(others))


def verdict(seen: Look, settings: RolloutSettings, stage: Stage, is_over: bool) -> Verdict:
    """What a look says. Neutral by the end of a stage is good: the gates have found it better on earlier rows."""
    least_share = 1 - settings.failed if stage == "watch" else HALF
    if seen.expected >= settings.min_rows and seen.answered < least_share * seen.expected:
        return Verdict(
            "bad", f"it answered {seen.answered:,} of {seen.expected:,.0f} requests, {least_share:.0%} are needed"
        )
    if seen.answered >= settings.min_rows and seen.latency_ms is not None and seen.old_latency_ms is not None:
        limit_ms = settings.latency_ratio * seen.old_latency_ms + settings.latency_slack_ms
        if seen.latency_ms > limit_ms:
            old_ms = f"the old version {seen.old_latency_ms:.1f} ms"
            return Verdict("bad", f"it takes {seen.latency_ms:.1f} ms, {old_ms}, allowed are {limit_ms:.1f} ms")
    if seen.difference is None or seen.rows < settings.min_rows:
        text = f"{seen.rows} of its answers have their end, {settings.min_rows} are needed"
        return Verdict("little", f"little traffic: {text}") if is_over else Verdict("wait", text)
    limit_s = settings.worse * seen.difference.champion_mae_s
    if seen.difference.low_s > limit_s:
        return Verdict("bad", f"its live error is too large: {seen.difference.text}, allowed are {limit_s:+.2f} s")
    if seen.rows >= settings.rows or is_over:
        return Verdict("good", f"live {seen.difference.text}, surely {limit_s:+.2f} s would be too much")
    return Verdict("wait", seen.difference.text)


def _difference(ended: pl.DataFrame, old: Champion) -> Difference | None:
    if ended.is_empty():
        return None
    at_us = (pl.col("requested_at_s") * MICROSECONDS_PER_SECOND).alias(old.schema.requested_at)
    rows = with_inputs(ended, old.schema).with_columns(at_us)
    actual_s = rows["pickup_time_s"].to_numpy()
    old_s = np.abs(old.answers(rows)[:, 1].astype(np.float64) - actual_s)
    new_s = np.abs(rows["p50_s"].to_numpy() - actual_s)
    return compare(old_s, new_s, rows["requested_at_s"].to_numpy().astype(np.float64), SURE)


def _latency_ms(rows: pl.DataFrame) -> float | None:
    found = rows["latency_s"].median()
    return round(1e3 * float(found), 3) if isinstance(found, float) else None
