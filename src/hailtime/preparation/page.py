"""The report of a preparation as one page to look at: `report.html`, without a network, a script or another file.

    write_page(report, folder / "report.html")

It is made from report.json alone. The words at its top are in `page_verdict.py`, its pictures in `page_pictures.py`,
its pieces in `page_html.py`, its looks in `page_style.py`.
"""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from hailtime.preparation.budget import limit_of
from hailtime.preparation.page_html import bar, bars, card, legend, section, stacked, table, values
from hailtime.preparation.page_pictures import distribution, number, requests_by_day
from hailtime.preparation.page_style import STYLE
from hailtime.preparation.page_verdict import Report, asked_about, headline, remarks, target_of
from hailtime.preparation.split import PARTS, utc_text

_MARKS = {"good": "✓", "note": "!", "bad": "✕"}
_DOES = {"select": "leaves out", "drop": "drops", "mend": "mends", "flag": "flags"}


def write_page(report: Report, path: Path) -> None:
    """Writes the page of a report with its profile."""
    path.write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """The whole page as HTML."""
    sections = (_top, _flow, _rules, _target, _days, _numbers, _texts, _missing, _conditions, _leakage, _making)
    body = "".join(part(report) for part in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(str(report['source']))}: prepared data</title>"
        f"<style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def _top(report: Report) -> str:
    lines = "".join(
        f'<li class="{remark.level}"><b>{_MARKS[remark.level]}</b><span>{escape(remark.text)}</span></li>'
        for remark in remarks(report)
    )
    first, last = report["parts"]["train"]["first"][:10], report["parts"]["test"]["last"][:10]
    what = f"Prepared data of <b>{escape(str(report['source']))}</b>, {first} to {last}"
    return f'<p class="eyebrow">{what}</p><h1>{escape(headline(report))}</h1><ul class="card remarks">{lines}</ul>'


def _flow(report: Report) -> str:
    clean = report["clean"]
    losses = [f for f in clean["findings"] if f["severity"] in ("select", "drop") and f["rows"]]
    rows_in, kept = clean["rows_in"], clean["rows_out"]
    stack = stacked([("kept", kept, "kept"), *((f["severity"], f["rows"], f["name"]) for f in losses)], rows_in)
    most = max((f["rows"] for f in losses), default=1)
    lines = [
        (f["name"], f["severity"], f["rows"] / most, f"−{f['rows']:,} · {_share(f['share'])}")
        for f in sorted(losses, key=lambda f: -f["rows"])
    ]
    words = f"{rows_in:,} raw trips came in, {kept:,} are left"
    gaps = f", {report['dropped_in_gaps']:,} of them between two parts" if report["dropped_in_gaps"] else ""
    left_out = rows_in - asked_about(report)
    note = f" {left_out:,} were not asked about (grey), which is no fault." if left_out else ""
    return section(
        "What came in and what is left",
        f"{words}{gaps}.{note} A trip counts once, under the first rule that catches it.",
        f'<div class="card">{stack}<div class="flow">{bars(lines)}</div></div>',
    )


def _rules(report: Report) -> str:
    findings, budget = report["clean"]["findings"], report["settings"].get("budget") or {}
    loud = sorted((f for f in findings if f["rows"]), key=lambda f: -f["rows"])
    rows = [
        [
            f"<b>{escape(f['name'])}</b>",
            f'<span class="tag {f["severity"]}">{_DOES[f["severity"]]}</span>',
            f"{f['rows']:,}",
            _share(f["share"]),
            "" if (limit := limit_of(f, budget)) is None else f"{limit:.1%}",
            f"{escape(f['meaning'])}<br><small>such as {escape(example_text(f['example']))}</small>",
        ]
        for f in loud
    ]
    quiet = ", ".join(f["name"] for f in findings if not f["rows"])
    note = f'<p class="small">Caught nothing: {escape(quiet)}</p>' if quiet else ""
    heads = ("rule", "", "n:rows", "n:of raw", "n:budget", "what:meaning, and one trip")
    intro = "What each rule caught. A mended trip stays with another value, a flagged one stays as it is."
    return section("The rules", intro, f'<div class="card wide">{table(heads, rows, "rules")}{note}</div>')


def _target(report: Report) -> str:
    name = target_of(report)
    column = report["profile"]["numbers"].get(name)
    if column is None:
        return ""
    heads = ("", "n:rows", "n:P10", "n:median", "n:mean", "n:P90", "n:P99", "n:longest")
    rows = [
        [f'<i class="{part}"></i>{part}', f"{report['profile']['rows'][part]:,}"]
        + [number(known[key]) for key in ("p10", "p50", "mean", "p90", "p99", "max")]
        for part, known in column["figures"].items()
    ]
    picture = f'<div class="wide">{distribution(column, width=1040, height=240, marks=True)}</div>'
    words = f"Distribution of {name} in {column['unit']}; half a percent at each end is beyond the picture."
    words += _sampled(report)
    figures = f'<div class="wide">{table(heads, rows)}</div>'
    return section("What is predicted", words, f'<div class="card">{legend(("train", "test"))}{picture}{figures}</div>')


def _days(report: Report) -> str:
    picture = requests_by_day(report["profile"]["days"])
    gaps = f"; {report['dropped_in_gaps']:,} trips in the gaps before boundaries" if report["dropped_in_gaps"] else ""
    words = f"Local days. The parts follow each other in time, so that test is the future of training{gaps}."
    return section(
        "Requests by day", words, f'<div class="card">{legend(PARTS)}<div class="wide">{picture}</div></div>'
    )


def _numbers(report: Report) -> str:
    target = target_of(report)
    cards = [
        card(name, _number_words(column), distribution(column), column["drift"])
        for name, column in report["profile"]["numbers"].items()
        if name != target
    ]
    words = "Shares of the rows by value. Where the line leaves the area, test is another world than training."
    words += _sampled(report)
    return section(
        "Numbers, train and test", words, f'{legend(("train", "test"))}<div class="grid">{"".join(cards)}</div>'
    )


def _sampled(report: Report) -> str:
    every = report["profile"].get("every", 1)
    return f" Pictures and quantiles are of one row in {every}." if every > 1 else ""


def _texts(report: Report) -> str:
    cards = [
        card(name, f"{column['distinct']:,} values", values(column), column["drift"])
        for name, column in report["profile"]["texts"].items()
    ]
    words = "The commonest values and their share of the rows."
    body = f'{legend(("train", "test"))}<div class="grid">{"".join(cards)}</div>'
    return section("Categories, train and test", words, body) if cards else ""


def _missing(report: Report) -> str:
    missing = report["profile"]["missing"]
    known = {name: shares for name, shares in missing.items() if any(share for share in shares.values())}
    rows = [
        [
            escape(name),
            "" if shares["raw"] is None else f"{shares['raw']:.2%}",
            *(f"{shares[part]:.2%}" for part in ("train", "test")),
            bar("train", shares["train"]),
        ]
        for name, shares in sorted(known.items(), key=lambda item: -item[1]["train"])
    ]
    whole = ", ".join(name for name in missing if name not in known)
    note = f'<p class="small">Never missing: {escape(whole)}</p>' if whole else ""
    heads = ("column", "n:raw", "n:train", "n:test", "b:train")
    words = (
        "Share of the rows without a value: in the raw table, where it has the column, and after mending and joining."
    )
    return section("Missing values", words, f'<div class="card wide">{table(heads, rows)}{note}</div>')


def _conditions(report: Report) -> str:
    if not report["conditions"]:
        return ""
    lines = [(table, "train", share, f"{share:.2%}") for table, share in report["conditions"].items()]
    words = "Share of the requests for which something fresh was known when they were made."
    return section("Conditions known", words, f'<div class="card"><div class="flow">{bars(lines)}</div></div>')


def _leakage(report: Report) -> str:
    leakage = report.get("leakage")
    if not leakage or not leakage["columns"]:
        return ""
    suspected = {one["column"] for one in leakage["suspicions"]}
    rows = [
        [
            f"<b>{escape(name)}</b> suspected" if name in suspected else escape(name),
            f"{max(found['explained'], 0):.1%}",
            f"{found['rank_correlation']:.2f}",
            bar("drop" if name in suspected else "train", max(found["explained"], 0)),
        ]
        for name, found in sorted(leakage["columns"].items(), key=lambda item: -item[1]["explained"])
    ]
    words = (
        f"What each input tells of {target_of(report)} by itself, in {leakage['rows']:,} training rows: the share of "
        "the absolute deviation it explains, and its rank correlation. Past 70 % or 0.90 it is suspected."
    )
    return section(
        "Leakage", words, f'<div class="card wide">{table(("input", "n:explains", "n:rank", "b:"), rows)}</div>'
    )


def _making(report: Report) -> str:
    seconds = {stage: float(spent) for stage, spent in report["seconds"].items()}
    most, total = max(seconds.values(), default=1.0) or 1.0, sum(seconds.values())
    lines = [(stage, "train", spent / most, f"{spent:.1f} s") for stage, spent in seconds.items()]
    speed = f", {report['clean']['rows_in'] / total:,.0f} raw trips a second" if total else ""
    prints = {"data": report["data_fingerprint"], "schema": report["schema_fingerprint"]}
    shown = " · ".join(f"{what} <code>{escape(str(value))}</code>" for what, value in prints.items())
    settings = escape(json.dumps(report["settings"], indent=2, ensure_ascii=False))
    words = f"{total:.1f} s with {escape(str(report.get('engine', 'polars')))}{speed}."
    body = f'<div class="flow">{bars(lines)}</div><p class="small">Fingerprints: {shown}</p>'
    body += f"<details><summary>Settings</summary><pre>{settings}</pre></details>"
    return section("How it was made", words, f'<div class="card">{body}</div>', is_html=True)


def _share(share: float) -> str:
    return "<0.01%" if 0 < share < 0.00005 else f"{share:.2%}"


def _number_words(column: Mapping[str, Any]) -> str:
    figures = column["figures"].get("train") or next(iter(column["figures"].values()))
    unit = "" if column["unit"] == "1" else f" {column['unit']}"
    return f"{number(figures['min'])} to {number(figures['max'])}{unit}, median {number(figures['p50'])}"


def example_text(example: Mapping[str, Any] | None) -> str:
    """`request_id r1, requested_at 2026-01-12 12:00:00 UTC, pickup_time_s —`."""
    return ", ".join(f"{name} {_shown(name, value)}" for name, value in (example or {}).items())


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "—"
    if name.endswith("_at") and isinstance(value, int):
        return utc_text(value)[:19].replace("T", " ") + " UTC"
    return str(value)
