"""The story, chapter by chapter: quiet hours, the closed highway, the alert, the retraining, the bad models, the end.

    story = Story(world, bad_folder, Chapters())
    story.tell()
    summary = sum_up(story)

Nothing in it is played but the city: alerts are the monitor's; the retraining and the deployments are the commands that
people and schedulers run; what the story says of them it reads from the release history and the log.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hailtime.errors import HailtimeError
from hailtime.example.bad_model import TOO_SHORT, scaled
from hailtime.example.watching import MINUTE_S, Watching, made_s
from hailtime.example.world import ROOT, World, running

REFUSED, TRIES = 10, 3  # the exit status of a retraining whose challenger was refused; how often it may be


RETRAIN = {  # what fits a story of hours in place of days
    "label_delay_s": 1200,  # P99 of the waits is 19 minutes
    "window.alert_lag_min": 44,  # the alerts look at half an hour, and the last of them comes so much later
    # quiet hours before closed ones would teach that the hour of the day makes the difference (measured: 1.153 times
    # the best possible three hours later with them, 1.106 without)
    "window.old_per_new": 0.0,
    "window.recent_days": None,
    "parts.validation": 0.08,
    "parts.calibration": 0.12,
    "parts.test": 0.20,
    "gap_s": 60,  # of a log of hours, ten minutes before each part would be too much
    "train.trainer.max_epochs": 8,
    "train.optimizer.lr": 3e-4,
    "due.pause_h": 0,
    "gates.slice_rows": 400,  # of the half hour that it is judged by, a zone has a hundred: one long ride decides
    "rollout.poll_s": 120,  # two real seconds: a look compares thousands of answers
}


@dataclass(frozen=True)
class Chapters:
    """How long each lasts, in minutes of the city; what has an end of its own has at most so many.

    - learn: from the alert on, until there is enough of the changed city to learn from
    - retrain: settings over those of configs/retrain.yaml, by dotted name
    """

    quiet: float = 45
    alert: float = 120
    learn: float = 60
    live: float = 600
    after: float = 100
    calm: float = 120
    bad: float = 180
    end: float = 35
    retrain: Mapping[str, Any] = field(default_factory=lambda: RETRAIN)


class Story(Watching):
    """Tells it once."""

    def __init__(self, world: World, bad: Path, chapters: Chapters, say: Callable[[str], None] = print) -> None:
        super().__init__(world, say)
        self.bad, self.chapters = bad, chapters
        self.stopped_by: list[str] = []

    def tell(self) -> None:
        self.keep_right()
        self.wait(self.chapters.after)
        self.until(self.is_calm, self.chapters.calm, "the end of the alerts")  # one that fires does not fire anew
        self.ship_scaled()
        self.ship_mislabelled()
        self.wait(self.chapters.end)

    def keep_right(self) -> None:
        """From the first request until a model of the changed city is live."""
        self.mark("begun", "the city begins to ask")
        self.wait(self.chapters.quiet)
        self.world.player.live.switch_on("closure", self.world.player.now_s)
        self.mark("closed", "THE HIGHWAY CLOSES, and nobody tells the model")
        alert = self.next_alert("changed world", self.chapters.alert)
        self.mark("alert", at_s=alert["at_s"])
        self.retrain(f"alert {', '.join(alert['alerts'])}: {alert['cause']}")

    def retrain(self, because: str) -> None:
        """The command that a scheduler runs, until a new version answers everybody."""
        old, output = self.stable(), self.world.folder / "retrain.log"
        for _ in range(TRIES):
            self.wait(self.chapters.learn)
            command = self._retrain("--because", because)
            self.mark("retraining", f"python {shlex.join(command[:3])}")
            with running(command, output, is_training=True) as process:
                self.until(lambda: process.poll() is not None, self.chapters.live, "the end of the retraining")
            if process.returncode != REFUSED:
                break
            self.line(f"refused, and the live model untouched: {last_words(output)}")
        if process.returncode != 0 or self.stable() == old:
            raise HailtimeError(f"the retraining ended with {process.returncode}: {last_words(output, 2000)}")
        live_s = next(made_s(change) for change in self.changes() if change.plan and change.plan.stable != old)
        self.mark("live", f"VERSION {self.stable()} ANSWERS EVERYBODY", live_s)

    def _retrain(self, *more: str) -> list[str]:
        """The command, with what is other here than in configs/retrain.yaml."""
        world = self.world
        places = {"log": world.log, "store": world.store, "repository": world.repository, "folder": world.retrainings}
        changes = {name: str(place.absolute()) for name, place in places.items()} | {"url": world.triton.url}
        changed = [f"{name}={json.dumps(value)}" for name, value in {**changes, **self.chapters.retrain}.items()]
        return ["scripts/retrain.py", *more, *changed]

    def ship_scaled(self) -> None:
        """Somebody multiplied the answers in the live model's file: the gates see it."""
        good = sorted(self.world.retrainings.glob("*/run"))[-1]
        self.mark("scaled", f"SOMEBODY SHIPS a file whose answers were multiplied by {TOO_SHORT}")
        if self._deploy(scaled(good, self.bad), "shorter promises").returncode == 0:
            raise HailtimeError("a file with scaled answers went live: the parity gate should have refused it")
        refused = self.changes()[-1]
        gate = next((gate for gate in refused.gates if not gate.passed), None)
        self.line(f"refused by the gate {gate.name}: {gate.text}" if gate else f"refused: {refused.why}")
        self.stopped_by.append(f"scaled answers: gate {gate.name if gate else 'none'}, nobody was answered by it")

    def ship_mislabelled(self) -> None:
        """Somebody trained on labels that are too short: offline it looks well, so the live errors must tell."""
        before, run = self.stable(), self.bad / "mislabelled"
        self.until((run / "model.onnx").exists, self.chapters.bad, "the mislabelled model")
        self.mark("bad", "SOMEBODY SHIPS a model trained on wrong labels, on which it is the better one")
        if (done := self._deploy(run, "better on its own later trips")).returncode != 0:
            raise HailtimeError(f"wrong labels should pass the gates, which know no others: {done.stderr[-500:]}")
        self.mark("bad live", at_s=made_s(self.changes()[-1]))
        alert = self.next_alert("release", self.chapters.bad)
        done = self._run(*self._retrain())  # as its scheduler does
        if self.stable() != before:
            raise HailtimeError(f"version {before} should answer again: {done.stdout}{done.stderr}; alert: {alert}")
        self.mark("stopped", f"VERSION {before} ANSWERS EVERYBODY AGAIN")
        minutes = (self.marks["stopped"] - self.marks["bad live"]) / MINUTE_S
        told = f"alert {', '.join(alert['alerts'])}, and retrain.py rolled back, after {minutes:.0f} min"
        self.stopped_by.append(f"wrong labels: {told}")

    def _deploy(self, run: Path, why: str) -> subprocess.CompletedProcess[str]:
        return self._run("scripts/deploy.py", run, "--why", why, *self._where())

    def _where(self) -> tuple[object, ...]:
        return ("--repository", self.world.repository, "--url", self.world.triton.url)

    def _run(self, *command: object) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in command]
        self.line(f"python {shlex.join(words)}")
        return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def last_words(output: Path, n: int = 300) -> str:
    return output.read_text(errors="replace").strip()[-n:]
