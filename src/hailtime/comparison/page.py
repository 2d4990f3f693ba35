"""What people read of a comparison: a Markdown table and a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from hailtime.plots import BLUE, GREY, ORANGE, new_figure, save

HEADINGS = (
    "", "MAE, s", "pinball, s", "P10–P90 holds", "its slices", "width, s", "training, CPU s", "size, MB", "one row, µs",
    "intervals from",
)  # fmt: skip


def markdown(result: Mapping[str, Any], networks: list[str]) -> str:
    """A table of all learners, the best first; networks of ours are bold."""
    rows = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 2), "---")]
    rows += [_row(name, learner, name in networks) for name, learner in result["learners"].items()]
    if "best_possible" in result:
        rows.append(("*best possible*", f"{result['best_possible']['mae_s']:.2f}", *[""] * (len(HEADINGS) - 2)))
    parts = ", ".join(f"{name} {n:,}" for name, n in result["rows"].items())
    n_seeds = max(len(learner["seeds"]) for learner in result["learners"].values())
    text = (
        f"{result['source']}: {parts} rows; {result['n_trials']} tuning trials each, {n_seeds} seed(s), mean ± "
        f"standard deviation, {result['threads']} threads. A network's time for one row is of its whole ONNX file, "
        "from strings to calibrated seconds; the others' is of their Python `predict` on finished features.\n\n"
    )
    return text + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def picture(result: Mapping[str, Any], networks: list[str], path: Path) -> None:
    """MAE, pinball loss and the time of one row of every learner, as bars."""
    figure, axes = new_figure(3)
    names = list(result["learners"])
    best = result.get("best_possible", {}).get("mae_s")
    note = "" if best is None else f" (dashed: best possible {best:.1f})"
    _bars(axes[0], result, networks, "mae_s", f"MAE on the test part, s{note}", "{:.1f}")
    if best is not None:
        axes[0].axvline(best, color=GREY, linewidth=1, linestyle="--")
    _bars(axes[1], result, networks, "pinball_s", "pinball loss of P10, P50, P90, s", "{:.1f}")
    _bars(axes[2], result, networks, "latency_us", "one row, µs (logarithmic)", "{:,.0f}")
    axes[2].set_xscale("log")
    axes[0].set_title(f"{names[0]} errs least; networks in orange")
    save(figure, path)


def _row(name: str, learner: Mapping[str, Any], is_ours: bool) -> tuple[str, ...]:
    mean, deviation = learner["mean"], learner["deviation"]
    (first, *_) = learner["seeds"].values()
    slices = [f"{mean[key]:.0%}" for key in ("slice_coverage_least", "slice_coverage_most") if key in mean]
    return (
        f"**{name}**" if is_ours else name,
        _with(mean, deviation, "mae_s", 2),
        _with(mean, deviation, "pinball_s", 2),
        f"{mean['coverage_p10_p90']:.1%}",
        " to ".join(slices),
        f"{mean['width_p10_p90_s']:.0f}",
        f"{mean['train_s']:,.0f}" if mean["train_s"] >= 10 else f"{mean['train_s']:.1f}",
        f"{mean['bytes'] / 1e6:,.2f}",
        f"{mean['latency_us']:,.0f}",
        first["intervals"],
    )


def _with(mean: Mapping[str, float], deviation: Mapping[str, float], key: str, digits: int) -> str:
    spread = f" ± {deviation[key]:.{digits}f}" if key in deviation else ""
    return f"{mean[key]:.{digits}f}{spread}"


def _bars(axes: Axes, result: Mapping[str, Any], networks: list[str], key: str, label: str, form: str) -> None:
    ordered = sorted(result["learners"].items(), key=lambda item: -item[1]["mean"][key])
    names, values = [name for name, _ in ordered], [learner["mean"][key] for _, learner in ordered]
    spread = [learner["deviation"].get(key, 0.0) for _, learner in ordered]
    colors = [ORANGE if name in networks else BLUE for name in names]
    bars = axes.barh(names, values, xerr=spread, color=colors, error_kw={"elinewidth": 1, "ecolor": GREY})
    axes.bar_label(bars, [" " + form.format(value) for value in values])
    axes.set(xlabel=label)
    axes.margins(x=0.18)
