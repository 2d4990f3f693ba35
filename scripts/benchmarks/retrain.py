"""Sixty days of daily retraining in a city that changes on the way, with everything real but the riders.

Each day a Triton answers the day's requests by its live version, the log is written as a client would, the monitor
looks every hour, and at the end of the day `retrain` decides, trains, judges, gates and deploys directly to that
Triton. Beside it: the first model never retrained, and the best possible (the truth that the city drew from). What each
decision was worth is known a day later: a promotion is wrong when the new version is worse on the next day than the one
before by more than the gate's margin, a refusal when the refused one would have been better by more than that.

Left out: shadow, canary and watch (tests/triton/test_retrain.py), and the client between riders and Triton.
"""

import argparse
import json
import logging
import os
import shutil
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from omegaconf import open_dict

from hailtime import clock
from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile, transaction
from hailtime.config import CONFIGS, train_config
from hailtime.evaluate import evaluate
from hailtime.export import export
from hailtime.monitoring.alerts import Rule, read_rules
from hailtime.monitoring.duty import Duty
from hailtime.monitoring.log_source import LogSource
from hailtime.monitoring.models import live_model, released_s
from hailtime.monitoring.store import MonitorStore
from hailtime.monitoring.watch import Watch
from hailtime.plots import BLUE, GREY, ORANGE, new_figure, save
from hailtime.preparation.dataset import prepare
from hailtime.preparation.join import join_conditions
from hailtime.report import console
from hailtime.retraining.champion import INPUTS, answers, live_version
from hailtime.retraining.retrain import retrain
from hailtime.retraining.settings import RetrainSettings
from hailtime.schema import Schema
from hailtime.serving.control import TritonControl
from hailtime.serving.deploy import deploy
from hailtime.serving.places import version_folder
from hailtime.serving.triton import TritonServer
from hailtime.sources.prediction_log import as_trips, join_settings
from hailtime.sources.simulated_city import load
from hailtime.training.features import raw_inputs
from hailtime.training.train import train

START, FIRST_DAYS = date(2026, 1, 12), 28
# what happens when, as a share of the days
EVENTS = {
    "snow day": 0.13,
    "closure": 0.25,
    "app release": 0.42,
    "broken unit": 0.55,
    "opened again": 0.68,
    "second snow day": 0.82,
}
SIZE = ["network.width=128", "network.depth=2", "trainer=cpu", "callbacks.early_stopping.patience=3"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--per-day", type=int, default=3000, help="requests a day")
    parser.add_argument("--epochs", type=int, default=4, help="of each retraining")
    parser.add_argument("--keep-at", type=Path, help="keep what it leaves in this folder")


@dataclass
class World:
    """The city's requests with what happened, and where things lie."""

    folder: Path
    schema: Schema
    rows: pl.DataFrame
    events: dict[str, int]
    days: list[dict[str, Any]] = field(default_factory=list)

    def day(self, k: int) -> pl.DataFrame:
        """The requests of the k-th day of the play (from 0); before it are negative ones."""
        return self.rows.filter(pl.col("day") == k).drop("day")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    folder = arguments.keep_at or Path(tempfile.mkdtemp(prefix="hailtime-retrain-"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.perf_counter()
    world = make_world(folder, arguments.days, arguments.per_day)
    first = first_model(world)
    (folder / "models").mkdir()
    try:
        with TritonServer(folder / "models", grpc_port=0, metrics_port=0) as server:
            set_clock(world.day(-1))
            deploy(first, folder / "models", server.url, why="the first model")
            for k in range(arguments.days):
                live_day(world, server, first, k)
                night(world, settings_of(world, server, arguments), k)
                logging.getLogger("hailtime.bench").warning("%s", world.days[-1])
    finally:
        os.environ.pop(clock.VARIABLE, None)
    figures = summary(world)
    draw(world.days, world.events, arguments.out / "retrain.png")
    if arguments.keep_at is None:
        shutil.rmtree(folder)
    return {"per_day": arguments.per_day, "seconds": round(time.perf_counter() - began), **figures}


def make_world(folder: Path, days: int, per_day: int) -> World:
    """All requests of the first weeks and the played days, with the joined columns as they were known."""
    events = {name: round(share * days) for name, share in EVENTS.items()}

    def on(k: int) -> str:
        return str(START + timedelta(days=FIRST_DAYS + k))

    scenarios = [
        {"kind": "closure", "from": on(events["closure"]), "to": on(events["opened again"])},
        {"kind": "app_release", "from": on(events["app release"])},
        *({"kind": "snow_day", "from": on(events[name])} for name in ("snow day", "second snow day")),
    ]
    source = yaml.safe_load((CONFIGS / "source" / "simulated_city.yaml").read_text())
    schema = Schema.from_dict(source["schema"])
    raw = load(per_day * (FIRST_DAYS + days), START, FIRST_DAYS + days, seed=11, dirt=0.0, scenarios=scenarios)
    rows = join_conditions(raw.table().sort("requested_at"), raw.conditions, schema, source["conditions"])
    seconds = (pl.col("arrived_at") - pl.col("requested_at")) / 1e6
    local = pl.from_epoch("requested_at", time_unit="us").dt.replace_time_zone("UTC")
    day = (local.dt.convert_time_zone(schema.timezone).dt.date() - START).dt.total_days() - FIRST_DAYS
    rows = rows.with_columns(day.cast(pl.Int64).alias("day"), seconds.alias(schema.target))
    broken = pl.when(pl.col("day") == events["broken unit"]).then(pl.col("driver_busy_s") * 1000)  # milliseconds
    rows = rows.with_columns(broken.otherwise(pl.col("driver_busy_s")).alias("driver_busy_s"))
    return World(folder, schema, rows.select("day", *(column.name for column in schema.columns)), events)


def first_model(world: World) -> Path:
    """Trained on the first weeks as any run is."""
    settings = {
        "load": {"_target_": "hailtime.sources.prediction_log.load"},
        "schema": world.schema.to_dict(),
        "conditions": join_settings(world.schema),
        "split": {"validation": 0.75, "calibration": 0.82, "test": 0.9, "gap_s": 600},
        "slices": ["rain_mm_h"],
    }
    before = world.rows.filter(pl.col("day") < 0).drop("day")
    prepare(as_trips(before, world.schema), json.loads(json.dumps(settings)), world.folder / "first_data")
    config = train_config(["run_name=first", "trainer.max_epochs=10", *SIZE])
    with open_dict(config):
        config.source, config.prepared = settings, str(world.folder / "first_data")
    train(config, world.folder / "first")
    evaluate(world.folder / "first", against=())
    export(world.folder / "first")
    return world.folder / "first"


def settings_of(world: World, server: TritonServer, arguments: argparse.Namespace) -> RetrainSettings:
    return RetrainSettings.read(
        CONFIGS / "retrain.yaml",
        [
            f"log={world.folder / 'log.sqlite'}",
            f"store={world.folder / 'monitor.sqlite'}",
            f"repository={world.folder / 'models'}",
            f"folder={world.folder / 'retrain'}",
            f"url={server.url}",
            "rollout=direct",
            "due.every_h=20",
            "window.alert_lag_min=300",  # of windows of four hours (small_city_rules)
            f"window.min_rows={min(1500, arguments.per_day // 2)}",
            "keep=3",
            "train.trainer.accelerator=cpu",
            f"train.trainer.max_epochs={arguments.epochs}",
        ],
    )


def live_day(world: World, server: TritonServer, first: Path, k: int) -> None:
    """A day's requests answered by the live version, written to the log and looked at; errors of all."""
    rows, models = world.day(k), world.folder / "models"
    actual_s = rows[world.schema.target].to_numpy()
    version = live_version(models)
    with TritonControl(server.url, models) as control:
        said = control.ask(version, dict(zip(INPUTS, raw_inputs(world.schema, rows), strict=True)))
    write_log(world, rows, said, version)

    def error(p50_s: Any) -> float:
        return round(float(np.abs(p50_s - actual_s).mean()), 3)

    found = {
        "day": k,
        "events": [name for name, day in world.events.items() if day == k],
        "version": version,
        "mae_s": error(said[:, 1]),
        "never_s": error(answers(first / "model.onnx", world.schema, rows)[:, 1]),
        "best_s": error(rows["true_median_s"].to_numpy()),
    }
    if world.days:
        found |= check_last(world, rows, error)
    world.days.append(found)
    look(world, rows)


def check_last(world: World, rows: pl.DataFrame, error: Any) -> dict[str, Any]:
    """What last night's decision was worth on this day: the challenger against the version before it."""
    last = world.days[-1]
    challenger = last.get("challenger")
    if challenger is None:
        return {}
    before = version_folder(world.folder / "models", last["version"]) / "model.onnx"
    old_s, new_s = (error(answers(Path(file), world.schema, rows)[:, 1]) for file in (before, challenger))
    return {"last_night": last["kind"], "challenger_s": new_s, "before_s": old_s}


def night(world: World, settings: RetrainSettings, k: int) -> None:
    set_clock(world.day(k))
    started = time.perf_counter()
    outcome = retrain(settings)
    told = world.days[-1]
    told |= {"kind": outcome.kind, "why": outcome.why, "retrain_seconds": round(time.perf_counter() - started, 1)}
    if outcome.folder is not None:
        told["because"] = json.loads((outcome.folder / "report.json").read_text())["because"]
        challenger = outcome.folder / "run" / "model.onnx"
        if challenger.exists():
            kept = world.folder / "challengers" / f"{k}.onnx"
            kept.parent.mkdir(exist_ok=True)
            shutil.copyfile(challenger, kept)
            told["challenger"] = str(kept)


def look(world: World, rows: pl.DataFrame) -> None:
    """The monitor's hours of this day."""
    rules = small_city_rules()
    models = world.folder / "models"
    source, store = LogSource(world.folder / "log.sqlite"), MonitorStore(world.folder / "monitor.sqlite")
    duty = Duty(Watch(source, store, live_model(models)), rules, [], lambda: released_s(models))
    first_s = int(rows[world.schema.requested_at].min()) // 1_000_000  # type: ignore[arg-type]
    for hour in range(1, 25):
        duty.once(first_s + hour * 3600)


def small_city_rules() -> list[Rule]:
    """The alerts as they are shipped, with windows in which thousands of requests a day are enough rows."""
    said = yaml.safe_load((CONFIGS / "alerts.yaml").read_text())
    return read_rules({name: {**rule, "window_min": min(1440, 8 * rule["window_min"])} for name, rule in said.items()})


def write_log(world: World, rows: pl.DataFrame, said: Any, version: int) -> None:
    """As the client writes it, the ends as they came."""
    schema = world.schema
    kept = [json.dumps(row) for row in rows.select(*schema.numeric_names, *schema.categorical_names).to_dicts()]
    ids, at_us = rows[schema.id].to_list(), rows[schema.requested_at].to_list()
    each = zip(ids, at_us, said.astype(float).tolist(), kept, strict=True)
    answered = [(i, us, us // 1_000_000, str(version), "triton", *q, 0.002, inputs) for i, us, q, inputs in each]
    ends = zip(ids, rows[schema.target].to_list(), at_us, strict=True)
    with closing(LogFile(world.folder / "log.sqlite", 5.0).connection()) as connection, transaction(connection):
        connection.executemany(INSERT["predictions"], answered)
        connection.executemany(INSERT_ACTUAL, [(i, s, None, int(us + s * 1e6)) for i, s, us in ends])


def set_clock(rows: pl.DataFrame) -> None:
    """To an hour after the last request: nearly all have come to their end."""
    last_s = int(rows["requested_at"].max()) / 1e6  # type: ignore[arg-type]
    os.environ[clock.VARIABLE] = str(clock.Played(last_s + 3600, 1, time.time()))


def summary(world: World) -> dict[str, Any]:
    days = world.days
    margin = RetrainSettings.read(CONFIGS / "retrain.yaml").gates.margin
    checked = [day for day in days if "last_night" in day]
    for day in checked:
        day["gain"] = round(1 - day["challenger_s"] / day["before_s"], 4)
        day["wrong"] = day["gain"] < -margin if day["last_night"] == "live" else day["gain"] > margin
    changed = [day["day"] for day in days if day["events"]] + [world.events["snow day"] + 1]
    changed.append(world.events["second snow day"] + 1)

    def wrong(kind: str) -> list[int]:
        return [day["day"] for day in checked if day["last_night"] == kind and day["wrong"]]

    means = {name: round(float(np.mean([day[f"{name}_s"] for day in days])), 2) for name in ("mae", "never", "best")}
    return {
        "margin": margin,
        "events": world.events,
        "mean_s": means,
        "over_best": round(means["mae"] / means["best"], 4),
        "promoted": sum(day["last_night"] == "live" for day in checked),
        "refused": sum(day["last_night"] == "refused" for day in checked),
        "promoted_wrongly": wrong("live"),
        "promoted_wrongly_though_nothing_changed": [k for k in wrong("live") if k not in changed],
        "refused_wrongly": wrong("refused"),
        "retrain_seconds": round(float(np.median([day["retrain_seconds"] for day in days])), 1),
        "days": [{name: value for name, value in day.items() if name != "challenger"} for day in days],
    }


def draw(days: list[dict[str, Any]], events: dict[str, int], picture: Path) -> None:
    """Error of each day: retrained daily, never retrained, best possible; what happened on the way."""
    figure, (axes,) = new_figure(1)
    figure.set_size_inches(9, 4)
    at = [day["day"] for day in days]
    for name, color, label in (
        ("never", ORANGE, "never retrained"),
        ("mae", BLUE, "retrained daily"),
        ("best", GREY, "best possible"),
    ):
        axes.plot(at, [day[f"{name}_s"] for day in days], color=color, marker=".", label=label)
    for k in sorted(set(events.values())):
        names = ", ".join(name for name, day in events.items() if day == k)
        axes.axvline(k, color="black", linewidth=0.6, linestyle=":")
        axes.text(k, axes.get_ylim()[1], f" {names}", rotation=90, va="top", ha="right", fontsize=7)
    axes.set(xlabel="day", ylabel="mean absolute error, s", title="Error by day, the world changing on the way")
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    save(figure, picture)


def show(figures: dict[str, Any]) -> None:
    console().print(page(figures))


def page(figures: dict[str, Any]) -> str:
    mean, days = figures["mean_s"], figures["days"]
    return "\n".join(
        [
            f"{len(days)} days of {figures['per_day']:,} requests, a retraining a day: mean error {mean['mae']:.1f} s, "
            f"never retrained {mean['never']:.1f} s, best possible {mean['best']:.1f} s, "
            f"retrained {figures['over_best']:.3f} times that.",
            "",
            "| decisions | number | wrong a day later by more than "
            f"{figures['margin']:.1%} | of these on days without a change |",
            "|---|---|---|---|",
            f"| promoted | {figures['promoted']} | {len(figures['promoted_wrongly'])} | "
            f"{len(figures['promoted_wrongly_though_nothing_changed'])} |",
            f"| refused | {figures['refused']} | {len(figures['refused_wrongly'])} | |",
            "",
            f"What happened, by day: {', '.join(f'{name} {day}' for name, day in figures['events'].items())}. "
            f"A retraining took {figures['retrain_seconds']:g} s, all {figures['seconds'] / 60:.0f} minutes.",
        ]
    )
