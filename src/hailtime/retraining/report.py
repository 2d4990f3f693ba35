"""What was decided and why, with the numbers: report.json and a page of its own that needs nothing else."""

import base64
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hailtime.durable import store_file
from hailtime.plots import BLUE, GREY, new_figure
from hailtime.preparation.page_html import section, table
from hailtime.preparation.page_style import STYLE

WORDS = {
    "live": "The new version is live",
    "refused": "Refused; the live model was left alone",
    "rolled_back": "It was live, fared worse, and was rolled back",
}


def write_report(folder: Path, state: Mapping[str, Any]) -> None:
    """report.json and report.html of a retraining's state."""
    store_file(folder / "report.json", json.dumps(state, indent=1))
    store_file(folder / "report.html", page(state))


def page(state: Mapping[str, Any]) -> str:
    """The whole page as HTML."""
    outcome, steps = state["outcome"], state["steps"]
    parts = [
        f'<p class="eyebrow">Retraining <b>{escape(state["id"])}</b>: {escape(state["because"])}</p>',
        f"<h1>{escape(WORDS[outcome['kind']])}</h1><p>{escape(outcome['why'])}</p>",
        _error(steps["judge"]) if "judge" in steps else "",
        _gates(steps["gates"]["gates"]) if "gates" in steps else "",
        _slices(steps["judge"]["slices"]) if "judge" in steps else "",
        _stages(steps),
        _making(state),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Retraining {escape(state['id'])}</title>"
        f"<style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>"
    )


def _error(judged: Mapping[str, Any]) -> str:
    overall, coverage = judged["overall"], judged["coverage"]
    words = (
        f"Mean error {overall['challenger_mae_s']:.2f} s against the live model's {overall['champion_mae_s']:.2f} s on "
        f"the same {overall['rows']:,.0f} latest rows that neither was trained on: {overall['difference_s']:+.2f} s, "
        f"{overall['low_s']:+.2f} to {overall['high_s']:+.2f} by a bootstrap of {overall['blocks']:.0f} blocks of "
        "time. "
        f"P10 to P90 holds {coverage['challenger']:.1%} ({coverage['champion']:.1%})."
    )
    image = base64.b64encode(_picture(judged["hours"])).decode()
    alt = "mean error of both models by hour"
    return section("Error", words, f'<img style="max-width:100%" alt="{alt}" src="data:image/png;base64,{image}">')


def _picture(hours: list[Mapping[str, float]]) -> bytes:
    """Error per hour of both models with its 95 % band, PNG."""
    figure, (axes,) = new_figure(1)
    figure.set_size_inches(9, 3.6)
    at: Any = [datetime.fromtimestamp(hour["hour_s"], UTC) for hour in hours]
    for name, color, label in (("champion", GREY, "live model"), ("challenger", BLUE, "challenger")):
        mae_s = [hour[f"{name}_mae_s"] for hour in hours]
        band_s = [hour[f"{name}_band_s"] for hour in hours]
        axes.plot(at, mae_s, color=color, marker="o", markersize=3, label=label)
        low, high = ([m + sign * b for m, b in zip(mae_s, band_s, strict=True)] for sign in (-1, 1))
        axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="hour of the request, UTC", ylabel="mean absolute error, s", ylim=(0, None))
    axes.set_title("Error by hour on the latest rows, bands of 95 %")
    axes.legend(frameon=False)
    figure.autofmt_xdate(rotation=0, ha="center")
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _gates(gates: list[Mapping[str, Any]]) -> str:
    rows = [
        [escape(gate["name"]), "passed" if gate["passed"] else "<b>refused</b>", escape(gate["text"])] for gate in gates
    ]
    words = "All must be passed before anybody hears of a new version; the deployment's own come on top."
    return section("Gates", words, table(["gate", "", "what:what it found"], rows))


def _slices(slices: Mapping[str, Mapping[str, float]]) -> str:
    ordered = sorted(slices.items(), key=lambda one: -one[1]["difference_s"])
    shown = ordered if len(ordered) <= 12 else [*ordered[:6], *ordered[-6:]]
    rows = [
        [
            escape(name),
            f"{one['rows']:,.0f}",
            f"{one['champion_mae_s']:.1f}",
            f"{one['challenger_mae_s']:.1f}",
            f"{one['difference_s']:+.1f} ({one['low_s']:+.1f} to {one['high_s']:+.1f})",
        ]
        for name, one in shown
    ]
    words = f"The worst and the best of {len(slices)}; seconds. All intervals hold together."
    return section("Slices", words, table(["slice", "n:rows", "n:live model", "n:challenger", "n:difference"], rows))


def _stages(steps: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [escape(name.removesuffix("_look")), escape(one["verdict"]), f"{one['rows']:,}", escape(one["text"])]
        for name, one in steps.items()
        if "verdict" in one
    ]
    words = "The new version's own answers against what the old one says to the same requests."
    return section("Live", words, table(["stage", "verdict", "n:rows", "what:what was seen"], rows)) if rows else ""


def _making(state: Mapping[str, Any]) -> str:
    decision = state["decision"]
    span = " to ".join(_moment(decision[name]) for name in ("from_s", "to_s"))
    since = f", the world changed at {_moment(decision['since_s'])}" if decision["since_s"] else ""
    rows = [
        [escape(name), _moment(step["at_s"]), f"{step['seconds']:.1f}"]
        for name, step in state["steps"].items()
        if "seconds" in step
    ]
    words = (
        f"Requests of {span}{since}; {decision['new_rows']:,} of {decision['rows']:,} since then. "
        f"Trained {state['steps'].get('train', {}).get('start', 'not')}."
    )
    return section("How it came about", words, table(["step", "done at", "n:seconds"], rows))


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, ZoneInfo("UTC")).strftime("%Y-%m-%d %H:%M UTC")
