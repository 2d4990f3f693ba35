"""Pictures of a run, as PNG. Every axis has its unit; every picture says the number to take away in its title."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

BLUE, ORANGE, GREY = "#1f6fb2", "#d9822b", "#7a7a7a"


def learning_curve(history_csv: Path, picture: Path) -> None:
    """Validation MAE and training loss by epoch, from Lightning's log."""
    history = pl.read_csv(history_csv)
    figure, (left, right) = new_figure(2)
    curve = history.drop_nulls("val/mae_s")
    epoch, mae_s = curve["epoch"].to_numpy() + 1, curve["val/mae_s"].to_numpy()
    best = int(mae_s.argmin())
    left.plot(epoch, mae_s, color=BLUE, marker="o", markersize=3)
    left.plot(epoch[best], mae_s[best], "o", color=ORANGE, markersize=8)
    left.set(title=f"Validation MAE {mae_s[best]:.1f} s at epoch {epoch[best]}", xlabel="epoch", ylabel="MAE, s")
    for name, color, label in (("train/loss", GREY, "training, with dropout"), ("val/loss", BLUE, "validation")):
        losses = history.drop_nulls(name)
        right.plot(losses["epoch"] + 1, losses[name], color=color, label=label, marker="o", markersize=3)
    right.set(title="Loss", xlabel="epoch", ylabel="loss, scaled units")
    right.legend(frameon=False)
    save(figure, picture)


def predicted_against_actual(predicted_s: Array, actual_s: Array, picture: Path) -> None:
    """How often each pair of promise and outcome happened, and the median outcome of each promise."""
    figure, (axes,) = new_figure(1)
    minutes, actual = predicted_s[:, 1] / 60, actual_s / 60
    limit = float(np.quantile(actual, 0.995))
    shades = axes.hexbin(
        minutes, actual, gridsize=60, extent=(0, limit, 0, limit), bins="log", cmap="Blues", mincnt=1, linewidths=0
    )
    axes.plot([0, limit], [0, limit], color=GREY, linewidth=1, label="promise kept")
    promised, median = _median_by_bin(minutes, actual)
    axes.plot(promised, median, color=ORANGE, marker="o", markersize=3, label="median of what happened")
    axes.set(xlim=(0, limit), ylim=(0, limit), xlabel="predicted P50, min", ylabel="actual, min", aspect="equal")
    axes.set_title(f"Predicted against actual, MAE {np.abs(predicted_s[:, 1] - actual_s).mean():.1f} s")
    axes.legend(frameon=False, loc="upper left")
    figure.colorbar(shades, ax=axes, label="requests")
    save(figure, picture)


def interval_coverage(predicted_s: Array, actual_s: Array, hours: NDArray[np.int64], picture: Path) -> None:
    """Share of pickups inside P10–P90, by the width promised and by the local hour; 80 % is the promise."""
    figure, (left, right) = new_figure(2)
    inside = (actual_s >= predicted_s[:, 0]) & (actual_s <= predicted_s[:, 2])
    width_min = (predicted_s[:, 2] - predicted_s[:, 0]) / 60
    tenths = np.argsort(np.argsort(width_min)) * 10 // len(width_min)
    x = [width_min[tenths == k].mean() for k in np.unique(tenths)]
    left.plot(x, [inside[tenths == k].mean() for k in np.unique(tenths)], color=BLUE, marker="o")
    left.set(title=f"P10–P90 holds {inside.mean():.1%}", xlabel="promised width, min (tenths)", ylabel="share inside")
    by_hour = [inside[hours == hour].mean() if (hours == hour).any() else np.nan
               for hour in range(24)]  # fmt: skip
    right.bar(range(24), by_hour, color=BLUE)
    right.set(title="by hour of request", xlabel="local hour", ylabel="share inside")
    for axes in (left, right):
        axes.axhline(0.8, color=ORANGE, linewidth=1)
        axes.set_ylim(0.6, 1.0)
    save(figure, picture)


def reliability(
    predicted_s: Array, actual_s: Array, slices: Mapping[str, Mapping[str, Any]], picture: Path, min_rows: int = 2000
) -> None:
    """Share of pickups below each promised quantile, overall and by tenths of the promise; coverage of every slice."""
    figure, (left, right) = new_figure(2)
    levels = np.array([10, 50, 90])
    below = 100 * (actual_s[:, None] <= predicted_s)
    tenths = np.argsort(np.argsort(predicted_s[:, 1])) * 10 // len(actual_s)
    for tenth in range(10):
        label = "tenths of the rows by P50" if tenth == 0 else None
        left.plot(levels, below[tenths == tenth].mean(axis=0), "o", color=GREY, alpha=0.4, markersize=4, label=label)
    left.plot(levels, below.mean(axis=0), "o-", color=BLUE, label="all rows")
    left.plot([0, 100], [0, 100], color=ORANGE, linewidth=1, label="as promised")
    left.set(title="Reliability of P10, P50, P90", xlabel="promised, %", ylabel="pickups not later, %")
    left.legend(frameon=False)
    large = {name: [v for v in values.values() if v["n"] >= min_rows] for name, values in slices.items()}
    for place, values in enumerate(large.values()):
        coverage = [100 * v["coverage_p10_p90"] for v in values]
        right.plot(coverage, np.full(len(coverage), place), "o", color=BLUE, alpha=0.6)
    right.axvspan(75, 85, color=ORANGE, alpha=0.15)
    right.axvline(80, color=ORANGE, linewidth=1)
    right.set_yticks(range(len(large)), [f"{name} ({len(values)})" for name, values in large.items()])
    right.set(title=f"P10–P90 by slice of {min_rows:,} rows or more", xlabel="pickups inside, %")
    right.invert_yaxis()
    save(figure, picture)


def competitors(errors_s: Mapping[str, float], picture: Path) -> None:
    """Test MAE of the network and what it is measured against; grey is what nobody can beat."""
    figure, (axes,) = new_figure(1)
    colors, names = {"network": ORANGE, "best_possible": GREY}, sorted(errors_s, key=lambda name: -errors_s[name])
    labels = [name.replace("_", " ") for name in names]
    bars = axes.barh(labels, [errors_s[n] for n in names], color=[colors.get(n, BLUE) for n in names])
    axes.bar_label(bars, fmt=" %.1f s")
    axes.set(title="Mean absolute error on the test part", xlabel="MAE, s")
    axes.margins(x=0.15)
    save(figure, picture)


def latency_against_load(
    curves: Mapping[str, Sequence[tuple[float, float, float]]], goal_ms: float, goal_rps: float, picture: Path
) -> None:
    """(requests/s, p50 ms, p99 ms) of each setting by name, from the arrival of a request, beside the goal."""
    figure, (axes,) = new_figure(1)
    for color, (name, points) in zip((ORANGE, BLUE, GREY), curves.items(), strict=False):
        rps, p50_ms, p99_ms = np.array(points).T
        axes.plot(rps, p99_ms, color=color, marker="o", markersize=4, label=f"{name}: p99")
        axes.plot(rps, p50_ms, color=color, marker=".", linestyle=":", label=f"{name}: p50")
    axes.plot([goal_rps], [goal_ms], marker="*", markersize=14, color="black", linestyle="none", label="goal")
    axes.axhline(goal_ms, color="black", linewidth=0.6)
    axes.set(yscale="log", xlabel="requests/s arriving", ylabel="latency from arrival, ms")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(f"The goal: p99 of {goal_ms:g} ms at {goal_rps:g} requests/s")
    figure.legend(frameon=False, fontsize=7, ncols=2, loc="outside lower center")
    save(figure, picture)


def _median_by_bin(x: Array, y: Array, n_bins: int = 20) -> tuple[list[float], list[float]]:
    place = np.argsort(np.argsort(x)) * n_bins // len(x)
    bins = np.unique(place)
    return [float(np.median(x[place == k])) for k in bins], [float(np.median(y[place == k])) for k in bins]


def new_figure(n_axes: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many axes in a row, in the style of all our pictures."""
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 10}):
        figure = Figure(figsize=(4.6 * n_axes + 0.6, 4.0), dpi=120, layout="constrained")
        axes = list(np.atleast_1d(figure.subplots(1, n_axes)))
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Figure, picture: Path) -> None:
    """Writes the picture, its folder too."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)
