"""What is live, since when, where it comes from and what became of every other version: read from the repository.

python scripts/releases.py [--json]
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hailtime.rollout import Rollout
from hailtime.serving.config_file import Served, read_served
from hailtime.serving.gates import GateResult
from hailtime.serving.history import PENDING, Change, settled_changes
from hailtime.serving.places import model_folder, present_versions, version_folder
from hailtime.serving.repository import read_origin
from hailtime.serving.switch import previous_version


@dataclass(frozen=True)
class Standing:
    """A version and how it stands today.

    - `version`: None for a run that was refused before it became one
    - `state`: stable, canary 5 %, shadow, previous (where a rollback goes), retired, rolled back,
      refused, or published (never live)
    - `since`, `by`, `why`: of the change that brought it there; `why` is the reason where it was refused
    - `is_kept`: whether its files are still in the repository
    """

    version: int | None
    state: str
    since: str
    run: str
    data_fingerprint: str
    mae_s: float | None
    by: str
    why: str
    is_kept: bool
    gates: tuple[GateResult, ...]


def standings(repository: Path) -> list[Standing]:
    """Every version there was, the newest first, and the runs that were refused before they became one."""
    served = read_served(repository)
    changes = settled_changes(repository, served)
    present = present_versions(repository)
    told = {change.version for change in changes if change.version is not None}
    previous = previous_version(repository, served.rollout.stable) if served else None
    rows = [_standing(version, repository, served, previous, changes) for version in sorted({*present, *told})[::-1]]
    return rows + [_refused(change, False) for change in reversed(changes) if change.version is None]


def _standing(
    version: int, repository: Path, served: Served | None, previous: int | None, changes: Sequence[Change]
) -> Standing:
    own = [change for change in changes if change.version == version]
    is_kept = version in present_versions(repository)
    state = state_of(version, served.rollout if served else None, previous)
    if state == "retired" and own and own[-1].action == "refuse":
        return _refused(own[-1], is_kept)
    turn = last_turn(version, changes)
    if turn is None:  # nobody wrote anything down: published, and not deployed yet
        origin = read_origin(version_folder(repository, version))
        run, data = str(origin.get("run") or ""), str(origin.get("data_fingerprint") or "")
        published_at = str(origin.get("published_at", ""))
        return Standing(version, "published", published_at, run, data, origin.get("mae_s"), "", "", is_kept, ())
    if state == "retired" and turn.action == "rollback":
        state = "rolled back"
    first = own[0] if own else turn
    gates = next((change.gates for change in own if change.gates), ())
    origin_of = (first.run, first.data_fingerprint, first.mae_s)
    return Standing(version, state, turn.at, *origin_of, turn.by, turn.why, is_kept, gates)


def state_of(version: int, plan: Rollout | None, previous: int | None) -> str:
    """What the plan says of a version."""
    if plan is not None:
        if version == plan.stable:
            return "stable"
        if version == plan.canary:
            return f"canary {plan.canary_percent:g} %"
        if version == plan.shadow:
            return "shadow"
    return "previous" if version == previous else "retired"


def last_turn(version: int, changes: Iterable[Change]) -> Change | None:
    """The change since which the version has the part it has; None when it never had one."""
    part, turn = "retired", None
    for change in changes:
        if change.plan is None or change.action == "refuse":
            continue
        now = state_of(version, change.plan, None)
        if now != part:
            part, turn = now, change
    return turn


def is_settled(repository: Path) -> bool:
    """False while a change is being made, or after who made it was killed."""
    return not (model_folder(repository) / PENDING).exists()


def _refused(change: Change, is_kept: bool) -> Standing:
    origin = (change.run, change.data_fingerprint, change.mae_s)
    return Standing(change.version, "refused", change.at, *origin, change.by, change.why, is_kept, change.gates)
