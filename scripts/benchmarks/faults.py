"""Faults: a backend asks a real Triton 200 times a second with a deadline of 50 ms while something goes wrong.

Every answer is held against the file of the version that gave it, every answer must be in the log, and what no server
answered in time must have come from the local model or the rule. Fails where a goal is missed.
"""

import argparse
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks import backend_faults, release_faults, server_faults
from benchmarks.fault_picture import draw
from benchmarks.traffic import Asked
from benchmarks.world import World, make_models
from hailtime.report import console
from hailtime.serving.gates import LIMITS

FAULTS = {
    "deploy": release_faults.deploy,
    "promote": release_faults.promote_canary,
    "rollback": release_faults.roll_back,
    "broken model file": release_faults.broken_model,
    "half-written version": release_faults.half_written_version,
    "full disk": release_faults.full_disk,
    "kill -9 and restart": server_faults.kill_9,
    "kill -9 of one of two": server_faults.kill_9_of_two,
    "SIGSTOP for 5 s": server_faults.stopped_for_5_s,
    "restart mid-call": server_faults.restart_mid_call,
    "port refused": server_faults.port_refused,
    "slow server": server_faults.slow_server,
    "log database gone": backend_faults.log_gone,
    "clock jump": backend_faults.clock_jump,
    "10,000 malformed": backend_faults.malformed,
    "herd of 64 clients": backend_faults.herd,
}
MARGIN_S = 0.005  # a deadline is kept when the answer is there so much later
SHARE_IN_TIME = 0.999
COLUMNS = (
    "sent",
    "answered",
    "in time, %",
    "server",
    "other",
    "local",
    "rule",
    "wrong",
    "lost",
    "worst, ms",
    "unlogged",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="an exported run folder with its data")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="FAULT", help="some of them")
    parser.add_argument("--rps", type=float, default=200.0, help="requests a second")
    parser.add_argument("--deadline-ms", type=float, default=50.0)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    deadline_s, asked = arguments.deadline_ms / 1e3, {}
    figures: dict[str, Any] = {"rps": arguments.rps, "deadline_ms": arguments.deadline_ms, "faults": {}}
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(arguments.run, Path(folder) / "models")
        for number, name in enumerate(arguments.only):
            with World(Path(folder) / str(number), models, arguments.rps, deadline_s) as world:
                note = FAULTS[name](world)
                if world.servers and not world.server.is_running:
                    note += "; its server did NOT live on"
                figures["faults"][name] = {**judged(world, deadline_s), "note": note}
                asked[name] = [one for backend in world.backends for one in backend.asked]
            console().print(f"{name}: {note}; {told(figures['faults'][name])}")
    if arguments.only == list(FAULTS):
        draw(asked, deadline_s, arguments.out / "faults.png")
    return figures


def judged(world: World, deadline_s: float) -> dict[str, Any]:
    """One fault's requests, counted; `in_time`: answered within the deadline and the margin."""
    asked = [one for backend in world.backends for one in backend.asked]
    paths = Counter(path_of(one, world) for one in asked)
    answered = [one for one in asked if one.path]
    late_ms = np.array([one.late_s for one in asked] or [0.0]) * 1e3
    return {
        "sent": len(asked),
        "answered": len(answered),
        "in_time": sum(one.took_s <= deadline_s + MARGIN_S for one in answered),
        "in_deadline": sum(one.took_s <= deadline_s for one in answered),
        **{path: paths[path] for path in ("server", "other", "local", "rule")},
        "wrong": sum(is_wrong(one, world) for one in answered),
        "lost": paths["lost"],
        "errors": dict(Counter(one.error for one in asked if one.error)),
        "p50_ms": round(float(np.median([one.took_s for one in asked] or [0.0])) * 1e3, 2),
        "worst_ms": round(max((one.took_s for one in asked), default=0.0) * 1e3, 1),
        "unlogged": len({one.request_id for one in answered} - logged(world)),
        "begun_late_p99_ms": round(float(np.quantile(late_ms, 0.99)), 2),
    }


def path_of(one: Asked, world: World) -> str:
    """Who answered: "server" is the first that a backend was given, "other" one of the rest."""
    if one.path == "triton":
        return "server" if one.url in {backend.settings.urls[0] for backend in world.backends} else "other"
    return one.path or "lost"


def is_wrong(one: Asked, world: World) -> bool:
    """Whether it differs from what the file of that version says to the same rows, beyond the parity allowed."""
    models = world.models
    if one.path == "rule":
        expected_s = models.rule_s
    elif one.path == "local":
        expected_s = models.said_s["first"]
    elif (name := world.models_of.get((one.url, one.version))) is not None:
        expected_s = models.said_s[name]
    else:
        return True
    ends = expected_s[[one.row, one.row + one.n_rows - 1]]
    return bool(np.abs(np.array(one.said_s) - ends).max() > LIMITS.parity_s)


def logged(world: World) -> set[str]:
    """The ids of all answers in the logs."""
    found: set[str] = set()
    for log in world.logs:
        if log.exists():
            with closing(sqlite3.connect(log)) as connection:
                found.update(name for (name,) in connection.execute("SELECT request_id FROM predictions"))
    return found


def missed(figures: dict[str, Any]) -> list[str]:
    """The goals that were not reached."""
    told = []
    for name, said in figures["faults"].items():
        for what, count in (("not answered", said["sent"] - said["answered"]), ("wrong", said["wrong"])):
            told += [f"{name}: {count} {what}"] if count else []
        told += [f"{name}: {said['unlogged']} not in the log"] if said["unlogged"] else []
        if said["in_time"] < SHARE_IN_TIME * said["sent"] or not said["sent"]:
            told.append(f"{name}: {share(said):.2f} % within {figures['deadline_ms'] + 1e3 * MARGIN_S:g} ms")
        told += [f"{name}: {said['note']}"] if "NOT" in said["note"] else []
    return told


def share(said: dict[str, Any]) -> float:
    """Per cent in time, rounded down, so that 100 means all."""
    return float(np.floor(1e4 * said["in_time"] / max(said["sent"], 1)) / 1e2)


def cells(said: dict[str, Any]) -> Sequence[str]:
    paths = (f"{said[path]:,}" for path in ("server", "other", "local", "rule", "wrong", "lost"))
    counts = (f"{said['sent']:,}", f"{said['answered']:,}", f"{share(said):.2f}")
    return (*counts, *paths, f"{said['worst_ms']:.1f}", f"{said['unlogged']:,}")


def told(said: dict[str, Any]) -> str:
    return ", ".join(f"{name} {cell}" for name, cell in zip(COLUMNS, cells(said), strict=True))


def show(figures: dict[str, Any]) -> None:
    title = f"{figures['rps']:g} requests/s, deadline {figures['deadline_ms']:g} ms, in time: + {1e3 * MARGIN_S:g} ms"
    table = Table(title=title, title_justify="left")
    for heading in ("fault", *COLUMNS):
        table.add_column(heading, justify="left" if heading == "fault" else "right")
    for name, said in figures["faults"].items():
        table.add_row(name, *cells(said))
    console().print(table)


def page(figures: dict[str, Any]) -> str:
    """The table in Markdown, once every fault was tried."""
    if figures["faults"].keys() != FAULTS.keys():
        return ""
    lines = [f"| fault | {' | '.join(COLUMNS)} | what was done |", f"|---|{'---|' * len(COLUMNS)}---|"]
    for name, said in figures["faults"].items():
        lines.append(f"| {name} | {' | '.join(cells(said))} | {said['note']} |")
    return "\n".join(lines)
