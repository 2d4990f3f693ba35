"""One HTML file on a day or on a version, to send and to keep: figures and pictures inside, nothing to load.

python scripts/monitor.py report --day 2026-04-07 --out report.html
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

from hailtime.errors import ConfigError, HailtimeError
from hailtime.monitoring.hours import HOUR_S
from hailtime.monitoring.page import svg
from hailtime.monitoring.page.errors import accuracy_of, frame_of, intervals_of, places_of
from hailtime.monitoring.page.inputs import drift_of_span
from hailtime.monitoring.page.state import health_of, releases_of
from hailtime.monitoring.page.watched import FILES, Span, Watched
from hailtime.preparation.page_html import table

_STYLE = """
header { position: static; } svg.broad { min-width: 620px; } td { white-space: nowrap; }
td.what, td:first-child { white-space: normal; } td.what { min-width: 200px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--quiet); font-size: 11px; } svg .grid { stroke: var(--line); fill: none; }
svg .mark { stroke: var(--text); stroke-dasharray: 3 3; fill: none; }
.line.a { stroke: var(--a); } .line.b { stroke: var(--b); } .line.c { stroke: var(--c); } .line.d { stroke: var(--d); }
.line.e { stroke: var(--e); } .line.f { stroke: var(--f); } polyline, path.line { fill: none; stroke-width: 2; }
.band { fill-opacity: .18; } .band.a, rect.a { fill: var(--a); } .band.b { fill: var(--b); } .band.c { fill: var(--c); }
.band.d { fill: var(--d); } .band.e { fill: var(--e); } .band.f { fill: var(--f); }
.pair { align-items: start; } @media print { .card { break-inside: avoid; } body { background: #fff; } }
"""


def report_of_day(watched: Watched, day: str) -> str:
    """The HTML on a local day, `2026-04-07`."""
    try:
        begin = datetime.combine(date.fromisoformat(day), datetime.min.time(), ZoneInfo(watched.timezone()))
    except ValueError as error:
        raise ConfigError(f"a day must be written as 2026-04-07, got {day!r}") from error
    # the local midnight after it: a day may have 23 or 25 hours
    end = datetime.combine(begin.date() + timedelta(days=1), datetime.min.time(), begin.tzinfo)
    span = watched.between(begin.timestamp(), end.timestamp())
    return _report(watched, span, f"{begin:%A}, {begin.day} {begin:%B %Y}")


def report_of_version(watched: Watched, version: str) -> str:
    """The HTML on what a version answered, from its first request to its last."""
    hours = watched.store().totals(["hour_s"], version=version)["hour_s"]
    if hours.is_empty():
        known = sorted(watched.store().totals(["version"])["version"])
        raise ConfigError(f"version {version} has answered no request that was read; {', '.join(known) or 'none'} has")
    first, last = int(hours.min()), int(hours.max())  # type: ignore[arg-type]
    return _report(watched, watched.between(first, last + HOUR_S, version), f"Version {version}")


def _report(watched: Watched, span: Span, title: str) -> str:
    told = {**frame_of(watched, span), **accuracy_of(watched, span)}
    if not told["total"]:
        raise ConfigError(f"{title}: no request of that time was read ({span.text(span.since_s)} to {told['until']})")
    parts = [
        _summary(told),
        _error(told),
        _pair(_against(told), _hours(told)),
        _intervals(told, intervals_of(watched, span)),
        _pair(_zones(places_of(watched, span)), _versions(watched, span)),
        _drift(watched, span),
        _releases(watched, span),
        _health(health_of(watched, span)),
    ]
    words = f"{told['since']} to {told['until']}, {span.timezone}; written {span.text(span.now_s)}"
    style = (FILES / "page.css").read_text() + _STYLE
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)} · Hailtime</title>'
        f"<style>{style}</style></head><body><header><h1>{escape(title)} <span>· Hailtime</span></h1>"
        f'<p class="quiet">{escape(words)}</p></header><main>{"".join(parts)}</main></body></html>\n'
    )


def _summary(told: dict[str, Any]) -> str:
    total = told["total"]
    figures = [
        ("Mean absolute error", _s(total["mae_s"]), f"{_s(total['mae_low_s'])} to {_s(total['mae_high_s'])} (95 %)"),
        ("Bias", _s(total["bias_s"]), "below 0: drivers came later than was said"),
        ("Between P10 and P90", _percent(total["coverage"]), "80 % is promised"),
        ("Expected by the model", _s(total["expected_arrived_mae_s"]), "error of the same trips, by its own quantiles"),
        ("Requests", f"{total['n']:,.0f}", f"{_percent(total['arrived'])} arrived"),
    ]
    return (
        '<div class="tiles">'
        + "".join(
            f'<dl class="card tile"><dt>{escape(name)}</dt><dd><div class="figure">{escape(figure)}</div>'
            f"<small>{escape(words)}</small></dd></dl>"
            for name, figure, words in figures
        )
        + ("" if total["is_complete"] else _banner("Trips are still arriving: the error is of those that have."))
        + "</div>"
    )


def _error(told: dict[str, Any]) -> str:
    time = told["time"]
    lines = {"error": time["mae_s"], "expected by the model": time["expected_mae_s"]}
    bands = {"error": (time["mae_low_s"], time["mae_high_s"])}
    picture = svg.over_time(time["time"], lines, "mean absolute error, s", bands, told["marks"])
    return _card("Error over time", "With its 95 % band; dashed are releases.", picture)


def _against(told: dict[str, Any]) -> str:
    picture = svg.grid(told["grid"]["counts"], told["grid"]["edges_s"])
    return _card("Predicted against actual", "Above the dashed line the driver came later than was said.", picture)


def _hours(told: dict[str, Any]) -> str:
    hours = told["hours"]
    lines = {name: [_minutes(v) for v in hours[key]] for name, key in (("said", "said_s"), ("actual", "actual_s"))}
    picture = svg.by_hour(hours["local_hour"], lines, "mean pickup time, min", height=330)
    return _card("By hour of day", f"Means of the trips that came true; {told['timezone']}.", picture)


def _intervals(told: dict[str, Any], found: dict[str, Any]) -> str:
    time = found["time"]
    share, low, high = (
        [None if v is None else 100 * v for v in time[name]] for name in ("coverage", "coverage_low", "coverage_high")
    )
    lines: dict[str, Sequence[float | None]] = {"between P10 and P90": share, "promised": [80.0] * len(share)}
    bands = {"between P10 and P90": (low, high)}
    picture = svg.over_time(time["time"], lines, "share of the trips, %", bands, told["marks"], top=100.0)
    weather = found["slices"]["weather"]
    words = "; ".join(f"{v} {_percent(c)}" for v, c in zip(weather["value"], weather["coverage"], strict=True))
    return _card("What P10 to P90 holds", f"By weather: {words}." if words else "", picture)


def _zones(found: dict[str, Any]) -> str:
    zones = found["zones"]
    rows = sorted(zip(*(zones[n] for n in ("value", "n_arrived", "mae_s", "bias_s")), strict=True), key=lambda r: -r[2])
    cells = [(escape(zone), f"{n:,.0f}", f"{mae:.0f}", f"{bias:+.0f}") for zone, n, mae, bias in rows[:12]]
    return _card("Zones with the largest error", "", _table(("zone", "n:trips", "n:error, s", "n:bias, s"), cells))


def _versions(watched: Watched, span: Span) -> str:
    everybody = watched.between(span.since_s, span.until_s)
    found = span.measures(watched.totals(everybody, ["version"]), ["version"])
    names = ("version", "n", "mae_s", "mae_low_s", "mae_high_s", "bias_s", "coverage")
    cells = [
        (escape(version), f"{n:,.0f}", _s(mae), f"{_s(low)} to {_s(high)}", _s(bias), _percent(coverage))
        for version, n, mae, low, high, bias, coverage in found.select(names).iter_rows()
    ]
    heads = ("version", "n:requests", "n:error", "95 %", "n:bias", "n:P10–P90")
    return _card("Versions at that time", "Not of the same requests: a canary has its own.", _table(heads, cells))


def _drift(watched: Watched, span: Span) -> str:
    try:
        told = drift_of_span(watched, span)["sentences"]
    except HailtimeError as error:
        return _card("Inputs", str(error), "")
    items = "".join(f"<li><time>{one['day']}</time><span>{escape(one['text'])}</span></li>" for one in told[:40])
    words = "" if items else "No column is elsewhere than in training, as far as days with 1,000 requests tell."
    return _card("Inputs", words, f'<ul class="told">{items}</ul>' if items else "")


def _releases(watched: Watched, span: Span) -> str:
    found = releases_of(watched, span)
    cells = [
        (escape(one["version"]), escape(one["state"]), escape(one["since"]), escape(one["run"]), escape(one["why"]))
        for one in found["standings"]
        if span.version in (None, one["version"])
    ]
    heads = ("version", "state today", "since", "run", "what:why")
    return _card("Releases", found["problem"] or "", _table(heads, cells) if cells else "")


def _health(found: dict[str, Any]) -> str:
    rows = [
        ("cancelled, so that nobody knows how long it would have taken", _percent(found["cancelled"])),
        ("without an end although their hour is complete", _percent(found["never_told"])),
        ("contradicted: reported again, and otherwise", f"{found['n_changed']:,.0f}"),
        (f"reported more than {found['label_delay_s'] / 60:.0f} min after the request", f"{found['n_late']:,}"),
    ]
    return _card("Data", "", _table(("of the requests", "n:"), [(escape(name), value) for name, value in rows]))


def _card(title: str, words: str, body: str) -> str:
    said = f"<p>{escape(words)}</p>" if words else ""
    return f'<section class="card"><h2>{escape(title)}</h2>{said}{body}</section>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f'<div class="wide">{table(heads, rows)}</div>'


def _pair(*cards: str) -> str:
    return f'<div class="pair">{"".join(cards)}</div>'


def _banner(text: str) -> str:
    return f'<div class="card banner"><p>{escape(text)}</p></div>'


def _s(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} s".replace("-", "−")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}".replace("%", " %")


def _minutes(value: float | None) -> float | None:
    return None if value is None else value / 60
