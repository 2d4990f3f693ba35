"""Monitoring: a log of 10 million answers joined with what came true and summed up, and drift of 20 columns.

Each part runs in a process of its own, so that its memory is its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.table import Table

from benchmarks.prepare import peak_gb
from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile
from hailtime.histograms import reference_histograms
from hailtime.monitoring.accuracy import measures
from hailtime.monitoring.drift import ColumnCounts, drift_of
from hailtime.monitoring.log_source import LogSource
from hailtime.monitoring.store import MonitorStore
from hailtime.monitoring.watch import Watch, WatchedModel
from hailtime.report import console
from hailtime.schema import Schema

START_S = 1_768_176_000
A_SECOND = 116  # answers: ten million in a day
AT_ONCE = 200_000
ZONES = [f"zone {number}" for number in range(60)]
N_NUMERIC, N_TEXTS = 15, 5
DRIFT_SCHEMA = Schema.from_dict(
    {
        "source": "benchmark",
        "timezone": "UTC",
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            **{f"number_{i}": {"role": "numeric", "unit": "1"} for i in range(N_NUMERIC)},
            **{f"text_{i}": {"role": "categorical"} for i in range(N_TEXTS)},
            "pickup_time_s": {"role": "target", "unit": "s"},
        },
    }
)
LOG_SCHEMA = Schema.from_dict(
    {
        "source": "benchmark",
        "timezone": "UTC",
        "zone": "pickup_zone",
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            "rain_mm_h": {"role": "numeric", "unit": "mm/h"},
            "pickup_zone": {"role": "categorical"},
            "pickup_time_s": {"role": "target", "unit": "s"},
        },
    }
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--log", type=Path, help="keep the made log here and use it again")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as made:
        log = arguments.log or Path(made) / "log.sqlite"
        if not log.exists():
            console().print(f"writing a log of {arguments.rows:,} answers")
            write_log(log, arguments.rows)
        parts = {"log": (str(log), made), "drift": (str(arguments.rows), made)}
        return {"rows": arguments.rows, **{name: run_part(name, *given) for name, given in parts.items()}}


def run_part(name: str, *given: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.monitor", name, *given]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def write_log(path: Path, n_rows: int) -> None:
    """Answers with a zone and the rain, nine of ten arrived."""
    connection = LogFile(path, 5.0).connection()
    rng = np.random.default_rng(1)
    for first in range(0, n_rows, AT_ONCE):
        answers, ends = _some(rng, first, min(AT_ONCE, n_rows - first))
        connection.execute("BEGIN")
        connection.executemany(INSERT["predictions"], answers)
        connection.executemany(INSERT_ACTUAL, ends)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _some(rng: np.random.Generator, first: int, n: int) -> tuple[Iterator[Any], list[Any]]:
    p50, taken = rng.gamma(3, 100, n), rng.lognormal(0, 0.35, n)
    zones, rain = rng.integers(0, len(ZONES), n).tolist(), np.round(rng.exponential(0.2, n), 1).tolist()
    ids, at_s = [f"r{first + i:09d}" for i in range(n)], [START_S + (first + i) // A_SECOND for i in range(n)]
    kept = [f'{{"rain_mm_h": {mm}, "pickup_zone": "{ZONES[zone]}"}}' for mm, zone in zip(rain, zones, strict=True)]
    said = zip((p50 * 0.6).tolist(), p50.tolist(), (p50 * 1.6).tolist(), strict=True)
    answers = (
        (name, at * 1_000_000, at, "1", "triton", *quantiles, 0.001, text)
        for name, at, quantiles, text in zip(ids, at_s, said, kept, strict=True)
    )
    actual = (p50 * taken).tolist()
    arrived = (rng.random(n) < 0.9).tolist()
    ends = [
        (name, seconds, None, int((at + seconds) * 1e6))
        for name, at, seconds, is_there in zip(ids, at_s, actual, arrived, strict=True)
        if is_there
    ]
    return answers, ends


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


def drift_frame(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    numbers = {f"number_{i}": rng.gamma(1 + i, 1.0, n) for i in range(N_NUMERIC)}
    texts = {f"text_{i}": rng.choice(ZONES[: 3 + 4 * i], n) for i in range(N_TEXTS)}
    return pl.DataFrame({**numbers, **texts, "pickup_time_s": rng.gamma(3, 100, n)})


PARTS = {"log": log_part, "drift": drift_part}


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


if __name__ == "__main__":
    found = PARTS[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(json.dumps({**found, "peak_gb": peak_gb()}) + "\n")
