"""The monitor's page over a store as of 90 days: 10 million answers of 60 zones and 2 versions, seconds a view.

Made by the server, and on the screen of a Chromium that opens the page for the first time. One hour's sums are stored
under every hour's name, so making the store takes a minute or two and not a day.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
from rich.table import Table

from benchmarks.monitor_data import DRIFT_SCHEMA, ZONES, drift_frame
from benchmarks.page_browser import openings
from hailtime.config import CONFIGS
from hailtime.histograms import reference_histograms
from hailtime.monitoring.arrivals import arrivals_of
from hailtime.monitoring.hours import HOUR_S, summarise
from hailtime.monitoring.page.app import VIEWS
from hailtime.monitoring.page.now import now
from hailtime.monitoring.page.watched import Watched
from hailtime.monitoring.settings import MonitorSettings
from hailtime.monitoring.situation import count_columns
from hailtime.monitoring.store import MonitorStore
from hailtime.report import console
from hailtime.rollout import Rollout
from hailtime.serving.config_file import write_config
from hailtime.serving.places import CONFIG, model_folder, version_folder

START_S, DAYS, N_ANSWERS, TIMES = 1_768_176_000, 90, 10_000_000, 5
END_S = START_S + DAYS * 24 * HOUR_S
GOAL_S = 1.0  # until the first view has all its pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=int, nargs="+", default=[7, 90], help="how far back the views look")
    parser.add_argument("--no-browser", action="store_true", help="only what the server does")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_repository(folder)
        n_answers = write_store(folder / "monitor.sqlite")
        where = {"store": folder / "monitor.sqlite", "repository": folder, "log": folder / "log.sqlite"}
        watched = Watched(MonitorSettings.read(CONFIGS / "monitor.yaml", where), lambda: END_S)
        views = {"now": now, **{name: view for name, view in VIEWS.items() if name != "health"}}  # which reads the log
        seconds = {
            days: {name: fastest(view, watched, days) for name, view in views.items()} for days in arguments.days
        }
        opened = {} if arguments.no_browser else openings(watched, list(views))
        megabytes = where["store"].stat().st_size / 1e6
        return {"answers": n_answers, "megabytes": megabytes, "seconds": seconds, "opened": opened}


def missed(figures: dict[str, Any]) -> list[str]:
    seconds = figures["opened"].get("now", {}).get("pictures", 0.0)
    return [f"the first view is complete after {seconds:.2f} s, {GOAL_S:g} is the aim"] if seconds >= GOAL_S else []


def fastest(view: Any, watched: Watched, days: float) -> float:
    """Of some calls, as JSON, as the page asks for it; `now` looks back a day whatever is asked."""
    spent = []
    for _ in range(TIMES):
        start = time.perf_counter()
        json.dumps(view(watched, 1 if view is now else days))
        spent.append(time.perf_counter() - start)
    return min(spent)


def write_repository(folder: Path) -> None:
    """A live version with what training looked like."""
    histograms = reference_histograms(DRIFT_SCHEMA, drift_frame(50_000, seed=1))
    model = onnx.helper.make_model(onnx.helper.make_graph([], "nothing", [], []))
    said = {"hailtime.schema": DRIFT_SCHEMA.to_json(), "hailtime.histograms": json.dumps(histograms)}
    onnx.helper.set_model_props(model, said)
    version_folder(folder, 1).mkdir(parents=True)
    onnx.save(model, version_folder(folder, 1) / "model.onnx")
    (model_folder(folder) / CONFIG).write_text(write_config(DRIFT_SCHEMA, (1,), Rollout(1)))


def write_store(path: Path) -> int:
    """The same hour again and again. How many answers that makes."""
    hours = range(START_S, END_S, HOUR_S)
    rows = one_hour(N_ANSWERS // len(hours))
    slices = {"zone": pl.col("zone"), "weather": pl.lit("dry")}
    sums, arrivals = summarise(rows, slices), arrivals_of(rows, 7200)
    histograms = reference_histograms(DRIFT_SCHEMA, drift_frame(50_000, seed=1))
    columns = count_columns(rows, histograms, "pickup_time_s")
    store = MonitorStore(path)
    for hour_s in hours:
        store.replace_hour(hour_s, sums, columns, arrivals)
    n = rows.height * len(hours)
    store.set_state(read_at_s=END_S, pace={"at_s": END_S, "n": n // DAYS // 288, "last_s": END_S, "n_ahead": 0})
    return n


def one_hour(n: int) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    p50 = rng.gamma(3, 100, n)
    said = {"p10_s": p50 * 0.6, "p50_s": p50, "p90_s": p50 * 1.6, "latency_s": rng.lognormal(-7, 0.3, n)}
    inputs = drift_frame(n, seed=2).drop("pickup_time_s")
    return inputs.with_columns(
        **{name: pl.Series(values) for name, values in said.items()},
        version=pl.Series(rng.choice(["1", "2"], n)),
        path=pl.lit("triton"),
        zone=pl.Series(rng.choice(ZONES, n)),
        pickup_time_s=pl.Series(p50 * rng.lognormal(0, 0.35, n)),
        requested_at_s=pl.lit(START_S),
        reported_at_us=pl.lit(START_S * 1_000_000),
        cancelled_after_s=pl.lit(None, pl.Float64),
        n_changed=pl.lit(0),
    )


def show(figures: dict[str, Any]) -> None:
    title = f"{figures['answers']:,} answers in {DAYS} days, a store of {figures['megabytes']:.0f} MB; seconds a view"
    table = Table(title=title, title_justify="left")
    table.add_column("view")
    for days in figures["seconds"]:
        table.add_column(f"{days} days", justify="right")
    for heading in ("first figures, 7 days", "all pictures"):
        table.add_column(heading, justify="right")
    for name in next(iter(figures["seconds"].values())):
        opened = (
            [f"{figures['opened'][name][part]:.2f}" for part in ("figures", "pictures")] if figures["opened"] else []
        )
        table.add_row(name, *(f"{seconds[name]:.3f}" for seconds in figures["seconds"].values()), *opened)
    console().print(table)
