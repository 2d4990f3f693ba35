"""The situation at a moment: for each alert rule the rows of its window, from the log or from anywhere else.

lookout = Lookout(LogSource("predictions.sqlite"), model, rules)
book.look(lookout.at(now_s))
"""

from collections.abc import Sequence
from typing import Protocol

import polars as pl

from hailtime.monitoring.alerts import Rule
from hailtime.monitoring.drift import ColumnCounts
from hailtime.monitoring.hours import HOUR_S, with_inputs
from hailtime.monitoring.situation import (
    Measure,
    Situation,
    count_columns,
    notes_of,
    of_a_day,
    of_arrivals,
    of_requests,
    share,
)
from hailtime.monitoring.watch import WatchedModel

_KINDS = dict.fromkeys(("late_share", "error_ratio"), "arrivals")  # measures that come of the same rows
_KINDS |= dict.fromkeys(("missing_points", "new_share", "fallback_share"), "requests")


class Rows(Protocol):
    """Where rows come from. Spans are UTC seconds, the first within and the last not."""

    def asked(self, from_s: float, to_s: float) -> pl.DataFrame:
        """Predictions of requests made in a span, each with what is known of its end."""

    def arrived(self, from_s: float, to_s: float) -> pl.DataFrame:
        """Predictions of requests whose end became known in a span."""


class Lookout:
    """Looks at the windows of the rules. Counts of whole hours are kept, so that a day is not read anew each time.

    - before: the lookout of the model before, whose counts are taken over where training looked the same. Where it did
      not, the last day is read once more: an alert on moved inputs ends when a model is live that knows them.
    """

    def __init__(
        self, source: Rows, model: WatchedModel, rules: Sequence[Rule], before: "Lookout | None" = None
    ) -> None:
        self.source, self.model, self.rules = source, model, tuple(rules)
        is_same = before is not None and before.model.histograms == model.histograms
        self._hours: dict[int, dict[str, ColumnCounts]] = before._hours if before and is_same else {}
        self._added: tuple[range, dict[str, ColumnCounts]] = (range(0), {})

    def at(self, now_s: float) -> Situation:
        """The measures of every rule at a moment."""
        told: dict[tuple[float, str], dict[str, Measure]] = {}  # rules of one window share its rows
        measures: dict[str, Measure] = {}
        for rule in self.rules:
            window = (rule.window_min, _KINDS.get(rule.measure, rule.measure))
            if window not in told:
                told[window] = self._measured(rule.measure, now_s - rule.window_min * 60, now_s)
            if rule.measure in told[window]:
                measures[rule.measure] = told[window][rule.measure]
        return Situation(now_s, measures, notes_of(self._counts(now_s - 24 * HOUR_S, now_s), self.model.histograms))

    def _measured(self, measure: str, from_s: float, to_s: float) -> dict[str, Measure]:
        """A measure of a window, and those that come with it."""
        kind = _KINDS.get(measure, measure)
        if kind == "arrivals":
            return of_arrivals(self.source.arrived(from_s, to_s))
        if kind == "requests":
            return of_requests(self._asked(from_s, to_s), self.model.histograms, self.model.schema.target)
        if kind == "unknown_share":
            return _unknown(self.source.asked(2 * from_s - to_s, from_s))
        return of_a_day(self._counts(from_s, to_s), self.model.histograms)

    def _asked(self, from_s: float, to_s: float) -> pl.DataFrame:
        return with_inputs(self.source.asked(from_s, to_s), self.model.schema)

    def _counts(self, from_s: float, to_s: float) -> dict[str, ColumnCounts]:
        """Of the whole hours within a span."""
        hours = range(int(-(-from_s // HOUR_S)) * HOUR_S, int(to_s // HOUR_S) * HOUR_S, HOUR_S)
        if hours and hours == self._added[0]:  # passes come every few seconds, and new hours once an hour
            return self._added[1]
        self._hours = {hour: counts for hour, counts in self._hours.items() if hour >= from_s - 48 * HOUR_S}
        histograms, target = self.model.histograms, self.model.schema.target
        total = {name: ColumnCounts.like(histogram) for name, histogram in histograms.items() if name != target}
        for hour in hours:
            if hour not in self._hours:
                self._hours[hour] = count_columns(self._asked(hour, hour + HOUR_S), histograms, target)
            for name, counts in self._hours[hour].items():
                total[name].add_counts(counts)
        self._added = hours, total
        return total


def _unknown(rows: pl.DataFrame) -> dict[str, Measure]:
    if rows.is_empty():
        return {}
    has_no_end = pl.col("pickup_time_s").is_null() & pl.col("cancelled_after_s").is_null()
    return {"unknown_share": share(rows.filter(has_no_end).height, rows.height)}
