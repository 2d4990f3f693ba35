"""What was live when: `releases.jsonl` in the model's folder, one change a line, only ever added to.

A change is announced in a file beside, then made, then written down: who is killed in between leaves the announcement,
and the next deployer sees by the config's revision whether the change was made.
"""

import getpass
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from hailtime.clock import now
from hailtime.durable import append_line, store_file
from hailtime.errors import DeployError
from hailtime.rollout import Rollout
from hailtime.serving.config_file import Served
from hailtime.serving.gates import GateResult
from hailtime.serving.places import HISTORY, model_folder

Action = Literal["deploy", "canary", "shadow", "promote", "abort", "rollback", "refuse"]
PENDING = ".pending.json"


@dataclass(frozen=True)
class Change:
    """One line. `plan` holds from then on (None: nothing is served); a refusal leaves it as it was.

    - `version`: which one was deployed, promoted, gone back to, refused, ...; None where a run was refused unpublished
    - `run`, `data_fingerprint`, `mae_s`: where the version comes from, and its error on its own test part
    - `why`: the deployer's words, or the reason of a refusal
    """

    action: Action
    version: int | None
    plan: Rollout | None
    revision: str
    run: str
    data_fingerprint: str
    mae_s: float | None
    why: str
    gates: tuple[GateResult, ...]
    by: str
    at: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Change":
        entries = json.loads(text)
        plan = entries["plan"] and Rollout.from_json(json.dumps(entries["plan"]))
        gates = tuple(GateResult(**gate) for gate in entries["gates"])
        return cls(**{name: entries[name] for name in cls.__dataclass_fields__} | {"plan": plan, "gates": gates})


def new_change(
    action: Action,
    version: int | None,
    plan: Rollout | None,
    revision: str,
    manifest: Mapping[str, Any],
    why: str,
    gates: Sequence[GateResult] = (),
) -> Change:
    """A change made now, by the user of this process. `manifest`: the version's, or what there is of it."""
    mae_s = manifest.get("mae_s")
    run, data = str(manifest.get("run") or ""), str(manifest.get("data_fingerprint") or "")
    by, at = f"{_user()}@{socket.gethostname()}", datetime.fromtimestamp(now(), UTC).isoformat(timespec="seconds")
    return Change(action, version, plan, revision, run, data, mae_s, why, tuple(gates), by, at)


def read_history(repository: Path) -> list[Change]:
    """All changes, the oldest first; a line that a power cut left half is passed over."""
    file = model_folder(repository) / HISTORY
    changes = []
    for line in file.read_text(errors="replace").splitlines() if file.exists() else []:
        try:
            changes.append(Change.from_json(line))
        except (ValueError, KeyError, TypeError, DeployError):
            continue
    return changes


def announce(repository: Path, change: Change) -> None:
    store_file(model_folder(repository) / PENDING, change.to_json())


def write_down(repository: Path, change: Change) -> None:
    append_line(model_folder(repository) / HISTORY, change.to_json())
    withdraw(repository)


def withdraw(repository: Path) -> None:
    (model_folder(repository) / PENDING).unlink(missing_ok=True)


def settled_changes(repository: Path, served: Served | None) -> list[Change]:
    """The history, with the change that somebody made and was killed before writing it down."""
    changes, file = read_history(repository), model_folder(repository) / PENDING
    if served is None or not file.exists():
        return changes
    pending = Change.from_json(file.read_text())
    is_missing = pending.revision == served.revision and all(known.revision != pending.revision for known in changes)
    return [*changes, pending] if is_missing else changes


def settle_history(repository: Path, served: Served | None) -> None:
    """Write that change down; forget one that was announced and not made."""
    for change in settled_changes(repository, served)[len(read_history(repository)) :]:
        append_line(model_folder(repository) / HISTORY, change.to_json())
    withdraw(repository)


def stable_versions(changes: Sequence[Change]) -> list[int]:
    """The way to the stable version of today, which is the last: going back takes off what was gone back from."""
    way: list[int] = []
    for change in changes:
        if change.plan is None or change.action == "refuse":
            continue
        stable = change.plan.stable
        if change.action == "rollback" and stable in way:
            del way[len(way) - way[::-1].index(stable) :]
        elif not way or way[-1] != stable:
            way.append(stable)
    return way


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
