"""The view on drift: how far each column was from training, day by day."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from hailtime.monitoring.drift import LEAST_ROWS, ColumnCounts, Drift, Histogram, drift_of, sentence
from hailtime.monitoring.models import kept_models
from hailtime.monitoring.page.errors import frame_of
from hailtime.monitoring.page.watched import Span, Watched
from hailtime.monitoring.store import edges_of
from hailtime.monitoring.watch import PREDICTION

Stored = Mapping[str, Any]


class _Summed:
    """Adds stored hours of a column up, in the bins of one reference: 50,000 a second."""

    def __init__(self, reference: Histogram) -> None:
        self.reference = reference
        self._edges = edges_of(ColumnCounts.like(reference))

    def of(self, name: str, hours: list[Mapping[str, Stored]]) -> tuple[Histogram, ColumnCounts]:
        """The reference, and the counts of those hours that are in its bins."""
        total = ColumnCounts.like(self.reference)
        for columns in hours:
            stored = columns.get(name)
            if stored is None or stored["edges"] != self._edges:
                continue
            if stored["values"]:
                total.values.update(stored["values"])
            else:
                total.counts += np.asarray(stored["counts"], np.int64)
            total.missing, total.rows = total.missing + stored["missing"], total.rows + stored["rows"]
        return self.reference, total


def drift(watched: Watched, days: float) -> dict[str, Any]:
    """PSI and missing share, a row a column and a column a local day, and what is remarkable in words."""
    span = watched.span(days)
    return {**frame_of(watched, span), **drift_of_span(watched, span)}


def drift_of_span(watched: Watched, span: Span) -> dict[str, Any]:
    references = _references(watched)
    by_day = _by_day(watched, span, references)
    found = {
        day: {name: drift_of(reference, counts) for name, (reference, counts) in columns.items()}
        for day, columns in by_day.items()
    }
    names = [name for name in references if any(name in columns for columns in found.values())]
    told = [{"day": day, "column": n, "text": text, **asdict(d)} for day, n, d, text in _told(found, names)]
    return {
        "days": list(found),
        "end": str(date.fromisoformat(max(found)) + timedelta(days=1)) if found else None,
        "columns": names,
        "psi": [[_shown(columns.get(name), "psi") for columns in found.values()] for name in names],
        "missing": [[_shown(columns.get(name), "missing") for columns in found.values()] for name in names],
        "rows": [max((drift.rows for drift in columns.values()), default=0) for columns in found.values()],
        "least_rows": LEAST_ROWS,
        "sentences": told,
    }


def _references(watched: Watched) -> dict[str, list[_Summed]]:
    """By column, of the live model first: hours that were counted under another version have its bins."""
    references: dict[str, list[_Summed]] = {}
    for model in kept_models(watched.settings.repository):
        said = {**model.histograms, PREDICTION: model.histograms[model.schema.target]}
        for name, histogram in said.items():
            references.setdefault(name, []).append(_Summed(histogram))
    return references


def _by_day(
    watched: Watched, span: Span, references: Mapping[str, list[_Summed]]
) -> dict[str, dict[str, tuple[Histogram, ColumnCounts]]]:
    """Local day → column → the reference that most of its counts fit, and the counts."""
    zone, hours = ZoneInfo(span.timezone), dict[str, list[Mapping[str, Stored]]]()
    for hour_s, columns in watched.store().columns(span.since_s, span.until_s).items():
        hours.setdefault(datetime.fromtimestamp(hour_s, zone).strftime("%Y-%m-%d"), []).append(columns)
    days: dict[str, dict[str, tuple[Histogram, ColumnCounts]]] = {}
    for day in _local_days(span):
        summed = {
            name: max((one.of(name, hours.get(day, [])) for one in known), key=lambda found: found[1].rows)
            for name, known in references.items()
        }
        days[day] = {name: found for name, found in summed.items() if found[1].rows}
    return days


def _local_days(span: Span) -> list[str]:
    """All of the span, also those without a request."""
    first, last = (date.fromisoformat(span.text(at_s, "%Y-%m-%d")) for at_s in (span.since_s, span.until_s - 1))
    return [str(first + timedelta(days=i)) for i in range((last - first).days + 1)]


def _shown(drift: Drift | None, name: str) -> float | None:
    """None where too few rows would show chance as drift."""
    return round(getattr(drift, name), 4) if drift is not None and drift.rows >= LEAST_ROWS else None


def _told(found: Mapping[str, Mapping[str, Drift]], names: list[str]) -> list[tuple[str, str, Drift, str]]:
    """What is remarkable, the newest day first and its farthest column first."""
    told = [
        (day, name, columns[name], text)
        for day, columns in found.items()
        for name in names
        if name in columns and (text := sentence(name, columns[name]))
    ]
    return sorted(sorted(told, key=lambda one: -one[2].psi), key=lambda one: one[0], reverse=True)
