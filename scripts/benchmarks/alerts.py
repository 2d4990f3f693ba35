"""Alerts on the simulated city: what is told in each of its scenarios, how soon, and how often for nothing.

    python scripts/benchmark.py alerts runs/demo

The city goes on after the days that the run was trained on. Its requests are joined with the conditions known then and
answered by the run's ONNX file; arrivals are told when drivers arrive; every five minutes of the city's time the rules
of configs/alerts.yaml are looked at.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import yaml
from omegaconf import OmegaConf
from rich.table import Table

from hailtime.config import CONFIGS
from hailtime.monitoring.alerts import AlertBook, Message, read_rules
from hailtime.monitoring.lookout import Lookout
from hailtime.monitoring.watch import WatchedModel
from hailtime.preparation.clean import clean_rows, cleaning_plan, mend_conditions
from hailtime.preparation.join import ConditionJoin, keys_of
from hailtime.report import console
from hailtime.schema import MICROSECONDS_PER_SECOND, Schema
from hailtime.sources.city_scenarios import local_time
from hailtime.sources.simulated_city import load
from hailtime.training.features import raw_inputs

TICK_S = 300
FIRST_DAY = date(2026, 4, 13)  # the default city ends on 2026-04-05; conditions need some days before
EXPECTED = {  # the kinds of cause that are right
    "closure": {"changed world", "moved inputs"},
    "snow_day": {"changed world", "moved inputs"},
    "stadium_night": {"changed world", "moved inputs"},
    "gps_outage": {"breakage"},
    "new_zone": {"breakage"},
    "app_release": {"breakage"},
}
BEGINS = "17:00"  # local time of every scenario's first day


@dataclass(frozen=True)
class Played:
    """A played city as `lookout.Rows`: sorted by both clocks once, so that a window is a slice."""

    by_request: pl.DataFrame
    by_arrival: pl.DataFrame

    @classmethod
    def of(cls, rows: pl.DataFrame) -> "Played":
        return cls(rows.sort("requested_at_s"), rows.sort("reported_at_s"))

    def asked(self, from_s: float, to_s: float) -> pl.DataFrame:
        return _between(self.by_request, "requested_at_s", from_s, to_s)

    def arrived(self, from_s: float, to_s: float) -> pl.DataFrame:
        return _between(self.by_arrival, "reported_at_s", from_s, to_s)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="an exported run of the simulated city")
    parser.add_argument("--per-day", type=int, default=60_000, help="requests a day")
    parser.add_argument("--quiet-days", type=int, default=30, help="days without a scenario, for false alerts")
    parser.add_argument("--seed", type=int, default=11)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    rules = read_rules(yaml.safe_load((CONFIGS / "alerts.yaml").read_text()))
    model, path = WatchedModel.load(arguments.run / "model.onnx"), arguments.run / "model.onnx"
    figures: dict[str, Any] = {"per_day": arguments.per_day, "rules": [rule.name for rule in rules], "scenarios": {}}
    for kind, right in EXPECTED.items():
        begins = f"{FIRST_DAY + timedelta(days=2)}T{BEGINS}"
        rows = play(path, model.schema, arguments, 4, [{"kind": kind, "from": begins}])
        messages = watch(rows, model, rules, FIRST_DAY + timedelta(days=1), 3)
        figures["scenarios"][kind] = judge(messages, local_time("", begins).timestamp(), right)
        console().print(f"{kind}: {figures['scenarios'][kind]['first'] or 'nothing told'}")
    quiet = play(path, model.schema, arguments, arguments.quiet_days + 1, [])
    told = watch(quiet, model, rules, FIRST_DAY + timedelta(days=1), arguments.quiet_days)
    figures["quiet"] = {"days": arguments.quiet_days, "alerts": [m.text for m in told if m.kind == "firing"]}
    return figures


def play(path: Path, schema: Schema, arguments: Any, days: int, scenarios: Sequence[Mapping[str, Any]]) -> Played:
    """Days of the city with the model's answers and what came of them."""
    settings: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / "source" / "simulated_city.yaml"))
    raw = load(arguments.per_day * days, FIRST_DAY, days, arguments.seed, dirt=0.0, scenarios=scenarios)
    plan = cleaning_plan(schema, settings["rules"], keys_of(schema, settings["conditions"]))
    joins = ConditionJoin(raw.conditions, schema, settings["conditions"])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answered = []
    for block in raw.blocks():
        clean, _, _ = clean_rows(block, plan)
        joined, _ = mend_conditions(joins.join(clean.select(plan.columns)), schema)
        answered.append(_answered(session, schema, joined))
    return Played.of(pl.concat(answered))


def _answered(session: onnxruntime.InferenceSession, schema: Schema, rows: pl.DataFrame) -> pl.DataFrame:
    names = ("numeric", "categorical", "requested_at")
    parts = [
        session.run(None, dict(zip(names, raw_inputs(schema, part), strict=True)))[0] for part in rows.iter_slices(8192)
    ]
    said = np.concatenate(parts).astype(float)
    requested_at_s = pl.col(schema.requested_at) / MICROSECONDS_PER_SECOND
    return rows.select(
        *schema.numeric_names,
        *schema.categorical_names,
        "pickup_time_s",
        requested_at_s=requested_at_s,
        reported_at_s=requested_at_s + pl.col("pickup_time_s"),
        path=pl.lit("triton"),
        cancelled_after_s=pl.lit(None, pl.Float64),
        n_changed=pl.lit(0),
        p10_s=pl.Series(said[:, 0]),
        p50_s=pl.Series(said[:, 1]),
        p90_s=pl.Series(said[:, 2]),
    )


def watch(rows: Played, model: WatchedModel, rules: Any, first: date, days: int) -> list[Message]:
    """What is told from a local midnight on."""
    lookout, book = Lookout(rows, model, rules), AlertBook(rules)
    start_s = local_time("", first).timestamp()
    ticks = np.arange(start_s, start_s + days * 86_400, TICK_S)
    return [message for now_s in ticks for message in book.look(lookout.at(float(now_s)))]


def judge(messages: Sequence[Message], began_s: float, right: set[str]) -> dict[str, Any]:
    """The first right message after the beginning, and what was told wrongly or before."""
    firing = [message for message in messages if message.kind == "firing"]
    good = [m for m in firing if m.at_s >= began_s and m.cause.kind in right]
    wrong = [m for m in firing if m.at_s < began_s or m.cause.kind not in right]
    return {
        "delay_min": (good[0].at_s - began_s) / 60 if good else None,
        "first": good[0].text if good else "",
        "alerts": len(firing),
        "wrong": [f"{(m.at_s - began_s) / 60:.0f} min: {m.text}" for m in wrong],
    }


def _between(rows: pl.DataFrame, column: str, from_s: float, to_s: float) -> pl.DataFrame:
    first, last = np.searchsorted(rows[column].to_numpy(), [from_s, to_s]).tolist()
    return rows.slice(first, last - first)


def missed(figures: dict[str, Any]) -> list[str]:
    """Every scenario is told rightly and nothing wrongly; one false alert in all quiet days at most."""
    found, false = figures["scenarios"], figures["quiet"]["alerts"]
    goals = [f"{kind} was never told" for kind, one in found.items() if one["delay_min"] is None]
    goals += [f"{kind}: {text}" for kind, one in found.items() for text in one["wrong"]]
    return goals + ([f"{len(false)} false alerts in {figures['quiet']['days']} quiet days"] if len(false) > 1 else [])


def show(figures: dict[str, Any]) -> None:
    table = Table(title=f"{figures['per_day']:,} requests a day", title_justify="left")
    for heading in ("scenario", "told after", "alerts", "wrong", "what is said first"):
        table.add_column(heading, overflow="fold")
    for kind, found in figures["scenarios"].items():
        delay = "never" if found["delay_min"] is None else f"{found['delay_min']:.0f} min"
        table.add_row(kind, delay, str(found["alerts"]), "; ".join(found["wrong"]) or "none", found["first"])
    console().print(table)
    quiet = figures["quiet"]
    console().print(f"false alerts in {quiet['days']} quiet days: {len(quiet['alerts'])} {quiet['alerts']}")
