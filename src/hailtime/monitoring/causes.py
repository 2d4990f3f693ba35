"""Why an alert fires, as far as the log can tell, in one plain sentence, and what to do about it.

- breakage: inputs stopped coming, or come under new names: the feed is wrong, not the model
- release: the error began with a new version
- moved inputs: the world asks other things than training saw
- changed world: the same inputs lead to other pickup times, as when a highway closes
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from hailtime.monitoring.situation import Situation

RELEASE_S = 3600  # an error that begins within an hour of a release has its cause there, unless inputs broke

Kind = Literal["breakage", "release", "moved inputs", "changed world", "fallback", "no news"]


@dataclass(frozen=True)
class Cause:
    """A likely cause and the command to run next."""

    kind: Kind
    sentence: str
    next_command: str


def cause_of(measures: Collection[str], situation: Situation, released_s: float | None = None) -> Cause:
    """The cause of the measures that are above their limits now, the one that explains most first."""
    seen = situation.measures
    if "new_share" in measures and "new_share" in seen:
        what = _named(seen["new_share"].about)
        why = f"{seen['new_share'].value:.0%} of {what} are values that training never saw: renamed, or new"
        return Cause("breakage", why, "python scripts/monitor.py report, then tell the feed's owner or train anew")
    if "missing_points" in measures and "missing_points" in seen:
        what = _named(seen["missing_points"].about)
        points = seen["missing_points"].value
        why = f"{what} stopped coming: missing in {points:.0%} more of the requests than in training"
        return Cause("breakage", why, "look at the feed that brings it; the model answers without it meanwhile")
    is_wrong = bool({"late_share", "error_ratio"} & set(measures))
    if is_wrong and released_s is not None and 0 <= situation.at_s - released_s <= RELEASE_S:
        return Cause("release", "the error began with the version that went live last", "python scripts/rollback.py")
    if "fallback_share" in measures:
        return Cause(
            "fallback", "answers come from a fallback, no server gives them", "docs/runbook.md, Triton is down"
        )
    if "moved_share" in measures and "moved_share" in seen:
        what = _named(seen["moved_share"].about)
        why = f"the world asks other things than training saw: {what} moved"
        return Cause(
            "moved inputs", why if is_wrong else f"{why}; the error has not, so far", "python scripts/retrain.py"
        )
    if is_wrong:
        late = seen.get("late_share")
        much = f"{late.value:.0%} of the drivers come later than P90" if late else "the error has grown"
        why = f"the world changed: {much} while the inputs look as in training"
        return Cause("changed world", why, "python scripts/retrain.py")
    if "unknown_share" in measures:
        return Cause("no news", "nobody tells how requests ended", "look at what calls report_actual")
    return Cause("changed world", "", "")


def _named(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
