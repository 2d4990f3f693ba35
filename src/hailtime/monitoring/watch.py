"""Reading on: what came into the log since the last pass, as sums and counts of the hours it belongs to.

    watch = Watch(LogSource("predictions.sqlite"), MonitorStore(Path("monitor.sqlite")), model)
    watch.read_on()

An hour that something came to is counted anew as a whole, so a pass that was killed, or ran twice, leaves the same.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import onnx
import polars as pl

from hailtime.errors import DataError
from hailtime.monitoring.arrivals import arrivals_of
from hailtime.monitoring.drift import ColumnCounts, Histogram
from hailtime.monitoring.hours import summarise, with_features
from hailtime.monitoring.log_source import LogSource
from hailtime.monitoring.store import MonitorStore
from hailtime.schema import Schema

log = logging.getLogger(__name__)

ENOUGH_PICKUPS = 1000
PREDICTION = "predicted pickup_time_s"  # beside the columns: what the answers look like


@dataclass(frozen=True)
class WatchedModel:
    """What the monitor must know of the model whose answers are in the log."""

    schema: Schema
    histograms: Mapping[str, Histogram]

    @classmethod
    def load(cls, path: Path) -> Self:
        """From the ONNX file, which carries it. DataError when it is none of ours."""
        try:
            said = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
            schema = Schema.from_json(said["hailtime.schema"])
            return cls(schema, json.loads(said["hailtime.histograms"]))
        except Exception as error:  # protobuf raises its own kinds
            raise DataError(
                f"a model to watch is a model.onnx that Hailtime exported, {path} is none: {error}"
            ) from error


class Watch:
    """Keeps a store up to date with a log.

    - `slices`: name → expression over the log's columns and the kept inputs; error is told for each of its values
    - `label_delay_s`: an actual reported later than that after its request is counted as late
    """

    def __init__(
        self,
        source: LogSource,
        store: MonitorStore,
        model: WatchedModel,
        slices: Mapping[str, pl.Expr] | None = None,
        label_delay_s: float = 7200,
    ) -> None:
        self.source, self.store, self.model, self.label_delay_s = source, store, model, label_delay_s
        self._known_places: dict[str, list[float]] = store.state("places", {})
        self._learned: dict[str, list[float]] = {}
        self.slices = dict(slices) if slices is not None else usual_slices(model.schema)

    def read_on(self) -> list[int]:
        """Counts what came since the last time. The hours that changed, oldest first."""
        before = tuple(self.store.state("read_until", (0, 0)))
        now = self.source.last_ids()
        hours = self.source.hours_between(before, now)
        for place, hour_s in enumerate(hours, 1):
            self.count_hour(hour_s)
            if place % 24 == 0:
                log.info("%d of %d hours read", place, len(hours))
        if self._learned:
            self.store.set_state(places=self._known_places | self._learned)
        n_unmatched = self.source.unmatched_actuals(before[1], now[1])
        self.store.set_state(read_until=now, n_unmatched=self.store.state("n_unmatched", 0) + n_unmatched)
        return hours

    def count_hour(self, hour_s: int) -> None:
        """Counts an hour anew."""
        rows = with_features(self.source.hour(hour_s), self.model.schema)
        arrivals = arrivals_of(rows, self.label_delay_s)
        self.store.replace_hour(hour_s, summarise(rows, self.slices), self._columns(rows), arrivals)
        self._learn_places(rows)

    def _learn_places(self, rows: pl.DataFrame) -> None:
        """Where the zones are, from their first pickups: zones do not move, so a thousand of them are enough."""
        schema = self.model.schema
        if schema.zone is None or schema.journey is None:
            return
        lat, lon = schema.journey[2:]
        seen = rows.drop_nulls([schema.zone, lat, lon]).group_by(schema.zone).agg(pl.len(), pl.sum(lat), pl.sum(lon))
        for zone, *seen_here in seen.iter_rows():
            before = self._learned.get(zone) or self._known_places.get(zone, [0, 0.0, 0.0])
            if before[0] < ENOUGH_PICKUPS:
                self._learned[zone] = [a + b for a, b in zip(before, seen_here, strict=True)]

    def _columns(self, rows: pl.DataFrame) -> dict[str, ColumnCounts]:
        """Inputs of rows that have any, the actuals, and the answers in the actuals' bins."""
        target, histograms = self.model.schema.target, self.model.histograms
        names = [name for name in histograms if name != target]
        with_inputs = rows.filter(pl.any_horizontal(pl.col(names).is_not_null()))
        values: dict[str, Any] = {name: with_inputs[name] for name in names}
        values |= {target: rows["pickup_time_s"].drop_nulls(), PREDICTION: rows["p50_s"]}
        counts = {name: ColumnCounts.like(histograms[target if name == PREDICTION else name]) for name in values}
        for name, column in values.items():
            counts[name].add(column)
        return counts


def usual_slices(schema: Schema) -> dict[str, pl.Expr]:
    """By zone, and by wet and dry where the schema knows the rain."""
    slices = {"zone": pl.col(schema.zone)} if schema.zone else {}
    if "rain_mm_h" in schema.numeric_names:
        is_wet = pl.col("rain_mm_h") >= 0.1
        slices["weather"] = pl.when(is_wet).then(pl.lit("wet")).when(is_wet.not_()).then(pl.lit("dry"))
    return slices
