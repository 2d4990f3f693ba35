"""One retraining on the disk: `state.json` in its folder says every step that is done, with its numbers.

    with Retraining.begin(folder, settings, decision) as ...
    numbers = retraining.step("train", lambda: ...)  # runs it, or gives what it left when it was done before

The file changes by rename after each step, so who is killed repeats one step at most; every step may be repeated.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from hailtime.clock import now
from hailtime.durable import store_file
from hailtime.retraining.settings import RetrainSettings

STATE = "state.json"


@dataclass
class Retraining:
    """A folder and what its state.json holds: id, because, began_at_s, settings, steps by name, outcome."""

    folder: Path
    state: dict[str, Any]

    @classmethod
    def begin(cls, settings: RetrainSettings, because: str, decision: dict[str, Any]) -> Self:
        """A new folder, named by the time (the city's)."""
        began_s = now()
        name = datetime.fromtimestamp(began_s, UTC).strftime("%Y-%m-%d_%H-%M-%S")
        folder = Path(settings.folder) / name
        n = 1
        while folder.exists():
            n += 1
            folder = Path(settings.folder) / f"{name}_{n}"
        folder.mkdir(parents=True)
        state = {"id": folder.name, "because": because, "began_at_s": began_s, "settings": settings.to_dict()}
        found = cls(folder, {**state, "decision": decision, "steps": {}, "outcome": None})
        found.save()
        return found

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """That of a folder; None where who made it was killed before its first word."""
        try:
            return cls(folder, json.loads((folder / STATE).read_text()))
        except (OSError, ValueError):
            return None

    @property
    def id(self) -> str:
        return str(self.state["id"])

    @property
    def run(self) -> Path:
        """The challenger's run folder."""
        return self.folder / "run"

    @property
    def data(self) -> Path:
        """The prepared folder."""
        return self.folder / "data"

    @property
    def scratch(self) -> Path:
        """What is gone when it is over."""
        return self.folder / "scratch"

    @property
    def settings(self) -> RetrainSettings:
        return RetrainSettings.from_dict(self.state["settings"])

    @property
    def outcome(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.state["outcome"]
        return found

    def done(self, name: str) -> dict[str, Any] | None:
        """What a step left; None when it is not done."""
        found: dict[str, Any] | None = self.state["steps"].get(name)
        return found

    def step(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Does a step unless it is done; what it left, with `at_s` (the city's time) and `seconds`."""
        found = self.done(name)
        if found is None:
            started = time.perf_counter()
            left = work()
            found = {"at_s": now(), "seconds": round(time.perf_counter() - started, 2), **left}
            self.note(name, found)
        return found

    def note(self, name: str, found: dict[str, Any]) -> None:
        """Keeps what a step knows, also before it is done (under a name of its own)."""
        self.state["steps"][name] = found
        self.save()

    def save(self) -> None:
        store_file(self.folder / STATE, json.dumps(self.state, indent=1))


def retrainings(folder: Path) -> list[Retraining]:
    """All that are there, the oldest first."""
    found = (Retraining.load(path) for path in sorted(folder.iterdir()) if path.is_dir()) if folder.is_dir() else ()
    return [one for one in found if one is not None]


def prune(folder: Path, keep: int, needed: set[Path]) -> None:
    """Deletes all but the newest `keep`, and what a killed one left before its first word; `needed` folders stay."""
    ended = [one.folder for one in retrainings(folder) if one.outcome is not None]
    nameless = [path for path in folder.iterdir() if path.is_dir() and not (path / STATE).exists()]
    for path in [*nameless, *ended[: max(0, len(ended) - keep)]]:
        if path.resolve() not in needed:
            shutil.rmtree(path, ignore_errors=True)
