"""The way to everybody: shadow, canary, promoted, watched; back at once when it fares worse live. Every step may be
repeated: what the plan says already is not done again, and a plan that somebody else changed is left alone.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hailtime import clock
from hailtime.errors import DeployError
from hailtime.locking import locked
from hailtime.monitoring.log_source import LogSource
from hailtime.retraining.champion import Champion
from hailtime.retraining.live import Look, Stage, Verdict, look, verdict
from hailtime.retraining.settings import RetrainSettings
from hailtime.retraining.state import Retraining
from hailtime.rollout import Rollout
from hailtime.serving.config_file import read_served
from hailtime.serving.control import TritonControl
from hailtime.serving.deploy import FOR_ALL, Aim, abort, activate, aim_candidate, deploy, promote
from hailtime.serving.history import read_history
from hailtime.serving.places import LOCK, present_versions, version_folder
from hailtime.serving.repository import read_origin
from hailtime.serving.rollback import rollback
from hailtime.serving.switch import follow, settle

log = logging.getLogger(__name__)

HOUR_S = 3600
PLAN_S = 10.0  # real seconds until every client has read the new plan: they look every 5 (plan_refresh_s)
End = tuple[Literal["live", "refused", "rolled_back"], str]


class Introduction:
    """Of one retraining. `why` is what the release history will say."""

    def __init__(self, retraining: Retraining, settings: RetrainSettings, champion: Champion, why: str) -> None:
        self.retraining, self.settings, self.champion, self.why = retraining, settings, champion, why
        self.repository = Path(settings.repository)

    def run(self) -> End:
        """From wherever it stands to its end. DeployError when the server does not answer: try again later."""
        with TritonControl(self.settings.url, self.repository) as control, locked(self.repository / LOCK, DeployError):
            follow(self.repository, control, settle(self.repository))  # what somebody left who was killed
        for stage in ("shadow", "canary"):
            if stage in self.settings.rollout.stages:
                end = self._trial(stage)
                if end is not None:
                    return end
        try:
            self.retraining.step("promote", self._promote)
        except _Ended as ended:
            return ended.end
        return (
            self._watch()
            if "watch" in self.settings.rollout.stages
            else ("live", "for everybody at once, and not watched")
        )

    def _trial(self, stage: Literal["shadow", "canary"]) -> End | None:
        """A shadow or a canary; None when it may go on."""
        try:
            began = self.retraining.step(stage, partial(self._enter, stage))
        except _Ended as ended:
            return ended.end
        seen = self.retraining.step(f"{stage}_look", lambda: self._wait(stage, began["version"], began["at_s"]))
        if seen["verdict"] == "good" or (seen["verdict"] == "little" and self.settings.rollout.little == "go_on"):
            return None
        why = f"the {stage} was ended: {seen['text']}"
        if self._plan().candidate == began["version"]:
            abort(self.repository, self.settings.url, why=f"{self.why}; {why}")
        return "refused", why

    def _enter(self, stage: Literal["shadow", "canary"]) -> dict[str, Any]:
        aim = Aim("shadow") if stage == "shadow" else Aim("canary", self.settings.rollout.canary_percent)
        ours, plan = self.version(), self._plan()
        if ours is not None and plan.candidate == ours:
            if aim.plan(plan, ours) != plan:
                aim_candidate(self.repository, aim, self.settings.url, why=self.why)
            return {"version": ours}
        self._check_untouched()
        return {"version": self._deploy(aim)}

    def _promote(self) -> dict[str, Any]:
        """Everybody, of what is on trial or at once."""
        ours, plan = self.version(), self._plan()
        if ours is not None and plan.stable == ours:
            return {"version": ours}
        if ours is not None and plan.candidate == ours:
            promote(self.repository, self.settings.url, why=self.why)
            return {"version": ours}
        self._check_untouched()
        return {"version": self._deploy(FOR_ALL)}

    def _watch(self) -> End:
        began = self.retraining.done("promote")
        assert began is not None
        since_s = began["at_s"] + PLAN_S * clock.speed()
        seen = self.retraining.step("watch", lambda: self._wait("watch", began["version"], since_s))
        if seen["verdict"] != "bad":
            return "live", seen["text"]
        why = f"live it fares worse: {seen['text']}"
        if self._plan().stable == began["version"]:
            rollback(self.repository, self.settings.url, self.champion.version, why=f"{self.why}; {why}")
        return "rolled_back", why

    def _wait(self, stage: Stage, version: int, since_s: float) -> dict[str, Any]:
        """Looks again and again until a verdict or the stage's end."""
        rollout = self.settings.rollout
        until_s = since_s + HOUR_S * getattr(rollout, f"{stage}_h")
        percent = rollout.canary_percent if stage == "canary" else 100.0
        source, delay_s = LogSource(self.settings.log), self.settings.label_delay_s
        while True:
            now_s = clock.now()
            seen: Look = look(source, self.champion, version, stage, since_s, now_s, percent, delay_s)
            said: Verdict = verdict(seen, rollout, stage, now_s >= until_s)
            if said.kind == "wait" and self._plan().versions.isdisjoint({version}):
                said = Verdict("bad", "somebody else took it out of the plan")
            if said.kind != "wait":
                log.info("%s: %s", stage, said.text)
                return {"verdict": said.kind, "text": said.text, **seen.to_dict()}
            clock.sleep(min(rollout.poll_s, max(until_s - now_s, 0.1)))

    def _deploy(self, aim: Aim) -> int:
        """As a new version, or the one that was published before a kill."""
        published = self.version()
        try:
            if published is not None:
                return activate(self.repository, published, self.settings.url, aim, why=self.why).version
            return deploy(self.retraining.run, self.repository, self.settings.url, aim, why=self.why).version
        except DeployError as error:
            raise _Ended(("refused", str(error))) from error

    def version(self) -> int | None:
        """The newest version of the repository that is this retraining's run."""
        ours = str(self.retraining.run.resolve())
        for version in present_versions(self.repository)[::-1]:
            if read_origin(version_folder(self.repository, version)).get("folder") == ours:
                return version
        return None

    def take_back(self) -> None:
        """The candidate ends if it is ours: for a retraining that is given up."""
        ours = self.version()
        if ours is not None and self._plan().candidate == ours:
            abort(self.repository, self.settings.url, why=f"{self.why}; given up")

    def _check_untouched(self) -> None:
        plan = self._plan()
        if plan.stable != self.champion.version or plan.candidate is not None:
            now = f"{plan.stable} is stable" + (f", {plan.candidate} on trial" if plan.candidate else "")
            against = f"it was held against version {self.champion.version}"
            raise _Ended(("refused", f"{against}, and somebody changed the plan: {now}"))
        ours = self.version()
        if ours is not None and any(change.version == ours for change in read_history(self.repository)):
            raise _Ended(("refused", f"version {ours} was on its way, and somebody took it out of the plan"))

    def _plan(self) -> Rollout:
        served = read_served(self.repository)
        if served is None:
            raise DeployError(f"nothing is live in {self.repository} any more: python scripts/deploy.py RUN")
        return served.rollout


class _Ended(Exception):
    """The rollout came to its end within a step."""

    def __init__(self, end: End) -> None:
        super().__init__(end[1])
        self.end = end
