"""A city that is watched, made in a second: a log of some simulated days, and a repository with the model behind it.

The answers are the quiet city's true medians with some noise; what really happened is the city's with its highway
closed from some hour on, so the model is wrong from then on and not before. In its last 20 hours a third of the
requests come without `incidents_active`.
"""

import json
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import yaml

from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile, transaction
from hailtime.histograms import reference_histograms
from hailtime.monitoring.log_source import LogSource
from hailtime.monitoring.settings import MonitorSettings
from hailtime.monitoring.store import MonitorStore
from hailtime.monitoring.watch import Watch, WatchedModel
from hailtime.rollout import Rollout
from hailtime.schema import Schema
from hailtime.serving.config_file import write_config
from hailtime.serving.history import new_change, write_down
from hailtime.serving.places import CONFIG, model_folder, version_folder
from hailtime.sources import simulated_city
from tests.tiny_run import tiny_model

CONFIGS = Path(__file__).parents[1] / "configs"
P10, P90 = 0.72, 1.42  # of the answer: about where 10 % and 90 % of the quiet pickups are


@dataclass(frozen=True)
class WatchedCity:
    """Where things lie; `now_s` is a moment after the log's last request. Some rows have no end yet."""

    folder: Path
    schema: Schema
    now_s: float

    @property
    def log(self) -> Path:
        return self.folder / "predictions.sqlite"

    @property
    def store(self) -> Path:
        return self.folder / "monitor.sqlite"

    @property
    def repository(self) -> Path:
        return self.folder / "model_repository"

    @cached_property
    def model(self) -> WatchedModel:
        return WatchedModel.load(version_folder(self.repository, 2) / "model.onnx")

    def read(self) -> None:
        Watch(LogSource(self.log), MonitorStore(self.store), self.model).read_on()
        pace = LogSource(self.log).pace(self.now_s)
        MonitorStore(self.store).set_state(read_at_s=self.now_s, pace=pace)


def make_city(
    folder: Path,
    n: int = 24_000,
    start: str = "2026-04-04",
    days: int = 4,
    closed_from: str | None = "2026-04-06T15:00",
) -> WatchedCity:
    """`n` requests; version 2 becomes the canary after a third of the days and everybody's after two thirds."""
    schema = Schema.from_dict(yaml.safe_load((CONFIGS / "source" / "simulated_city.yaml").read_text())["schema"])
    quiet = _requests(n, start, days, None)
    happened = _requests(n, start, days, closed_from)
    rows = _answers(quiet, happened)
    asked_s = rows["requested_at_s"]
    city = WatchedCity(folder, schema, float(asked_s.max()) + 60)
    moments = [float(asked_s.min()), *(float(asked_s.quantile(share)) for share in (1 / 3, 2 / 3))]
    write_repository(city.repository, schema, reference_histograms(schema, _inputs(quiet)), moments)
    write_log(city.log, _with_versions(rows, moments), schema, city.now_s)
    return city


def write_log(path: Path, rows: pl.DataFrame, schema: Schema, now_s: float) -> None:
    """All rows at once, a shadow's beside version 2's; what is known by `now_s` of their ends."""
    names = [
        "request_id",
        "answered_at_us",
        "requested_at_s",
        "version",
        "path",
        "p10_s",
        "p50_s",
        "p90_s",
        "latency_s",
    ]
    kept = [
        json.dumps(row) for row in rows.select(*schema.numeric_names, *schema.categorical_names).iter_rows(named=True)
    ]
    told = rows.filter(pl.col("reported_at_us") <= now_s * 1_000_000)
    with closing(LogFile(path, 5.0).connection()) as connection, transaction(connection):
        said = zip(rows.select(names).iter_rows(), kept, strict=True)
        connection.executemany(INSERT["predictions"], [(*row, features) for row, features in said])
        beside = rows.filter(pl.col("version") == "2").with_columns(
            pl.col("p10_s", "p50_s", "p90_s") * 0.9, version=pl.lit("3")
        )
        connection.executemany(INSERT["shadow_predictions"], ((*row, None) for row in beside.select(names).iter_rows()))
        ends = told.select("request_id", "pickup_time_s", "cancelled_after_s", "reported_at_us")
        connection.executemany(INSERT_ACTUAL, ends.iter_rows())


def write_repository(repository: Path, schema: Schema, histograms: dict, moments: list[float]) -> None:
    """Versions 1 and 2 with the histograms in them, and how they came: deployed, canary, promoted."""
    for version in (1, 2):
        write_model(repository, version, schema, histograms)
    (model_folder(repository) / CONFIG).write_text(write_config(schema, (1, 2), Rollout(2)))
    told = [
        ("deploy", 1, Rollout(1), "trained on the winter"),
        ("canary", 2, Rollout(1, canary=2, canary_percent=10), "trained on March, <b>careful</b>"),
        ("promote", 2, Rollout(2), "better by 2 % over the same hours"),
    ]
    for at_s, (action, version, plan, why) in zip(moments, told, strict=True):
        manifest = {"mae_s": 64.0 - version, "run": f"run-{version}", "data_fingerprint": "abc"}
        change = new_change(action, version, plan, action, manifest, why)
        write_down(repository, replace(change, at=datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")))


def write_model(repository: Path, version: int, schema: Schema, histograms: dict) -> None:
    """A version's file, of which the monitor reads what it carries."""
    folder = version_folder(repository, version)
    folder.mkdir(parents=True)
    model = tiny_model()
    said = {"hailtime.schema": schema.to_json(), "hailtime.histograms": json.dumps(histograms)}
    onnx.helper.set_model_props(model, said)
    onnx.save(model, folder / "model.onnx")


def _requests(n: int, start: str, days: int, closed_from: str | None) -> pl.DataFrame:
    """The city's trips with weather and traffic as they were, one row a request."""
    scenarios = [{"kind": "closure", "from": closed_from}] if closed_from else []
    raw = simulated_city.load(n, start, days, seed=7, dirt=0.0, scenarios=scenarios)
    trips = raw.table().sort("requested_at")
    for name, by in (("weather", None), ("traffic", "pickup_zone"), ("incidents", "pickup_zone")):
        table = raw.conditions[name].drop("known_at").sort("observed_at")
        trips = trips.join_asof(
            table, left_on="requested_at", right_on="observed_at", by=by, check_sortedness=False
        ).drop("observed_at")
    return trips


def _inputs(trips: pl.DataFrame) -> pl.DataFrame:
    return trips.with_columns(pickup_time_s=(pl.col("arrived_at") - pl.col("requested_at")) / 1e6)


def _answers(quiet: pl.DataFrame, happened: pl.DataFrame) -> pl.DataFrame:
    """What was said (the quiet city's median, 10 % noise) beside what happened; a twentieth was cancelled."""
    rng, n = np.random.default_rng(7), len(quiet)
    said = quiet.select("request_id", p50_s=pl.col("true_median_s") * pl.Series(rng.lognormal(0, 0.1, n)))
    rows = _inputs(happened).join(said, on="request_id")
    seconds, is_cancelled = pl.col("pickup_time_s"), pl.Series(rng.random(n) < 0.05)
    is_rule = pl.Series(rng.random(n) < 0.004)
    is_silent = (pl.col("requested_at") > rows["requested_at"].max() - 20 * 3600e6) & pl.Series(rng.random(n) < 0.3)
    return rows.with_columns(
        incidents_active=pl.when(~is_silent).then("incidents_active"),
        requested_at_s=pl.col("requested_at") // 1_000_000,
        answered_at_us=pl.col("requested_at") + 2_000,
        p10_s=pl.col("p50_s") * P10,
        p90_s=pl.col("p50_s") * P90,
        latency_s=pl.Series(rng.lognormal(-6.9, 0.35, n)),
        path=pl.when(is_rule).then(pl.lit("rule")).otherwise(pl.lit("triton")),
        reported_at_us=(pl.col("requested_at") + seconds * 1e6).cast(pl.Int64),
        cancelled_after_s=pl.when(is_cancelled).then(seconds / 2),
        pickup_time_s=pl.when(~is_cancelled).then(seconds),
    )


def _with_versions(rows: pl.DataFrame, moments: list[float]) -> pl.DataFrame:
    """Version 1, then a tenth of version 2, then all of it."""
    chance = pl.Series(np.random.default_rng(3).random(len(rows)))
    at_s = pl.col("requested_at_s")
    is_second = (at_s >= moments[2]) | ((at_s >= moments[1]) & (chance < 0.1))
    return rows.with_columns(version=pl.when(is_second).then(pl.lit("2")).otherwise(pl.lit("1")))


def page_settings(city: WatchedCity, **changes) -> MonitorSettings:
    """The settings as they are shipped, for this city."""
    where = {"log": city.log, "store": city.store, "repository": city.repository, "port": 0}
    return MonitorSettings.read(CONFIGS / "monitor.yaml", where | changes)
