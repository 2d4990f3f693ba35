"""Soak: a backend asks batches of mixed sizes for half an hour while fifty versions are deployed; memory must not grow.

Every second the memory of the backend, of the server and of the server's model processes is written down. The slope is
fitted over the quiet seconds, those well after a deployment, once everything was warm.
"""

import argparse
import os
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from rich.table import Table

from benchmarks.faults import MARGIN_S, judged, share
from benchmarks.world import World, make_models
from hailtime.plots import BLUE, GREY, ORANGE
from hailtime.report import console

BATCHES = (1, 1, 1, 1, 8, 64, 256)  # rows of a request, each as likely
QUIET_S = 5.0  # after a deployment: the versions that go are unloaded within two seconds
WARM_SHARE = 0.2  # of the time, before the slope is fitted
FLAT_MB_H = 10.0  # a guess: a quarter of a gigabyte a day at a hundred deployments an hour
JUDGED_MIN = 20.0  # a shorter run says little about an hour
PARTS = ("client", "server", "models")


class Sample(NamedTuple):
    """Megabytes held at a time, in minutes since the start; `is_quiet`: no deployment under way or just over."""

    minute: float
    client: float
    server: float
    models: float
    is_quiet: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="an exported run folder with its data")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--deploys", type=int, default=50)
    parser.add_argument("--rps", type=float, default=50.0, help="requests a second, 47 rows each on average")
    parser.add_argument("--deadline-ms", type=float, default=500.0)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    deadline_s = arguments.deadline_ms / 1e3
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(arguments.run, Path(folder) / "models")
        with World(Path(folder) / "world", models, arguments.rps, deadline_s) as world:
            world.begin()
            with world.flowing(batches=BATCHES) as backend:
                samples, deployed_at = _soak(world, backend.pid, arguments.minutes, arguments.deploys)
            answers = judged(world, deadline_s)
    draw(samples, deployed_at, arguments.out / "soak.png")
    slopes = {part: slope(samples, part) for part in PARTS}
    asked = {"minutes": arguments.minutes, "rps": arguments.rps, "deadline_ms": arguments.deadline_ms}
    return {**asked, "deploys": len(deployed_at), "answers": answers, "memory": slopes}


def _soak(world: World, client: int, minutes: float, n_deploys: int) -> tuple[list[Sample], list[float]]:
    """A sample a second and a deployment now and then; the minutes of the deployments."""
    start = time.monotonic()
    due = [start + 60 * minutes * (place + 0.5) / n_deploys for place in range(n_deploys)]
    names, samples, deployed_at, busy_until = cycle(("second", "third", "first")), list[Sample](), list[float](), start
    while (now := time.monotonic()) < start + 60 * minutes:
        minute = (now - start) / 60
        if due and now >= due[0]:
            due.pop(0)
            version = world.deploy(next(names))
            deployed_at.append(minute)
            busy_until = time.monotonic() + QUIET_S
            console().print(f"minute {minute:.1f}: version {version}, {_told(samples[-1:])}")
        held_mb = (memory_mb(client), memory_mb(world.server.pid), sum(map(memory_mb, _models_of(world.server.pid))))
        samples.append(Sample(minute, *held_mb, now >= busy_until))
        time.sleep(1.0)
    return samples, deployed_at


def memory_mb(pid: int) -> float:
    """Resident memory; 0 for a process that has just ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _models_of(server: int) -> list[int]:
    """The server's child processes: one for each loaded version with the embedded server."""
    return [int(pid) for task in Path(f"/proc/{server}/task").glob("*/children") for pid in task.read_text().split()]


def slope(samples: list[Sample], part: str) -> dict[str, float]:
    """Megabytes at the start and at the end of the quiet time, and the slope in MB/h with twice its standard error."""
    warm_from = samples[-1].minute * WARM_SHARE
    some = [sample for sample in samples if sample.is_quiet and sample.minute >= warm_from]
    hours, held_mb = np.array([sample.minute / 60 for sample in some]), np.array([getattr(s, part) for s in some])
    away = hours - hours.mean()
    per_hour = float((away * held_mb).sum() / (away**2).sum())
    left = held_mb - held_mb.mean() - per_hour * away
    error = float(np.sqrt((left**2).sum() / max(len(some) - 2, 1) / (away**2).sum()))
    tenth = max(len(some) // 10, 1)
    ends = (float(np.median(held_mb[:tenth])), float(np.median(held_mb[-tenth:])))
    told = {"first_mb": ends[0], "last_mb": ends[1], "slope_mb_h": per_hour, "two_errors_mb_h": 2 * error}
    return {name: round(value, 1) for name, value in told.items()}


def missed(figures: dict[str, Any]) -> list[str]:
    """Answers that went wrong, and memory that grew."""
    said = figures["answers"]
    counts = {
        "not answered": said["sent"] - said["answered"],
        "wrong": said["wrong"],
        "not in the log": said["unlogged"],
    }
    told = [f"{count} {what}" for what, count in counts.items() if count]
    if figures["minutes"] >= JUDGED_MIN:
        for part, found in figures["memory"].items():
            grows = found["slope_mb_h"] - found["two_errors_mb_h"] > FLAT_MB_H
            told += [f"the {part} grows by {found['slope_mb_h']:.1f} MB/h"] if grows else []
    return told


def show(figures: dict[str, Any]) -> None:
    said = figures["answers"]
    late = f"{share(said):.2f} % within the deadline and {1e3 * MARGIN_S:g} ms"
    title = f"{figures['minutes']:g} min, {figures['deploys']} deployments, {said['sent']:,} requests, {late}"
    table = Table(title=title, title_justify="left")
    for heading in ("memory", "first, MB", "last, MB", "slope, MB/h", "± two errors"):
        table.add_column(heading, justify="left" if heading == "memory" else "right")
    for part, found in figures["memory"].items():
        table.add_row(part, *(f"{value:.1f}" for value in found.values()))
    console().print(table)


def page(figures: dict[str, Any]) -> str:
    """The table in Markdown, of a long run."""
    if figures["minutes"] < JUDGED_MIN:
        return ""
    said = figures["answers"]
    lines = ["| | first, MB | last, MB | slope, MB/h | ± two errors |", "|---|---|---|---|---|"]
    for part, found in figures["memory"].items():
        lines.append(f"| {part} | {' | '.join(f'{value:.1f}' for value in found.values())} |")
    answered = (
        f"{said['sent']:,} requests, {said['answered']:,} answered, {said['wrong']} wrong, {said['unlogged']} unlogged"
    )
    lines += [
        "",
        f"{figures['minutes']:g} minutes, {figures['deploys']} deployments: {answered}, {share(said):.2f} % in time.",
    ]
    return "\n".join(lines)


def draw(samples: list[Sample], deployed_at: list[float], picture: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(3, 1, figsize=(9, 6.5), sharex=True, constrained_layout=True)
    titles = ("the client's process", "tritonserver", "its model processes, one a loaded version")
    for axes, part, title, colour in zip(panels, PARTS, titles, (BLUE, ORANGE, GREY), strict=True):
        axes.plot([s.minute for s in samples], [getattr(s, part) for s in samples], color=colour, linewidth=1)
        for minute in deployed_at:
            axes.axvline(minute, color="black", linewidth=0.3)
        found = slope(samples, part)
        axes.set(title=f"{title}: {found['slope_mb_h']:+.1f} ± {found['two_errors_mb_h']:.1f} MB/h", ylabel="MB")
        axes.set_ylim(bottom=0)
    panels[-1].set_xlabel("minutes; lines: a deployment begins")
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def _told(samples: list[Sample]) -> str:
    return ", ".join(f"{part} {getattr(sample, part):.0f} MB" for sample in samples for part in PARTS)
