"""The report of a preparation as one page to look at: `report.html`, without a network, a script or another file.

    write_page(report, folder / "report.html")

It is made from report.json alone. The words at its top are in `page_verdict.py`, its pictures in `page_pictures.py`, its
looks in `page.css`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from hailtime.preparation.budget import limit_of
from hailtime.preparation.page_pictures import distribution, number, requests_by_day
from hailtime.preparation.page_verdict import Report, asked_about, headline, remarks, target_of
from hailtime.preparation.split import PARTS

_CSS = Path(__file__).with_name("page.css")
_MARKS = {"good": "✓", "note": "!", "bad": "✕"}
_DOES = {"select": "leaves out", "drop": "drops", "mend": "mends", "flag": "flags"}
_FAR = 0.25  # PSI from train to test


def write_page(report: Report, path: Path) -> None:
    """Writes the page of a report with its profile."""
    path.write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """The whole page as HTML."""
    sections = (_top, _flow, _rules, _target, _days, _numbers, _texts, _missing, _conditions, _leakage, _making)
    body = "".join(section(report) for section in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(str(report['source']))}: prepared data</title>"
        f"<style>{_CSS.read_text(encoding='utf-8')}</style></head><body><main>{body}</main></body></html>"
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
    stack = _stacked([("kept", kept, "kept"), *((f["severity"], f["rows"], f["name"]) for f in losses)], rows_in)
    most = max((f["rows"] for f in losses), default=1)
    lines = [
        (f["name"], f["severity"], f["rows"] / most, f"−{f['rows']:,} · {f['share']:.2%}")
        for f in sorted(losses, key=lambda f: -f["rows"])
    ]
    words = f"{rows_in:,} raw trips came in, {kept:,} are left"
    gaps = f", {report['dropped_in_gaps']:,} of them between two parts" if report["dropped_in_gaps"] else ""
    left_out = rows_in - asked_about(report)
    note = f" {left_out:,} were not asked about (grey), which is no fault." if left_out else ""
    return _section(
        "What came in and what is left",
        f"{words}{gaps}.{note} A trip counts once, under the first rule that catches it; the lower bars share one scale.",
        f'<div class="card">{stack}<div class="flow">{_bars(lines)}</div></div>',
    )


def _rules(report: Report) -> str:
    findings, budget = report["clean"]["findings"], report["settings"].get("budget") or {}
    loud = sorted((f for f in findings if f["rows"]), key=lambda f: -f["rows"])
    rows = [
        [
            f"<b>{escape(f['name'])}</b>",
            f'<span class="tag {f["severity"]}">{_DOES[f["severity"]]}</span>',
            f"{f['rows']:,}",
            f"{f['share']:.3%}",
            "" if (limit := limit_of(f, budget)) is None else f"{limit:.1%}",
            f"{escape(f['meaning'])}<br><small>such as {escape(_example(f['example']))}</small>",
        ]
        for f in loud
    ]
    quiet = ", ".join(f["name"] for f in findings if not f["rows"])
    note = f'<p class="small">Caught nothing: {escape(quiet)}</p>' if quiet else ""
    heads = ("rule", "", "n:rows", "n:of raw", "n:budget", "meaning, and one trip")
    intro = "What each rule caught. A mended trip stays with another value, a flagged one stays as it is."
    return _section("The rules", intro, f'<div class="card wide">{_table(heads, rows)}{note}</div>')


def _target(report: Report) -> str:
    name = target_of(report)
    column = report["profile"]["numbers"].get(name)
    if column is None:
        return ""
    heads = ("", "n:rows", "n:P10", "n:median", "n:mean", "n:P90", "n:P99", "n:longest")
    rows = [
        [f'<i class="{part}"></i>{part}', f"{report['profile']['rows'][part]:,}"]
        + [number(figures[key]) for key in ("p10", "p50", "mean", "p90", "p99", "max")]
        for part, figures in column["figures"].items()
    ]
    picture = f'<div class="wide">{distribution(column, width=1040, height=240, marks=True)}</div>'
    words = f"Distribution of {name} in {column['unit']}; half a percent at each end is beyond the picture."
    table = f'<div class="wide legendless">{_table(heads, rows)}</div>'
    return _section("What is predicted", words, f'<div class="card">{_legend(("train", "test"))}{picture}{table}</div>')


def _days(report: Report) -> str:
    picture = requests_by_day(report["profile"]["days"])
    gaps = f"; {report['dropped_in_gaps']:,} trips in the gaps before boundaries" if report["dropped_in_gaps"] else ""
    words = f"Local days. The parts follow each other in time, so that test is the future of training{gaps}."
    return _section(
        "Requests by day", words, f'<div class="card">{_legend(PARTS)}<div class="wide">{picture}</div></div>'
    )


def _numbers(report: Report) -> str:
    target = target_of(report)
    cards = [
        _card(name, _number_words(column), distribution(column), column["drift"])
        for name, column in report["profile"]["numbers"].items()
        if name != target
    ]
    words = "Shares of the rows by value. Where the line leaves the area, test is another world than training."
    return _section(
        "Numbers, train and test", words, f'{_legend(("train", "test"))}<div class="grid">{"".join(cards)}</div>'
    )


def _texts(report: Report) -> str:
    cards = [
        _card(name, f"{column['distinct']:,} values", _values(column), column["drift"])
        for name, column in report["profile"]["texts"].items()
    ]
    words = "The commonest values and their share of the rows."
    body = f'{_legend(("train", "test"))}<div class="grid">{"".join(cards)}</div>'
    return _section("Categories, train and test", words, body) if cards else ""


def _missing(report: Report) -> str:
    missing = report["profile"]["missing"]
    known = {name: shares for name, shares in missing.items() if any(share for share in shares.values())}
    rows = [
        [escape(name), "" if shares["raw"] is None else f"{shares['raw']:.2%}", f"{shares['train']:.2%}", f"{shares['test']:.2%}", _bar("train", shares["train"])]
        for name, shares in sorted(known.items(), key=lambda item: -item[1]["train"])
    ]  # fmt: skip
    whole = ", ".join(name for name in missing if name not in known)
    note = f'<p class="small">Never missing: {escape(whole)}</p>' if whole else ""
    heads = ("column", "n:raw", "n:train", "n:test", "train")
    words = (
        "Share of the rows without a value: in the raw table, where it has the column, and after mending and joining."
    )
    return _section("Missing values", words, f'<div class="card wide">{_table(heads, rows)}{note}</div>')


def _conditions(report: Report) -> str:
    if not report["conditions"]:
        return ""
    lines = [(table, "train", share, f"{share:.2%}") for table, share in report["conditions"].items()]
    words = "Share of the requests for which something fresh was known when they were made."
    return _section("Conditions known", words, f'<div class="card"><div class="flow">{_bars(lines)}</div></div>')


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
            _bar("drop" if name in suspected else "train", max(found["explained"], 0)),
        ]
        for name, found in sorted(leakage["columns"].items(), key=lambda item: -item[1]["explained"])
    ]
    words = (
        f"What each input tells of {target_of(report)} by itself, in {leakage['rows']:,} training rows: the share of the "
        "absolute deviation it explains, and its rank correlation. Above 70 % or 0.90 nothing known at a request is likely."
    )
    return _section(
        "Leakage", words, f'<div class="card wide">{_table(("input", "n:explains", "n:rank", ""), rows)}</div>'
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
    body = f'<div class="flow">{_bars(lines)}</div><p class="small">Fingerprints: {shown}</p>'
    body += f"<details><summary>Settings</summary><pre>{settings}</pre></details>"
    return _section("How it was made", words, f'<div class="card">{body}</div>', is_html=True)


def _section(title: str, words: str, body: str, is_html: bool = False) -> str:
    return f"<h2>{escape(title)}</h2><p>{words if is_html else escape(words)}</p>{body}"


def _stacked(pieces: Sequence[tuple[str, int, str]], total: int) -> str:
    shares = "".join(
        f'<div class="{kind}" style="flex:{rows} 1 0" title="{escape(name)}: {rows:,}, {rows / max(total, 1):.2%}"></div>'
        for kind, rows, name in pieces
    )
    return f'<div class="stack">{shares}</div>'


def _bars(lines: Iterable[tuple[str, str, float, str]]) -> str:
    """Name, bar and words, three cells a line."""
    return "".join(
        f"<div>{escape(name)}</div><div>{_bar(kind, share)}</div><div>{escape(words)}</div>"
        for name, kind, share, words in lines
    )


def _bar(kind: str, share: float) -> str:
    return f'<div class="bar {kind}" style="width:{min(share, 1):.2%}"></div>' if share > 0 else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A head that begins with `n:` is one of numbers, to the right."""
    is_number = [head.startswith("n:") for head in heads]
    cell = [
        f' class="{"n" if right else "what" if i == len(heads) - 1 and i > 4 else ""}"'
        for i, right in enumerate(is_number)
    ]
    top = "".join(f"<th{kind}>{escape(head.removeprefix('n:'))}</th>" for head, kind in zip(heads, cell, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{value}</td>" for value, kind in zip(row, cell, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _card(name: str, words: str, picture: str, drift: float | None) -> str:
    is_far = drift is not None and drift > _FAR
    stability = "" if drift is None else f" · PSI {drift:.2f}"
    head = f'<h3>{escape(name)}</h3><p class="small">{escape(words)}{stability}</p>'
    return f'<div class="card{" far" if is_far else ""}">{head}{picture}</div>'


def _number_words(column: Mapping[str, Any]) -> str:
    figures = column["figures"].get("train") or next(iter(column["figures"].values()))
    unit = "" if column["unit"] == "1" else f" {column['unit']}"
    return f"{number(figures['min'])} to {number(figures['max'])}{unit}, median {number(figures['p50'])}"


def _values(column: Mapping[str, Any], n_shown: int = 8) -> str:
    """A pair of bars for each of the commonest values."""
    total = {part: max(sum(column["counts"][part]) + column["other"][part], 1) for part in ("train", "test")}
    shares = [
        (value, *(column["counts"][part][i] / total[part] for part in ("train", "test")))
        for i, value in enumerate(column["values"][:n_shown])
    ]
    most = max((max(train, test) for _, train, test in shares), default=1.0) or 1.0
    return '<div class="values">' + "".join(
        f'<span title="{escape(value)}: {train:.1%} of train, {test:.1%} of test">{escape(value)}</span>'
        f'<div class="pair">{_bar("train", train / most)}{_bar("test", test / most)}</div>'
        for value, train, test in shares
    ) + "</div>"  # fmt: skip


def _legend(parts: Sequence[str]) -> str:
    return '<p class="legend">' + "".join(f'<span><i class="{part}"></i>{part}</span>' for part in parts) + "</p>"


def _example(example: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (example or {}).items())
