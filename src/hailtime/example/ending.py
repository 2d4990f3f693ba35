"""The end of the story: its numbers as a table and in summary.json, and its picture."""

import json
from typing import Any

from rich.table import Table

from hailtime import clock
from hailtime.errors import HailtimeError
from hailtime.example.figures import Window, answers, draw, errors
from hailtime.example.story import Story
from hailtime.example.watching import MINUTE_S, clock_time
from hailtime.report import console

ENDED_MIN = 30.0  # the long rides of those asked for later have no end yet
SHOWN = {  # what the picture calls the marks
    "closed": "highway closes",
    "alert": "alert",
    "retraining": "retraining",
    "live": "new model live",
    "bad live": "bad model shipped",
    "stopped": "rolled back",
}


def sum_up(story: Story) -> dict[str, Any]:
    """Windows are by when a ride was asked for, and of the version that answered everybody then."""
    at, world = story.marks, story.world
    first, second, bad = (str(story.stable(at[name] + 1)) for name in ("closed", "live", "bad live"))
    windows = {
        "before": Window(at["begun"], at["closed"], first),
        "closed": Window(at["closed"], at["live"], first),
        "after": Window(at["live"], at["bad"], second),
        "bad": Window(at["bad"], at["stopped"], bad),
    }
    truth = world.player.truth()
    found = {name: errors(answers(world.log, truth, window)) for name, window in windows.items()}
    if empty := [name for name, one in found.items() if not one["requests"]]:
        raise HailtimeError(
            f"every chapter needs rides that were asked for and have ended, there are none in {', '.join(empty)}: "
            "was the machine too busy? Tell it again with fewer riders: --requests-a-day"
        )
    summary = {
        **{f"mae_{name}_s": round(one["mae_s"], 2) for name, one in found.items()},
        **{f"best_possible_{name}_s": round(one["best_possible_s"], 2) for name, one in found.items()},
        **{f"bias_{name}_s": round(one["bias_s"], 2) for name, one in found.items()},
        **{f"requests_{name}": one["requests"] for name, one in found.items()},
        "after_over_best_possible": round(found["after"]["mae_s"] / found["after"]["best_possible_s"], 3),
        **{f"minutes_to_{name}": round((at[name] - at["closed"]) / MINUTE_S, 1) for name in ("alert", "live")},
        "minutes_bad_model": round((at["stopped"] - at["bad live"]) / MINUTE_S, 1),
        "requests": sum(world.player.counts.values()),
        "failed": world.player.n_failed,
        "answered_by": dict(world.player.counts),
        "bad_model_stopped_by": "; ".join(story.stopped_by),
        "speed": world.playing.speed,
        "marks": {name: clock_time(at_s) for name, at_s in at.items()},
    }
    (world.folder / "summary.json").write_text(json.dumps(summary, indent=1))
    rows = answers(world.log, truth, Window(at["begun"], clock.now() - ENDED_MIN * MINUTE_S))
    closed_s, after_s = summary["mae_closed_s"], summary["mae_after_s"]
    headline = f"{closed_s:.0f} s off with the highway closed, {after_s:.0f} s after it retrained itself"
    draw(rows, [(at[name], words) for name, words in SHOWN.items()], headline, world.folder / "story.png")
    return summary


def story_table(summary: dict[str, Any]) -> None:
    """Chapter by chapter."""
    table = Table(title="The story in numbers; seconds, minutes of the city", title_justify="left")
    for heading in ("", "from", "requests", "mean error", "best possible", "bias"):
        table.add_column(heading, justify="left" if not heading else "right")
    marks = summary["marks"]
    chapters = {"before": ("quiet hours", "begun"), "closed": ("highway closed, old model", "closed")}
    chapters |= {"after": ("retrained by itself", "live"), "bad": ("a bad model is live", "bad")}
    for name, (words, mark) in chapters.items():
        figures = [f"{summary[f'{what}_{name}_s']:.1f}" for what in ("mae", "best_possible", "bias")]
        table.add_row(words, marks[mark], f"{summary[f'requests_{name}']:,}", *figures)
    told = Table.grid(padding=(0, 3))
    told.add_row("error after retraining", f"{summary['after_over_best_possible']:.3f} × best possible")
    told.add_row("alert", f"{summary['minutes_to_alert']:.0f} min after the highway closed")
    told.add_row("new model live", f"{summary['minutes_to_live']:.0f} min after the highway closed")
    told.add_row("bad models stopped by", summary["bad_model_stopped_by"].replace("; ", "\n"))
    told.add_row("requests", f"{summary['requests']:,}, failed {summary['failed']}")
    console().print(table, told)
