"""The views on errors: predicted against actual, by place and by hour, and whether P10 to P90 holds what it says."""

from typing import Any

import polars as pl

from hailtime.monitoring.arrivals import TIME_EDGES_S, added
from hailtime.monitoring.page.watched import Span, Watched, plain

_ERRORS = ["mae_s", "mae_low_s", "mae_high_s", "bias_s", "bias_low_s", "bias_high_s"]
_COVERAGE = ["coverage", "coverage_low", "coverage_high", "above"]
_COUNTS = ["n", "n_arrived"]
FEWEST = 20  # trips; a mean of fewer says nothing


def accuracy(watched: Watched, days: float) -> dict[str, Any]:
    """Said against actual: a grid of counts, by hour of day, and the error over time by version."""
    span = watched.span(days)
    return {**frame_of(watched, span), **accuracy_of(watched, span)}


def accuracy_of(watched: Watched, span: Span) -> dict[str, Any]:
    sums = watched.totals(span, ["hour_s", "version"])
    grid = added([one.grid for one in watched.store().arrivals(span.since_s, span.until_s, span.version)])
    return {
        "total": next(iter(span.measures(sums, ["slice"]).to_dicts()), None),
        "grid": {"edges_s": TIME_EDGES_S.round(1).tolist(), "counts": grid.tolist()},
        "hours": _hours(span, sums),
        "time": plain(span.measures(sums, ["bucket_s"]), ["time", "is_complete", *_COUNTS, "expected_mae_s", *_ERRORS]),
        "versions": _versions(span, sums),
    }


def places(watched: Watched, days: float) -> dict[str, Any]:
    """The error of each zone, where it lies if that is known, and of each hour of the day."""
    span = watched.span(days)
    return {**frame_of(watched, span), **places_of(watched, span)}


def places_of(watched: Watched, span: Span) -> dict[str, Any]:
    zones = span.measures(watched.totals(span, ["value"], "zone"), ["value"])
    where = {zone: (lat / n, lon / n) for zone, (n, lat, lon) in watched.store().state("places", {}).items()}
    names = zones["value"].to_list()
    zones = zones.with_columns(
        lat=pl.Series([where.get(name, (None, None))[0] for name in names], dtype=pl.Float64),
        lon=pl.Series([where.get(name, (None, None))[1] for name in names], dtype=pl.Float64),
    ).filter(pl.col("n_arrived") >= FEWEST)
    hours = watched.totals(span, ["hour_s"])
    return {"zones": plain(zones, ["value", "lat", "lon", *_COUNTS, *_ERRORS]), "hours": _hours(span, hours)}


def intervals(watched: Watched, days: float) -> dict[str, Any]:
    """The share that came true between P10 and P90, over time, by zone and by weather, and after P90."""
    span = watched.span(days)
    return {**frame_of(watched, span), **intervals_of(watched, span)}


def intervals_of(watched: Watched, span: Span) -> dict[str, Any]:
    sums = watched.totals(span, ["hour_s"])
    slices = {}
    for name in ("zone", "weather"):
        found = span.measures(watched.totals(span, ["value"], name), ["value"])
        slices[name] = plain(found.filter(pl.col("n_arrived") >= FEWEST), ["value", *_COUNTS, *_COVERAGE])
    total = span.measures(sums, ["slice"])
    return {
        "time": plain(span.measures(sums, ["bucket_s"]), ["time", "is_complete", *_COUNTS, *_COVERAGE]),
        "slices": slices,
        "total": plain(total, [*_COUNTS, *_COVERAGE]),
    }


def frame_of(watched: Watched, span: Span) -> dict[str, Any]:
    """What every view over time says: which time it is, in whose clock, what is wrong, and the releases."""
    return {
        "timezone": span.timezone,
        "since": span.text(span.since_s),
        "until": span.text(span.until_s),
        "is_daily": span.is_daily,
        "trouble": watched.trouble(span),
        "marks": watched.marks(span),
    }


def _hours(span: Span, sums: pl.DataFrame) -> dict[str, list[Any]]:
    """By local hour of day; what was said is of the trips that came true, so that it can be held against them."""
    found = span.measures(sums, ["local_hour"]).with_columns(said_s=pl.col("actual_s") + pl.col("bias_s"))
    return plain(found, ["local_hour", *_COUNTS, "said_s", "actual_s", *_ERRORS])


def _versions(span: Span, sums: pl.DataFrame) -> dict[str, dict[str, list[Any]]]:
    """Over time by version; those of a hundredth of the trips or more, six at most."""
    most = sums.group_by("version").agg(pl.sum("n")).sort("n", descending=True)
    names = most.filter(pl.col("n") >= 0.01 * pl.sum("n")).head(6)["version"].sort()
    return {
        name: plain(
            span.measures(sums.filter(pl.col("version") == name), ["bucket_s"]),
            ["time", "is_complete", *_COUNTS, *_ERRORS],
        )
        for name in names
    }
