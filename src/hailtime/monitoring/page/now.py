"""The view on the present: what is live, how fast, how wrong, and how wrong it expects to be."""

from typing import Any

import polars as pl

from hailtime.errors import HailtimeError
from hailtime.monitoring.hours import HOUR_S
from hailtime.monitoring.log_source import PACE_S
from hailtime.monitoring.page.errors import frame_of
from hailtime.monitoring.page.watched import DAY_S, Span, Watched, plain
from hailtime.rollout import Rollout
from hailtime.serving.config_file import read_served

QUIET_S = 3600  # without a request, and the page says that they have stopped
MISSED = 20  # or sooner, when by the last hour's rate so many should have come in five minutes or more
_TIME = ["time", "n", "arrived", "is_complete", "mae_s", "mae_low_s", "mae_high_s", "expected_mae_s", "latency_p99_ms"]


def now(watched: Watched, days: float = 1) -> dict[str, Any]:
    """Figures of the newest hours and the day before them."""
    span = watched.span(days)
    sums = span.timed(watched.store().sums("", span.since_s, span.until_s))
    hours = span.measures(sums.with_columns(bucket_s="hour_s"), ["hour_s", "bucket_s"])
    hours = hours.with_columns(latency_p99_ms=pl.col("latency_p99_s") * 1000)
    pace = watched.store().state("pace", None)
    return {
        **frame_of(watched, span),
        "now": span.text(span.now_s),
        "plan": plan_text(watched),
        "alerts": _alerts(watched, span),
        "stopped": _stopped(span, hours, pace),
        "ahead": _ahead(span, pace),
        "pace": _pace(span, pace),
        **_newest(span, sums),
        **_last_complete(span, hours),
        "expected": _expected(hours),
        "time": {**plain(hours, _TIME), "rate": _rates(span, hours)},
    }


def _alerts(watched: Watched, span: Span) -> list[dict[str, str]]:
    """What is firing, each with the words with which it began."""
    store = watched.store()
    firing = {name for name, state in store.state("alerts", {}).items() if state["is_firing"]}
    began = [one for one in store.state("messages", []) if one["kind"] == "firing" and firing & set(one["alerts"])]
    told: dict[str, dict[str, str]] = {}
    for one in began:
        told |= {name: {"since": span.text(one["at_s"]), "text": one["text"]} for name in firing & set(one["alerts"])}
    return list({each["text"]: each for each in told.values()}.values())


def plan_text(watched: Watched) -> str:
    """`version 3 answers everybody`, or who else does."""
    try:
        served = read_served(watched.settings.repository)
    except HailtimeError as error:
        return f"unknown: {error}"
    return told(served.rollout) if served else "nothing is deployed"


def told(plan: Rollout) -> str:
    if plan.canary is not None:
        return f"version {plan.stable}, and canary {plan.canary} for {plan.canary_percent:g} %"
    if plan.shadow is not None:
        return f"version {plan.stable} answers everybody, shadow {plan.shadow} is asked beside it"
    return f"version {plan.stable} answers everybody"


def _newest(span: Span, sums: pl.DataFrame) -> dict[str, Any]:
    """Of the hour that runs and the one before: shares and P99 that never stand on a few minutes."""
    since_s = (span.until_s - 1) // HOUR_S * HOUR_S - HOUR_S
    newest = sums.filter(pl.col("hour_s") >= since_s)
    if newest.is_empty():
        return {"newest": None}
    (row,) = span.measures(newest, ["slice"]).to_dicts()
    by_version = newest.group_by("version").agg(pl.sum("n")).sort("version")
    by_path = newest.group_by("path").agg(pl.sum("n")).sort("path")
    return {
        "newest": {
            "since": span.text(since_s, "%H:%M"),
            "n": row["n"],
            "arrived": row["arrived"],
            "latency_p50_s": row["latency_p50_s"],
            "latency_p99_s": row["latency_p99_s"],
            "expected_mae_s": row["expected_mae_s"],
            "versions": dict(by_version.iter_rows()),
            "paths": dict(by_path.iter_rows()),
        }
    }


def _last_complete(span: Span, hours: pl.DataFrame) -> dict[str, Any]:
    """The newest hour that nothing will come to any more."""
    complete = hours.filter(pl.col("is_complete") & (pl.col("n_arrived") > 0))
    if complete.is_empty():
        return {"complete": None, "arriving": hours.filter(~pl.col("is_complete")).height}
    row = complete.row(-1, named=True)
    names = ("mae_s", "mae_low_s", "mae_high_s", "bias_s", "p90_error_s", "n_arrived", "arrived", "expected_mae_s")
    begin, end = span.text(row["hour_s"], "%d %b %H:%M"), span.text(row["hour_s"] + HOUR_S, "%H:%M")
    return {
        "complete": {name: row[name] for name in names} | {"hour": f"{begin}–{end}"},
        "arriving": hours.filter(~pl.col("is_complete")).height,
    }


def _expected(hours: pl.DataFrame) -> dict[str, Any] | None:
    """What the model expected of the trips that came true, held against their error; None without complete hours."""
    complete = hours.filter(pl.col("is_complete") & (pl.col("n_arrived") > 0))
    if complete.is_empty():
        return None
    weight = pl.col("n_arrived")
    expected, proved = complete.select(
        (pl.col("expected_arrived_mae_s") * weight).sum() / weight.sum(),
        (pl.col("mae_s") * weight).sum().alias("proved") / weight.sum(),
    ).row(0)
    return {"expected_s": expected, "proved_s": proved, "ratio": proved / expected if expected else None}


def _rates(span: Span, hours: pl.DataFrame) -> list[float]:
    """Requests a second by hour; the last hour may have only begun."""
    lasted = pl.min_horizontal(pl.lit(span.until_s), pl.col("hour_s") + HOUR_S) - pl.col("hour_s")
    return hours.select((pl.col("n") / lasted.clip(60)).round(4)).to_series().to_list()


def _pace(span: Span, pace: dict[str, Any] | None) -> dict[str, Any] | None:
    """Requests a second of the last minutes before the last pass."""
    if pace is None:
        return None
    return {"rate": pace["n"] / PACE_S, "minutes": PACE_S // 60, "until": span.text(pace["at_s"], "%H:%M")}


def _stopped(span: Span, hours: pl.DataFrame, pace: dict[str, Any] | None) -> str | None:
    """Words where no request came for an hour, or for minutes in which many were due; by when the log was looked at."""
    if pace is None or pace["last_s"] is None:
        return None
    silent_s = pace["at_s"] - pace["last_s"]
    usual = hours.filter(pl.col("hour_s") + HOUR_S <= pace["last_s"]).tail(1)["n"].sum() / HOUR_S
    if silent_s < PACE_S or (silent_s < QUIET_S and usual * silent_s < MISSED):
        return None
    return (
        f"No request has come since {span.text(pace['last_s'])}, {_ago(silent_s)}. What follows is of the time before."
    )


def _ago(seconds: float) -> str:
    if seconds < 2 * HOUR_S:
        return f"{seconds / 60:.0f} minutes ago"
    return f"{seconds / HOUR_S:.0f} hours ago" if seconds < 2 * DAY_S else f"{seconds / DAY_S:.0f} days ago"


def _ahead(span: Span, pace: dict[str, Any] | None) -> str | None:
    """Words where requests carry times that have not come."""
    if not pace or not pace["n_ahead"]:
        return None
    return (
        f"{pace['n_ahead']:,} requests carry times ahead of this clock, up to {span.text(pace['ahead_s'])}: the clock "
        "of a backend, or of this machine, has jumped. They are counted when their time has come."
    )
