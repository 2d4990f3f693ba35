"""Every request of every fault as a dot: when it was asked, how long it took, and who answered."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

from benchmarks.traffic import Asked
from hailtime.plots import BLUE, GREY, ORANGE

COLOURS = {"triton": BLUE, "local": ORANGE, "rule": GREY, "": "red"}
NAMES = {"triton": "a server", "local": "the local model", "rule": "the rule", "": "nobody"}


def draw(asked: Mapping[str, Sequence[Asked]], deadline_s: float, picture: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    n_rows = -(-len(asked) // 4)
    figure, panels = plt.subplots(n_rows, 4, figsize=(14, 2.4 * n_rows), sharey=True, constrained_layout=True)
    for axes, (name, requests) in zip(panels.flat, asked.items(), strict=False):
        start = min(one.began_at for one in requests)
        for path, colour in COLOURS.items():
            some = [one for one in requests if one.path == path]
            times = ([one.began_at - start for one in some], [one.took_s * 1e3 for one in some])
            axes.plot(*times, ".", color=colour, markersize=2, label=NAMES[path])
        axes.axhline(deadline_s * 1e3, color="black", linewidth=0.7, linestyle="--")
        axes.set(title=name, yscale="log", ylim=(0.1, 200))
    figure.supxlabel("seconds")
    figure.supylabel("a request, ms; dashed: the deadline")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=4, frameon=False, markerscale=6)
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, dpi=90)
    plt.close(figure)
