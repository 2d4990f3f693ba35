"""A small city whose live model can be retrained: the small run of all tests, and a log of later days on which pickups
take longer than that model was taught, so that a challenger has something to learn in seconds.
"""

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile, transaction
from hailtime.preparation.join import join_conditions
from hailtime.retraining.champion import answers
from hailtime.retraining.settings import RetrainSettings
from hailtime.rollout import Rollout
from hailtime.schema import Schema
from hailtime.serving.config_file import write_config
from hailtime.serving.repository import publish
from hailtime.sources.simulated_city import load

CONFIGS = Path(__file__).parents[1] / "configs"
START, DAYS, N = "2026-04-06", 2, 3000  # after the small run's last day
LONGER_S = 150.0
JOINS = {
    "weather": {"key": None, "freshness_h": 3},
    "traffic": {"key": "pickup_zone", "freshness_h": 2},
    "incidents": {"key": "pickup_zone", "freshness_h": 12},
}


@dataclass(frozen=True)
class Town:
    """The live model's run, later requests with what became of them, and a moment after the last one."""

    run: Path
    schema: Schema
    rows: pl.DataFrame
    now_s: float


def make_town(run: Path) -> Town:
    schema = Schema.from_json((run / "schema.json").read_text())
    raw = load(N, START, DAYS, seed=7, dirt=0.0)
    joined = join_conditions(raw.table().sort("requested_at"), raw.conditions, schema, JOINS)
    seconds = (pl.col("arrived_at") - pl.col("requested_at")) / 1e6
    rows = joined.with_columns(seconds.alias(schema.target)).select(column.name for column in schema.columns)
    return Town(run, schema, longer(rows, LONGER_S), float(rows["requested_at"].max()) / 1e6 + 7200)


def longer(rows: pl.DataFrame, seconds: float) -> pl.DataFrame:
    """The same requests, whose pickups took so much longer."""
    return rows.with_columns(pickup_time_s=np.minimum(rows["pickup_time_s"].to_numpy() + seconds, 7000.0))


def offline_place(folder: Path, town: Town) -> Path:
    """The town's log, and a repository whose version 1 is live by its config; nobody wrote down since when."""
    models = folder / "models"
    models.mkdir()
    version = publish(town.run, models)
    (models / "pickup_eta/config.pbtxt").write_text(write_config(town.schema, (version,), Rollout(version)))
    write_log(folder / "log.sqlite", town, town.rows)
    return folder


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
    """The settings as they are shipped, everything in one folder, with a direct rollout and a table of a few hours.

    1,500 rows teach 150 s more in a hundred steps at 3e-3. In twelve at 1e-2 rounding decided whether twice the way
    still took longer (in 50 to 99 % of the rows; now 99 % and more with three seeds).
    """
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
            "gates.coverage=[0.5, 1.0]",
            "train.trainer.max_epochs=10",
            "train.trainer.accelerator=cpu",
            "train.optimizer.lr=3e-3",
            "window.old_per_new=0",
            "window.recent_days=null",
            "train.data.batch_size=128",
            *changes,
        ],
    )
