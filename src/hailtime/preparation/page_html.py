"""The pieces that the page of a preparation is put together from, as HTML; texts come in plain and are escaped here.

Cells of a table come as HTML.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_FAR = 0.25  # PSI from train to test


def section(title: str, words: str, body: str, is_html: bool = False) -> str:
    return f"<h2>{escape(title)}</h2><p>{words if is_html else escape(words)}</p>{body}"


def stacked(pieces: Sequence[tuple[str, int, str]], total: int) -> str:
    shares = "".join(
        f'<div class="{kind}" style="flex:{rows} 1 0" title="{escape(name)}: {rows / max(total, 1):.2%}"></div>'
        for kind, rows, name in pieces
    )
    return f'<div class="stack">{shares}</div>'


def bars(lines: Iterable[tuple[str, str, float, str]]) -> str:
    """A line each of name, a bar of a kind and a share of the width, and words."""
    return "".join(
        f'<div class="line"><span>{escape(name)}</span><div>{bar(kind, share)}</div><em>{escape(words)}</em></div>'
        for name, kind, share, words in lines
    )


def bar(kind: str, share: float) -> str:
    return f'<div class="bar {kind}" style="width:{min(share, 1):.2%}"></div>' if share > 0 else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Heads may begin with their column's kind: `n:` for numbers, `b:` for bars, `what:` for many words."""
    kinds, names = zip(*(head.split(":", 1) if ":" in head else ("", head) for head in heads), strict=True)
    top = "".join(f'<th class="{of}">{escape(name)}</th>' for of, name in zip(kinds, names, strict=True))
    lines = ["".join(f'<td class="{of}">{value}</td>' for of, value in zip(kinds, row, strict=True)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def card(name: str, words: str, picture: str, drift: float | None) -> str:
    is_far = drift is not None and drift > _FAR
    stability = "" if drift is None else f" · PSI {drift:.2f}"
    head = f'<h3>{escape(name)}</h3><p class="small">{escape(words)}{stability}</p>'
    return f'<div class="card{" far" if is_far else ""}">{head}{picture}</div>'


def values(column: Mapping[str, Any], n_shown: int = 8) -> str:
    """A pair of bars for each of the commonest values."""
    total = {part: max(sum(column["counts"][part]) + column["other"][part], 1) for part in ("train", "test")}
    shares = [
        (value, *(column["counts"][part][i] / total[part] for part in ("train", "test")))
        for i, value in enumerate(column["values"][:n_shown])
    ]
    most = max((max(train, test) for _, train, test in shares), default=1.0) or 1.0
    return '<div class="values">' + "".join(
        f'<span title="{escape(value)}: {train:.1%} of train, {test:.1%} of test">{escape(value)}</span>'
        f'<div class="pair">{bar("train", train / most)}{bar("test", test / most)}</div>'
        for value, train, test in shares
    ) + "</div>"  # fmt: skip


def legend(parts: Sequence[str]) -> str:
    return '<p class="legend">' + "".join(f'<span><i class="{part}"></i>{part}</span>' for part in parts) + "</p>"
