"""Monitoring: a log of 10 million answers joined with what came true and summed up, and drift of 20 columns.

Drift of 1 million rows beside Evidently, which gets an environment of its own (1 GB). Each part runs in a process of
its own, so that its memory is its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from benchmarks.drift_peer import EVIDENTLY, side_by_side
from benchmarks.monitor_data import DRIFT_SCHEMA, LOG_SCHEMA, ZONES, drift_frame, write_log
from benchmarks.peer_install import install
from benchmarks.prepare import peak_gb
from hailtime.histograms import reference_histograms
from hailtime.monitoring.accuracy import measures
from hailtime.monitoring.drift import ColumnCounts, drift_of
from hailtime.monitoring.log_source import LogSource
from hailtime.monitoring.store import MonitorStore
from hailtime.monitoring.watch import Watch, WatchedModel
from hailtime.report import console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--no-peers", action="store_true", help="without Evidently")
    parser.add_argument("--log", type=Path, help="keep the made log here and use it again")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as made:
        log = (arguments.log or Path(made) / "log.sqlite").absolute()
        if not log.exists():
            console().print(f"writing a log of {arguments.rows:,} answers")
            write_log(log, arguments.rows)
        parts: dict[str, tuple[str, ...]] = {"log": (str(log), made), "drift": (str(arguments.rows), made)}
        if not arguments.no_peers:
            parts["peers"] = (made, str(install("evidently", EVIDENTLY) / "python"))
        return {"rows": arguments.rows, **{name: run_part(name, *given) for name, given in parts.items()}}


def run_part(name: str, *given: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.monitor", name, *given]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def log_part(log: str, folder: str) -> dict[str, Any]:
    train = pl.DataFrame({"rain_mm_h": [0.0, 1.0], "pickup_zone": ZONES[:2], "pickup_time_s": [100.0, 500.0]})
    model = WatchedModel(LOG_SCHEMA, reference_histograms(LOG_SCHEMA, train))
    watch = Watch(LogSource(log), MonitorStore(Path(folder) / "monitor.sqlite"), model)
    start = time.perf_counter()
    hours = watch.read_on()
    read_s = time.perf_counter() - start
    start = time.perf_counter()
    whole = measures(watch.store.sums(), ["slice"], now_s=2**40, label_delay_s=7200).row(0, named=True)
    asked_s = time.perf_counter() - start
    return {"read_s": read_s, "measures_s": asked_s, "hours": len(hours), "n": whole["n"], "mae_s": whole["mae_s"]}


def drift_part(n_rows: str, folder: str) -> dict[str, Any]:
    reference = reference_histograms(DRIFT_SCHEMA, drift_frame(200_000, seed=1))
    blocks = [drift_frame(1_000_000, seed=2)]
    n_blocks = max(int(n_rows) // 1_000_000, 1)
    start = time.perf_counter()
    counts = {name: ColumnCounts.like(histogram) for name, histogram in reference.items() if name != "pickup_time_s"}
    for _ in range(n_blocks):
        for name, column in counts.items():
            column.add(blocks[0][name])
    drifts = {name: drift_of(reference[name], column).psi for name, column in counts.items()}
    return {"seconds": time.perf_counter() - start, "rows": n_blocks * 1_000_000, "columns": len(drifts)}


def peers_part(folder: str, python: str) -> dict[str, Any]:
    return side_by_side(Path(folder), python)


PARTS: dict[str, Callable[..., dict[str, Any]]] = {"log": log_part, "drift": drift_part, "peers": peers_part}


def show(figures: dict[str, Any]) -> None:
    table = Table(title=f"a log of {figures['rows']:,} answers", title_justify="left")
    for heading in ("part", "seconds", "peak GB"):
        table.add_column(heading)
    log, drift = figures["log"], figures["drift"]
    table.add_row("joined with actuals and summed up by hour", f"{log['read_s']:.1f}", f"{log['peak_gb']:.2f}")
    table.add_row("measures over all hours, as the page asks", f"{log['measures_s']:.3f}", "")
    table.add_row(
        f"drift of {drift['rows']:,} x {drift['columns']}", f"{drift['seconds']:.1f}", f"{drift['peak_gb']:.2f}"
    )
    console().print(table)
    if "peers" in figures:
        show_peers(figures["peers"])


def show_peers(found: dict[str, Any]) -> None:
    ours, theirs = found["hailtime"], found["evidently"]
    table = Table(title="drift of 1,000,000 x 20 against 200,000 rows of training, seconds", title_justify="left")
    for heading in ("what", "Hailtime", "Evidently", "times as long"):
        table.add_column(heading)
    anew = ours["drift_s"] + ours["reference_s"]
    lines = {
        "the methods alone; training's histograms are at hand": (ours["drift_s"], theirs["methods_s"]),
        "the methods alone; training's rows are read anew": (anew, theirs["methods_s"]),
        "as one asks for them (there a Report, with its pictures)": (ours["drift_s"], theirs["report_s"]),
        "the same with the import": (ours["drift_s"] + ours["import_s"], theirs["report_s"] + theirs["import_s"]),
    }
    for what, (one, other) in lines.items():
        table.add_row(what, f"{one:.2f}", f"{other:.2f}", f"{other / one:.0f}")
    console().print(table)
    farthest = max(found["compared"].items(), key=lambda entry: abs(entry[1][0] - entry[1][1]))
    console().print(f"{len(found['compared'])} values on the same bins; farthest apart: {farthest[0]} {farthest[1]}")


if __name__ == "__main__":
    found = PARTS[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(json.dumps({**found, "peak_gb": peak_gb()}) + "\n")
