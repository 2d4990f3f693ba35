"""The view on drift: how far each column was from training, day by day."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hailtime.monitoring.drift import LEAST_ROWS, ColumnCounts, Drift, Histogram, drift_of, sentence
from hailtime.monitoring.models import kept_models
from hailtime.monitoring.page.errors import frame_of
from hailtime.monitoring.page.watched import Span, Watched
from hailtime.monitoring.store import counts_of
from hailtime.monitoring.watch import PREDICTION

Stored = Mapping[str, Any]


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


def _references(watched: Watched) -> dict[str, list[Histogram]]:
    """By column, of the live model first: hours that were counted under another version have its bins."""
    references: dict[str, list[Histogram]] = {}
    for model in kept_models(watched.settings.repository):
        for name, histogram in model.histograms.items():
            references.setdefault(name, []).append(histogram)
        references.setdefault(PREDICTION, []).append(model.histograms[model.schema.target])
    return references


def _by_day(
    watched: Watched, span: Span, references: Mapping[str, list[Histogram]]
) -> dict[str, dict[str, tuple[Histogram, ColumnCounts]]]:
    """Local day → column → the reference that its counts fit, and the counts."""
    zone, days = ZoneInfo(span.timezone), _local_days(span)
    for hour_s, columns in watched.store().columns(span.since_s, span.until_s).items():
        day = days[datetime.fromtimestamp(hour_s, zone).strftime("%Y-%m-%d")]
        for name, stored in columns.items():
            reference, counts = _counted(stored, references.get(name, []))
            if reference is None or counts is None:
                continue
            if name in day and day[name][0] is reference:
                day[name][1].add_counts(counts)
            elif name not in day or day[name][1].rows < counts.rows:
                day[name] = (reference, counts)
    return days


def _local_days(span: Span) -> dict[str, dict[str, tuple[Histogram, ColumnCounts]]]:
    """All of the span, also those without a request."""
    first, last = (date.fromisoformat(span.text(at_s, "%Y-%m-%d")) for at_s in (span.since_s, span.until_s - 1))
    return {str(first + timedelta(days=i)): {} for i in range((last - first).days + 1)}


def _counted(stored: Stored, references: list[Histogram]) -> tuple[Histogram | None, ColumnCounts | None]:
    """The counts and the first reference whose bins they are in."""
    for reference in references:
        counts = counts_of(stored, reference)
        if counts.rows:
            return reference, counts
    return None, None


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
