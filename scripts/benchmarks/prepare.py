"""Preparation: raw Parquet in; cleaned, joined to weather and incidents, sorted and cut by time, Parquet out.

The same job by Hailtime, by hand-written Polars and by plain pandas, on the same simulated trips, each in a process
of its own and in turns; the results must hold the same rows. Hailtime comes twice: as it is, and without what the jobs
by hand do not make, which are the profile, the fingerprint, the leakage check and the page. Then Hailtime alone on
three times the rows, to show that memory does not grow with them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
from omegaconf import OmegaConf
from rich.table import Table

from benchmarks import prepare_by_hand
from hailtime.config import CONFIGS
from hailtime.preparation import dataset
from hailtime.preparation.ahead import ahead
from hailtime.preparation.clean import clean_rows, cleaning_plan
from hailtime.preparation.dataset import prepare
from hailtime.preparation.join import ConditionJoin, keys_of
from hailtime.preparation.parts import PartWriter
from hailtime.preparation.profile import Profile
from hailtime.report import console
from hailtime.schema import Schema
from hailtime.sources import RawData
from hailtime.sources.files import load as load_files
from hailtime.sources.simulated_city import load as load_city

TABLES = ("weather", "incidents")
PARTS = ("train", "validation", "calibration", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=10_000_000, help="requests of the comparison")
    parser.add_argument("--many", type=int, default=30_000_000, help="requests Hailtime prepares alone; 0: none")
    parser.add_argument("--turns", type=int, default=3, help="of each job; the one in the middle counts")
    parser.add_argument("--data", type=Path, help="keep the made trips here and use them again")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as made:
        home = arguments.data or Path(made)
        trips = make_trips(home / f"trips_{arguments.rows}", arguments.rows)
        # every second turn backwards, so that none always comes after pandas and the 8 GB that it leaves
        orders = [list(JOBS) if turn % 2 == 0 else list(JOBS)[::-1] for turn in range(arguments.turns)]
        turns = [{name: run_job(name, trips, Path(made) / name) for name in order} for order in orders]
        jobs = {name: middle([turn[name] for turn in turns]) for name in JOBS}
        if len({job["checksum"] for job in jobs.values()}) != 1:
            raise SystemExit(f"the jobs must give the same rows, got {jobs}")
        figures = {"rows": arguments.rows, "jobs": jobs}
        if arguments.many:
            many = make_trips(home / f"trips_{arguments.many}", arguments.many)
            figures["many"] = {"rows": arguments.many, **run_job("hailtime", many, Path(made) / "many")}
    return figures


def middle(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The turn of median seconds (of two, the slower), with the seconds of all."""
    by_time = sorted(turns, key=lambda turn: float(turn["seconds"]))
    return {**by_time[len(turns) // 2], "seconds_of_turns": [round(turn["seconds"], 2) for turn in turns]}


def make_trips(folder: Path, n_rows: int) -> Path:
    """Raw trips in files of 250,000 rows, and their conditions."""
    if (folder / "complete").exists():
        return folder
    (folder / "trips").mkdir(parents=True, exist_ok=True)
    raw = load_city(n_requests=n_rows)
    for number, block in enumerate(raw.blocks()):
        block.write_parquet(folder / "trips" / f"{number:05}.parquet", compression_level=1)
    for name in TABLES:
        raw.conditions[name].write_parquet(folder / f"{name}.parquet")
    (folder / "complete").touch()
    return folder


def settings() -> dict[str, Any]:
    """The simulated city's settings with two of its conditions."""
    read: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / "source" / "simulated_city.yaml"))
    columns = read["schema"]["columns"]
    read["schema"]["columns"] = {k: v for k, v in columns.items() if v.get("condition") in (None, *TABLES)}
    read["conditions"] = {name: read["conditions"][name] for name in TABLES}
    return dict(read)


def hailtime_job(trips: Path, out: Path) -> dict[str, Any]:
    raw = read_raw(trips)
    prepared = prepare(raw, settings(), out)
    return {"stages_s": prepared.report["seconds"], "clean_and_join_s": clean_and_join_s(raw)}


def rows_alone_job(trips: Path, out: Path) -> dict[str, Any]:
    """What the jobs by hand do and no more: the rows, and how many each rule caught."""
    with ExitStack() as left_out:
        for owner, name in ((Profile, "add"), (Profile, "add_raw"), (PartWriter, "digest"), (dataset, "write_page")):
            # a function, because a mock would keep every block it is given
            left_out.enter_context(patch.object(owner, name, lambda *_: None))
        left_out.enter_context(patch.object(dataset, "find_leaks", lambda *_: {"suspicions": []}))
        return {"stages_s": prepare(read_raw(trips), settings(), out).report["seconds"]}


def read_raw(trips: Path) -> RawData:
    names = pl.read_parquet_schema(next((trips / "trips").glob("*.parquet")))
    names.pop("routing_eta_s", None)  # as in a yaml of one's own: what no column or rule asks for is not read
    raw = load_files(trips / "trips", {name: _as_it_is(name) for name in names})
    return RawData(raw.trips, {name: pl.read_parquet(trips / f"{name}.parquet") for name in TABLES})


def clean_and_join_s(raw: RawData) -> float:
    """Reading, every rule of one row, and both joins, block by block as they come; nothing is sorted or written."""
    source = settings()
    schema = Schema.from_dict(source["schema"])
    plan = cleaning_plan(schema, source["rules"], keys_of(schema, source["conditions"]))
    start = time.perf_counter()
    joins = ConditionJoin(raw.conditions, schema, source["conditions"])
    rows = 0
    for good, _, _ in ahead(lambda block: clean_rows(block, plan), raw.blocks()):
        rows += joins.join(good.select(plan.columns)).height
    return time.perf_counter() - start


def _as_it_is(name: str) -> Any:
    return {"column": name, "unit": "us"} if name.endswith("_at") else name


JOBS = {
    "hailtime": hailtime_job,
    "hailtime, rows alone": rows_alone_job,
    "polars by hand": prepare_by_hand.with_polars,
    "pandas by hand": prepare_by_hand.with_pandas,
}


def run_job(name: str, trips: Path, out: Path) -> dict[str, Any]:
    """One job in a process of its own: seconds, peak memory, and what its result holds.

    Every job finds its input in the page cache and the disk idle, whatever the job before it left to be written.
    """
    os.sync()
    for file in trips.rglob("*.parquet"):
        file.read_bytes()
    command = [sys.executable, "-m", "benchmarks.prepare", name, str(trips), str(out)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    told = {**json.loads(done.stdout.splitlines()[-1]), **contents(out)}
    shutil.rmtree(out)
    return told


def contents(out: Path) -> dict[str, Any]:
    """Rows, and a sum over all parts that any other row, value or cut would change."""
    n_rows, total = 0, 0
    for place, part in enumerate(PARTS, 1):
        rows = pl.scan_parquet(out / part / "*.parquet").select(
            pl.len(),
            total=(
                (pl.col("pickup_time_s") * 1e6).round().cast(pl.Int64)
                + (pl.col("rain_mm_h").fill_null(-1) * 10).round().cast(pl.Int64) * 7
                + pl.col("incidents_active").fill_null(-1).cast(pl.Int64) * 13
                + (pl.col("driver_lat").fill_null(-1) * 1e5).round().cast(pl.Int64)
                + pl.col("request_id").str.len_bytes().cast(pl.Int64)
            ).sum(),
        )
        length, part_total = rows.collect(engine="streaming").row(0)
        n_rows, total = n_rows + length, total + place * part_total
    return {"rows_out": n_rows, "checksum": total}


def main() -> None:
    name, trips, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    start = time.perf_counter()
    extra = JOBS[name](trips, out)
    spent_s = time.perf_counter() - start - extra.get("clean_and_join_s", 0.0)
    sys.stdout.write(json.dumps({"seconds": spent_s, "peak_gb": peak_gb(), **extra}) + "\n")


def peak_gb() -> float:
    """The most memory this process has held; Linux's ru_maxrss would count the parent's, too."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9, 2)


def show(figures: dict[str, Any]) -> None:
    table = Table(title=f"{figures['rows']:,} raw trips with weather and incidents", title_justify="left")
    for heading in ("job", "seconds", "million rows/s", "times Hailtime", "peak GB"):
        table.add_column(heading, justify="left" if heading == "job" else "right")
    jobs = {**figures["jobs"]}
    if "many" in figures:
        jobs[f"hailtime, {figures['many']['rows']:,} trips"] = figures["many"]
    base = figures["jobs"]["hailtime"]["seconds"] / figures["rows"]
    for name, job in jobs.items():
        rows = job.get("rows", figures["rows"])
        spent = job["seconds"]
        cells = (f"{spent:.1f}", f"{rows / spent / 1e6:.2f}", f"{spent / rows / base:.2f}", f"{job['peak_gb']:.2f}")
        table.add_row(name, *cells)
    console().print(table)
    stages = figures["jobs"]["hailtime"]["stages_s"]
    rows_per_s = figures["rows"] / figures["jobs"]["hailtime"]["clean_and_join_s"]
    console().print(f"reading, cleaning and joining alone: {rows_per_s / 1e6:.2f} million rows/s")
    console().print(
        "Hailtime's stages, s (some run beside each other): "
        + ", ".join(f"{name} {spent:.1f}" for name, spent in stages.items())
    )


def page(figures: dict[str, Any]) -> str:
    """The table of docs/benchmarks.md."""
    jobs = figures["jobs"]
    by_hand = jobs["polars by hand"]["seconds"]
    lines = ["| job | seconds, median (each turn) | against Polars by hand | peak memory, GB |", "|---|---|---|---|"]
    for name, job in jobs.items():
        turns = ", ".join(f"{spent:.1f}" for spent in job["seconds_of_turns"])
        times = f"{job['seconds'] / by_hand:.2f} ×"
        lines.append(f"| {name} | {job['seconds']:.1f} ({turns}) | {times} | {job['peak_gb']:.2f} |")
    if many := figures.get("many"):
        lines.append(f"| hailtime, {many['rows']:,} trips | {many['seconds']:.1f} | | {many['peak_gb']:.2f} |")
    rows_per_s = figures["rows"] / jobs["hailtime"]["clean_and_join_s"]
    lines += ["", f"Reading, cleaning and joining alone: {rows_per_s / 1e6:.2f} M rows/s."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
