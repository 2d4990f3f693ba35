"""The view on the present: what is live, how fast, how wrong, and how wrong it expects to be."""

from typing import Any

import polars as pl

from hailtime.errors import HailtimeError
from hailtime.monitoring.hours import HOUR_S
from hailtime.monitoring.page.errors import frame_of
from hailtime.monitoring.page.watched import DAY_S, Span, Watched, plain
from hailtime.rollout import Rollout
from hailtime.serving.config_file import read_served

QUIET_S = 3600  # without a request, and the page says that they have stopped
_TIME = ["time", "n", "arrived", "is_complete", "mae_s", "mae_low_s", "mae_high_s", "expected_mae_s", "latency_p99_ms"]


def now(watched: Watched, days: float = 1) -> dict[str, Any]:
    """Figures of the newest hours and the day before them."""
    span = watched.span(days)
    sums = span.timed(watched.store().sums("", span.since_s, span.until_s))
    hours = span.measures(sums.with_columns(bucket_s="hour_s"), ["hour_s", "bucket_s"])
    hours = hours.with_columns(latency_p99_ms=pl.col("latency_p99_s") * 1000)
    return {
        **frame_of(watched, span),
        "now": span.text(span.now_s),
        "plan": plan_text(watched),
        "alerts": _alerts(watched, span),
        "stopped": _stopped(span, hours),
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
    """Of the hour that runs and the one before, so that it never stands on a few minutes."""
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
            "rate": row["n"] / (span.until_s - since_s),
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


def _stopped(span: Span, hours: pl.DataFrame) -> str | None:
    """Words where no request came for an hour."""
    silent_s = span.now_s - span.until_s
    if silent_s < QUIET_S or hours.is_empty():
        return None
    ago = f"{silent_s / 3600:.0f} hours" if silent_s < 2 * DAY_S else f"{silent_s / DAY_S:.0f} days"
    return f"No request has come since {span.text(span.until_s)}, {ago} ago. What follows is of the time before."
