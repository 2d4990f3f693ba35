"""The views on what is behind the figures: releases, the health of the data, and one request."""

import json
from datetime import UTC, datetime
from typing import Any

from hailtime.errors import HailtimeError
from hailtime.monitoring.models import live_model
from hailtime.monitoring.page.errors import frame_of
from hailtime.monitoring.page.now import plan_text
from hailtime.monitoring.page.watched import Span, Watched, plain
from hailtime.serving.releases import standings

Row = dict[str, Any]


def releases(watched: Watched, days: float) -> dict[str, Any]:
    """Every version and how it stands, and how many requests each answered over time."""
    span = watched.span(days)
    return {**frame_of(watched, span), **releases_of(watched, span)}


def releases_of(watched: Watched, span: Span) -> dict[str, Any]:
    sums = watched.totals(span, ["hour_s", "version"])
    names = ["time", "n", "n_arrived", "mae_s", "mae_low_s", "mae_high_s", "is_complete"]
    versions = {
        str(version): plain(span.measures(some, ["bucket_s"]), names)
        for (version,), some in sorted(sums.group_by("version"), key=lambda group: str(group[0][0]))
    }
    return {"plan": plan_text(watched), "versions": versions, **_standings(watched, span)}


def _standings(watched: Watched, span: Span) -> dict[str, Any]:
    try:
        found = standings(watched.settings.repository)
    except (HailtimeError, OSError) as error:
        return {"standings": [], "problem": f"the model repository cannot be read: {error}"}
    told = [
        {
            "version": "–" if one.version is None else str(one.version),
            "state": one.state if one.is_kept or one.state == "refused" else f"{one.state}, deleted",
            "since": _local(span, one.since),
            "run": one.run,
            "mae_s": one.mae_s,
            "by": one.by.partition("@")[0],
            "why": one.why,
            "gates": [{"name": gate.name, "passed": gate.passed, "text": gate.text} for gate in one.gates],
        }
        for one in found
    ]
    return {"standings": told, "problem": None}


def _local(span: Span, at: str) -> str:
    try:
        return span.text(datetime.fromisoformat(at).astimezone(UTC).timestamp())
    except ValueError:
        return at


def health(watched: Watched, days: float) -> dict[str, Any]:
    """Whether the figures can be trusted: how far the log was read, and what became of the requests in it."""
    span = watched.span(days)
    return {**frame_of(watched, span), **health_of(watched, span)}


def health_of(watched: Watched, span: Span) -> dict[str, Any]:
    store = watched.store()
    sums = watched.totals(span, ["hour_s"])
    (total,) = sums.select("n", "n_arrived", "n_cancelled", "n_changed").sum().to_dicts()
    time = span.measures(sums, ["bucket_s"])
    over = time.filter("is_complete").select("n", "n_arrived", "n_cancelled").sum().row(0, named=True)
    read_at_s = store.state("read_at_s", None)
    return {
        **_reading(watched, store.state("read_until", (0, 0))),
        "read_at": None if read_at_s is None else span.text(read_at_s),
        "read_age_s": None if read_at_s is None else max(span.now_s - read_at_s, 0),
        "log": str(watched.settings.log).rpartition("@")[2],
        "n": total["n"],
        "n_cancelled": total["n_cancelled"],
        "cancelled": total["n_cancelled"] / max(total["n"], 1),
        "n_changed": total["n_changed"],
        "n_late": sum(one.n_late for one in store.arrivals(span.since_s, span.until_s, span.version)),
        "n_unmatched": store.state("n_unmatched", 0),
        "n_malformed": store.state("n_malformed", 0),
        "never_told": 1 - (over["n_arrived"] + over["n_cancelled"]) / over["n"] if over["n"] else None,
        "label_delay_s": span.label_delay_s,
        "messages": [_message(span, one) for one in store.state("messages", [])[:-21:-1]],
        "time": plain(time, ["time", "n", "arrived", "cancelled", "is_complete"]),
    }


def _message(span: Span, message: Row) -> Row:
    """Of an alert, as it was told."""
    return {"at": span.text(message["at_s"]), "kind": message["kind"], "text": message["text"]}


def _reading(watched: Watched, read_until: Any) -> dict[str, Any]:
    """How many rows wait to be read; `log_error` where the log cannot be reached."""
    try:
        newest = watched.source().last_ids()
    except HailtimeError as error:
        return {"log_error": str(error), "unread": None}
    return {"log_error": None, "unread": sum(max(b - a, 0) for a, b in zip(read_until, newest, strict=True))}


def request(watched: Watched, request_id: str) -> dict[str, Any]:
    """All that was said to a request, and what happened."""
    timezone = watched.timezone()
    span = watched.between(0, watched.now_s())
    source = watched.source()
    answers = [_answer(watched, span, row) for row in source.request(request_id).to_dicts()]
    shadows = [_shadow(span, row) for row in source.shadows(request_id).to_dicts()]
    return {"request_id": request_id, "timezone": timezone, "answers": answers, "shadows": shadows}


def farthest(watched: Watched) -> dict[str, Any]:
    """Requests worth a look: of the newest that came true, those that were told something farthest off."""
    span = watched.between(0, watched.now_s())
    names = ("request_id", "version", "path", "p50_s", "pickup_time_s")
    rows = watched.source().farthest_off(8).to_dicts()
    found = [{name: row[name] for name in names} | {"asked_at": span.text(row["requested_at_s"])} for row in rows]
    return {"timezone": span.timezone, "requests": found}


def _shadow(span: Span, row: Row) -> Row:
    names = ("version", "p10_s", "p50_s", "p90_s", "latency_s")
    return {name: row[name] for name in names} | {"answered_at": span.text(row["answered_at_us"] / 1e6)}


def _answer(watched: Watched, span: Span, row: Row) -> Row:
    names = ("version", "path", "p10_s", "p50_s", "p90_s", "latency_s", "pickup_time_s", "cancelled_after_s")
    reported_us = row["reported_at_us"]
    return {name: row[name] for name in names} | {
        "asked_at": span.text(row["requested_at_s"], "%Y-%m-%d %H:%M:%S"),
        "answered_at": span.text(row["answered_at_us"] / 1e6, "%Y-%m-%d %H:%M:%S"),
        "reported_at": None if reported_us is None else span.text(reported_us / 1e6, "%Y-%m-%d %H:%M:%S"),
        "n_changed": row["n_changed"] or 0,
        "features": _features(watched, row["features"]),
    }


def _features(watched: Watched, text: str | None) -> list[Row]:
    """The inputs that the log kept, with the units of the live model's schema."""
    try:
        kept = json.loads(text) if text else {}
    except ValueError:
        return [{"name": "cannot be read", "value": text, "unit": ""}]
    units = _units(watched)
    return [{"name": name, "value": value, "unit": units.get(name, "")} for name, value in kept.items()]


def _units(watched: Watched) -> dict[str, str]:
    try:
        schema = live_model(watched.settings.repository).schema
    except HailtimeError:
        return {}
    return {column.name: "" if column.unit == "1" else column.unit for column in schema.columns}
