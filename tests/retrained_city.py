"""A small city whose live model can be retrained, made once: a run, a log of what was asked of it, a repository.

The run is trained on the first weeks; the log holds some days after that, in which the highway is closed from the
second day on. Everything is small, so that a whole retraining takes seconds.
"""

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile, transaction
from hailtime.evaluate import evaluate
from hailtime.export import export
from hailtime.preparation.join import join_conditions
from hailtime.retraining.champion import answers
from hailtime.retraining.settings import RetrainSettings
from hailtime.schema import Schema
from hailtime.sources.simulated_city import load
from hailtime.training.train import train
from tests.conftest import small_config

CONFIGS = Path(__file__).parents[1] / "configs"
START, DAYS, N = "2026-03-02", 12, 9000  # the first 9 days are the live model's
CLOSED_FROM = "2026-03-12"
LOG_FROM, LOG_DAYS = "2026-03-11", 3
JOINS = {
    "weather": {"key": None, "freshness_h": 3},
    "traffic": {"key": "pickup_zone", "freshness_h": 2},
    "incidents": {"key": "pickup_zone", "freshness_h": 12},
}


@dataclass(frozen=True)
class Town:
    """The live model's run, its later requests with what became of them, and the moment after the last one."""

    run: Path
    schema: Schema
    rows: pl.DataFrame
    now_s: float


def make_town(folder: Path) -> Town:
    """Trained and exported; `rows` are prepared rows of the days after."""
    config = small_config(
        folder / "prepared",
        f"source.load.start={START}",
        "source.load.days=9",
        "source.load.n_requests=6750",
        "trainer.max_epochs=4",
        "optimizer.lr=3e-3",
    )
    run = train(config, folder / "first")
    evaluate(run.folder, against=())
    export(run.folder)
    rows = asked_rows(run.schema)
    return Town(run.folder, run.schema, rows, float(rows["requested_at"].max()) / 1e6 + 7200)


def asked_rows(schema: Schema, closed: bool = True) -> pl.DataFrame:
    """What was asked in the days of the log, with the joined columns and what happened."""
    scenarios = [{"kind": "closure", "from": CLOSED_FROM}] if closed else []
    raw = load(N, START, DAYS, seed=7, dirt=0.0, scenarios=scenarios)
    begins = pl.datetime(2026, 3, 11, time_zone="America/New_York").dt.timestamp("us")
    trips = raw.table().filter(pl.col("requested_at") >= begins).sort("requested_at")
    joined = join_conditions(trips, raw.conditions, schema, JOINS)
    target = (pl.col("arrived_at") - pl.col("requested_at")) / 1e6
    return joined.with_columns(target.alias(schema.target)).select(column.name for column in schema.columns)


def write_log(path: Path, town: Town, rows: pl.DataFrame, version: int = 1, table: str = "predictions") -> None:
    """As a backend's client would have written it: answers of the town's first model, and the ends."""
    schema, said = town.schema, answers(town.run / "model.onnx", town.schema, rows)
    inputs = [json.dumps(row) for row in rows.select(*schema.numeric_names, *schema.categorical_names).to_dicts()]
    at_us, ids = rows[schema.requested_at].to_list(), rows[schema.id].to_list()
    with closing(LogFile(path, 5.0).connection()) as connection, transaction(connection):
        each = zip(ids, at_us, said.astype(float).tolist(), inputs, strict=True)
        connection.executemany(
            INSERT[table],
            [(i, us + 2000, us // 1_000_000, str(version), "triton", *q, 0.002, kept) for i, us, q, kept in each],
        )
        ends = zip(ids, rows[schema.target].to_list(), at_us, strict=True)
        connection.executemany(INSERT_ACTUAL, [(i, s, None, int(us + s * 1e6)) for i, s, us in ends])


def town_settings(folder: Path, url: str = "127.0.0.1:1", *changes: str) -> RetrainSettings:
    """The settings as they are shipped, for such a town: everything in one folder, a direct rollout."""
    return RetrainSettings.read(
        CONFIGS / "retrain.yaml",
        [
            f"log={folder / 'log.sqlite'}",
            "store=null",
            f"repository={folder / 'models'}",
            f"folder={folder / 'retrain'}",
            f"url={url}",
            "rollout=direct",
            "window.min_rows=500",
            "train.trainer.max_epochs=3",
            "train.trainer.accelerator=cpu",
            "train.optimizer.lr=2e-3",
            "train.data.batch_size=128",
            *changes,
        ],
    )


def seconds_worse(rows: pl.DataFrame, seconds: float) -> pl.DataFrame:
    """The same rows, whose pickups took so much longer."""
    return rows.with_columns(pickup_time_s=np.minimum(rows["pickup_time_s"] + seconds, 7000.0))
