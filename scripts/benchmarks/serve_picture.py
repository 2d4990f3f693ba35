"""What serving can carry: requests a second by callers, and waiting times by requests a second."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

from hailtime.plots import BLUE, GREY, ORANGE

COLOURS = (GREY, BLUE, "#7fb3dd", ORANGE, "#3b8f5a", "#8a5aa8")


def draw(figures: dict[str, Any], picture: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    for colour, (name, rates) in zip(COLOURS, figures["closed_rps"].items(), strict=False):
        left.plot([int(n) for n in rates], list(rates.values()), color=colour, marker="o", markersize=4, label=name)
    for colour, times in zip(COLOURS, figures["open_ms"].values(), strict=False):
        due = [float(rate) for rate in times]
        right.plot(due, [said["p50"] for said in times.values()], color=colour, marker="o", markersize=4)
        right.plot(due, [said["p99"] for said in times.values()], color=colour, linestyle="--", linewidth=1)
    left.set(title="One row a request, callers who wait", xlabel="callers", ylabel="requests/s", xscale="log")
    left.set_xticks([1, 2, 4, 8, 16, 32], labels=["1", "2", "4", "8", "16", "32"], minor=False)
    left.set_ylim(bottom=0)
    right.set(title="p50, and p99 dashed", xlabel="requests/s, due by a clock", ylabel="ms since due", yscale="log")
    right.set_yticks([1, 2, 3, 5, 10, 20], labels=["1", "2", "3", "5", "10", "20"], minor=False)
    right.minorticks_off()
    left.legend(frameon=False, fontsize=8)
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
