"""The story in numbers and a picture: what was said, by the log, against the truth, which the city alone knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hailtime.monitoring.log_source import LogSource
from hailtime.plots import BLUE, GREY, ORANGE, save
from hailtime.sources.city_map import TIMEZONE

POINT_S = 300  # of the city: a point of the picture stands on some 1,400 requests


@dataclass(frozen=True)
class Window:
    """Requests made from a moment until before another (UTC seconds), answered by one version where that is named."""

    from_s: float
    to_s: float
    version: str | None = None


def answers(log: Path, truth: pl.DataFrame, window: Window) -> pl.DataFrame:
    """One row a request that arrived: asked_s, version, error_s (said less actual), best_s (the same of the truth)."""
    said = LogSource(log).asked(window.from_s, window.to_s).drop_nulls("pickup_time_s")
    rows = said.join(truth.select("request_id", "true_median_s"), on="request_id")
    if window.version is not None:
        rows = rows.filter(pl.col("version") == window.version)
    return rows.select(
        pl.col("requested_at_s").alias("asked_s"),
        "version",
        error_s=pl.col("p50_s") - pl.col("pickup_time_s"),
        best_s=pl.col("true_median_s") - pl.col("pickup_time_s"),
    )


def errors(rows: pl.DataFrame) -> dict[str, Any]:
    """mae_s, best_possible_s and bias_s (below 0: drivers came later than was said), and on how many requests."""
    mae, best, bias = rows.select(pl.col("error_s", "best_s").abs().mean(), bias=pl.col("error_s").mean()).row(0)
    return {"requests": len(rows), "mae_s": mae, "best_possible_s": best, "bias_s": bias}


def draw(rows: pl.DataFrame, marks: Sequence[tuple[float, str]], headline: str, picture: Path) -> None:
    """Error over the city's time beside the best possible, and what happened when."""
    points = (
        rows.group_by(pl.col("asked_s") // POINT_S * POINT_S + POINT_S // 2)
        .agg(pl.col("error_s", "best_s").abs().mean(), bias=pl.col("error_s").mean(), n=pl.len())
        .filter(pl.col("n") >= pl.col("n").max() / 4)  # the first and the last are parts of one
        .sort("asked_s")
    )
    hours = [_hours(at_s) for at_s in points["asked_s"]]
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 11}):
        figure = Figure(figsize=(10.4, 5.0), dpi=110, layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for one in (top, bottom):
        one.spines[["top", "right"]].set_visible(False)
    top.fill_between(hours, points["best_s"], points["error_s"], color=ORANGE, alpha=0.15, linewidth=0)
    top.plot(hours, points["error_s"], color=BLUE, linewidth=2, label="served model")
    top.plot(hours, points["best_s"], color=GREY, linewidth=1.2, label="best possible: only the city's own noise")
    top.set(ylim=(0, float(np.max(points["error_s"].to_numpy())) * 1.32), ylabel="mean absolute error, s")
    top.set_title(headline, loc="left")
    top.legend(frameon=False, loc="lower left", ncols=2)
    bottom.axhline(0, color=GREY, linewidth=0.8)
    bottom.plot(hours, -points["bias"], color=ORANGE, linewidth=1.6)
    bottom.set(ylabel="drivers come\nlater by, s", xlabel="hour of the city's day")
    bottom.xaxis.set_major_formatter(lambda hour, _: f"{int(hour) % 24}:{round(hour % 1 * 60):02d}")
    _mark((top, bottom), marks)
    save(figure, picture)


def _mark(axes: Sequence[Axes], marks: Sequence[tuple[float, str]]) -> None:
    """A line through all, its words at the top, in three heights so that neighbours do not cover each other."""
    for place, (at_s, words) in enumerate(marks):
        for one in axes:
            one.axvline(_hours(at_s), color=GREY, linewidth=0.8, linestyle=":")
        where, axis = (_hours(at_s), 0.99 - 0.07 * (place % 3)), axes[0].get_xaxis_transform()
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        is_left = place == len(marks) - 1  # of the last line, so that its words stay in the picture
        side = (-3, 0) if is_left else (3, 0)
        how: dict[str, Any] = {"va": "top", "ha": "right" if is_left else "left", "fontsize": 8.5, "bbox": box}
        axes[0].annotate(words, where, side, axis, "offset points", **how)


def _hours(at_s: float) -> float:
    """Of the local day; past midnight it goes on with 24."""
    first = datetime.fromtimestamp(at_s, ZoneInfo(TIMEZONE))
    return first.hour + first.minute / 60 + first.second / 3600
