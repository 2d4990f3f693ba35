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
from typing import Self

import onnx
import polars as pl

from hailtime.errors import DataError
from hailtime.monitoring.arrivals import arrivals_of
from hailtime.monitoring.drift import ColumnCounts, Histogram
from hailtime.monitoring.hours import summarise, with_inputs
from hailtime.monitoring.log_source import LogSource
from hailtime.monitoring.situation import count_columns
from hailtime.monitoring.store import MonitorStore
from hailtime.preparation.ahead import ahead
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
        self._where: dict[str, list[float]] = store.state("places", {})
        self.slices = dict(slices) if slices is not None else usual_slices(model.schema)

    def read_on(self) -> list[int]:
        """Counts what came since the last time. The hours that changed, oldest first."""
        before = tuple(self.store.state("read_until", (0, 0)))
        now = self.source.last_ids()
        hours = self.source.hours_between(before, now)
        for place, seen in enumerate(ahead(self.count_hour, hours), 1):
            self._learn(seen)
            if place % 24 == 0:
                log.info("%d of %d hours read", place, len(hours))
        n_unmatched = self.store.state("n_unmatched", 0) + self.source.unmatched_actuals(before[1], now[1])
        n_malformed = self.store.state("n_malformed", 0) + self.source.malformed_actuals(before[1], now[1])
        self.store.set_state(read_until=now, n_unmatched=n_unmatched, n_malformed=n_malformed, places=self._where)
        return hours

    def count_hour(self, hour_s: int) -> list[tuple[str, float, float, float]]:
        """Counts an hour anew; where its zones' pickups were, as `_places` says."""
        rows = with_inputs(self.source.hour(hour_s), self.model.schema)
        arrivals = arrivals_of(rows, self.label_delay_s)
        self.store.replace_hour(hour_s, summarise(rows, self.slices), self._columns(rows), arrivals)
        return self._places(rows)

    def _places(self, rows: pl.DataFrame) -> list[tuple[str, float, float, float]]:
        """Of each zone how many pickups, and the sums of their latitudes and longitudes."""
        schema = self.model.schema
        if schema.zone is None or schema.journey is None:
            return []
        lat, lon = schema.journey[2:]
        seen = rows.drop_nulls([schema.zone, lat, lon]).group_by(schema.zone).agg(pl.len(), pl.sum(lat), pl.sum(lon))
        return list(seen.iter_rows())

    def _learn(self, seen: list[tuple[str, float, float, float]]) -> None:
        """Where the zones are, from their first pickups: zones do not move, so a thousand of them are enough."""
        for zone, *added in seen:
            before = self._where.get(zone, [0, 0.0, 0.0])
            if before[0] < ENOUGH_PICKUPS:
                self._where[zone] = [a + b for a, b in zip(before, added, strict=True)]

    def _columns(self, rows: pl.DataFrame) -> dict[str, ColumnCounts]:
        """Inputs of rows that have any, the actuals, and the answers in the actuals' bins."""
        target, histograms = self.model.schema.target, self.model.histograms
        counts = count_columns(rows, histograms, target)
        for name, column in ((target, rows["pickup_time_s"].drop_nulls()), (PREDICTION, rows["p50_s"])):
            counts[name] = ColumnCounts.like(histograms[target])
            counts[name].add(column)
        return counts


def usual_slices(schema: Schema) -> dict[str, pl.Expr]:
    """By zone, and by wet and dry where the schema knows the rain."""
    slices = {"zone": pl.col(schema.zone)} if schema.zone else {}
    if "rain_mm_h" in schema.numeric_names:
        is_wet = pl.col("rain_mm_h") >= 0.1
        slices["weather"] = pl.when(is_wet).then(pl.lit("wet")).when(is_wet.not_()).then(pl.lit("dry"))
    return slices
