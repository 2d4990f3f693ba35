"""What scripts show people: tables on the terminal, and errors in one line."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hailtime.errors import HailtimeError

if TYPE_CHECKING:  # only tables need rich; the image that serves has none
    from rich.console import Console


def run_script(main: Callable[[], None]) -> None:
    """Runs a script; an error of ours is told on stderr without a traceback, exit status 2."""
    try:
        main()
    except HailtimeError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2)


def console() -> "Console":
    """As wide as the terminal, and wide enough for our tables where the output is a file or a pipe."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=120)


def metrics_table(metrics: Mapping[str, Any]) -> None:
    """The network beside what it was measured against, one row each."""
    from rich.table import Table

    table = Table(title=f"{metrics['rows']:,} later trips the model has never seen; seconds", title_justify="left")
    table.add_column("")
    for heading in ("MAE", "RMSE", "median", "P90 error", "bias", "within 2 min", "P10–P90 holds", "width"):
        table.add_column(heading, justify="right")
    for name in ("rule", "lightgbm", "network", "best_possible"):
        if name in metrics:
            table.add_row(name.replace("_", " "), *_figures(metrics[name]), style="bold" if name == "network" else "")
    console().print(table)


def stage_table(seconds: Mapping[str, float], notes: Mapping[str, str]) -> None:
    """Where the time went, stage by stage along the line, and what each stage left."""
    from rich.table import Table

    table = Table(title="The line", title_justify="left")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("what came out", overflow="fold")
    for stage, spent in seconds.items():
        table.add_row(stage, f"{spent:.1f}", notes.get(stage, ""))
    table.add_row("all", f"{sum(seconds.values()):.1f}", "", style="bold")
    console().print(table)


def _figures(figures: Mapping[str, float]) -> list[str]:
    coverage, width = figures.get("coverage_p10_p90"), figures.get("width_p10_p90_s")
    return [
        *(f"{figures[k]:.1f}" for k in ("mae_s", "rmse_s", "median_abs_error_s", "p90_abs_error_s", "bias_s")),
        f"{figures['within_2_min']:.1%}",
        "" if coverage is None else f"{coverage:.1%}",
        "" if width is None else f"{width:.0f}",
    ]
