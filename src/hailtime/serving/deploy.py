"""A run becomes a version that answers, or nothing changes: publish, load beside, pass the gates, switch.

python scripts/deploy.py runs/demo [--canary 5 | --shadow]
python scripts/deploy.py --promote | --abort | --canary 25
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from hailtime.errors import DataError, DeployError
from hailtime.locking import locked
from hailtime.rollout import Rollout, check_percent
from hailtime.schema import Schema
from hailtime.serving.config_file import Served, new_revision, read_config, read_served, trial_config, write_config
from hailtime.serving.control import Tls, TritonControl
from hailtime.serving.durable import store_file
from hailtime.serving.gates import (
    LIMITS,
    GateResult,
    Limits,
    error_gate,
    latency_gate,
    parity_gate,
    require,
    schema_gate,
    size_gate,
)
from hailtime.serving.history import Action, new_change, write_down
from hailtime.serving.model_file import read_run, read_schema
from hailtime.serving.places import LOCK, check_writable, model_folder, version_folder
from hailtime.serving.repository import check_version, describe_run, place_version, publish, quarantine, read_origin
from hailtime.serving.switch import (
    check_identity,
    follow,
    loadable,
    previous_version,
    read_version_probe,
    restore,
    settle,
    switch,
    tidy,
)

__all__ = ["Aim", "Release", "abort", "activate", "aim_candidate", "deploy", "promote", "publish", "read_config"]
__all__ += ["write_config"]

log = logging.getLogger(__name__)

URL = "127.0.0.1:8001"


@dataclass(frozen=True)
class Aim:
    """What a version is to be: `deploy` answers everybody, `canary` its `percent`, `shadow` nobody who hears it."""

    action: Literal["deploy", "canary", "shadow"] = "deploy"
    percent: float = 0.0

    def check(self, before: Served | None) -> None:
        """DeployError when no version can be that now."""
        if self.action != "deploy" and before is None:
            raise DeployError(
                f"a {self.action} needs a stable version beside it, nothing is live: deploy without it first"
            )
        if self.action == "canary":
            check_percent(self.percent)

    def plan(self, before: Rollout | None, version: int) -> Rollout:
        if self.action == "deploy" or before is None:
            return Rollout(version)
        return before.with_canary(version, self.percent) if self.action == "canary" else before.with_shadow(version)


FOR_ALL = Aim()


@dataclass(frozen=True)
class Release:
    """One version that passed its gates, as release.json in its folder tells it.

    - `previous`: the stable version that was live before
    - `parity_max_abs_s`: the largest difference in seconds between PyTorch's answers and the served ones
    """

    version: int
    previous: int | None
    schema_fingerprint: str
    sha256: str
    n_probe_rows: int
    parity_max_abs_s: float
    released_at: str
    action: str
    gates: tuple[GateResult, ...]


def deploy(
    run: Path,
    repository: Path,
    url: str = URL,
    aim: Aim = FOR_ALL,
    *,
    why: str = "",
    allow_worse: bool = False,
    tls: Tls | None = None,
    limits: Limits = LIMITS,
) -> Release:
    """Serve a run's model from the Triton at `url`, whose repository this is; the versions of the plan stay loaded.

    A candidate that was on trial ends with it. On any failure the earlier config is restored, the new version is moved
    to `.quarantine/` with the reason, the refusal is written into the history, and a DeployError says why.
    """
    check_writable(repository)
    with TritonControl(url, repository, tls) as control, locked(repository / LOCK, DeployError):
        before = _settled(repository, control)
        aim.check(before)
        if before is not None:
            loadable(repository, before.rollout, ())  # else the new version's gates would find the old one's damage
        origin = describe_run(run)
        gates: list[GateResult] = []
        try:
            files = read_run(run, limits)
            schema = read_schema(files["schema.json"], run)
            gates.append(require(schema_gate(schema, before.schema if before else None)))
            version = place_version(files, origin, repository)
        except DeployError as error:
            _write_refusal(repository, None, before, origin, str(error), gates)
            raise
        return _Trial(repository, control, before, version, run, aim, why, allow_worse, limits).release()


def activate(
    repository: Path, version: int, url: str = URL, aim: Aim = FOR_ALL, *, why: str = "", tls: Tls | None = None
) -> Release:
    """The second half of `deploy`, for a version that was published before."""
    check_writable(repository)
    with TritonControl(url, repository, tls) as control, locked(repository / LOCK, DeployError):
        before = _settled(repository, control)
        aim.check(before)
        if before is not None:
            loadable(repository, before.rollout, ())  # else the new version's gates would find the old one's damage
        if not version_folder(repository, version).is_dir():
            raise DeployError(f"{model_folder(repository)} has no version {version}: publish it first")
        return _Trial(repository, control, before, version, None, aim, why, False, LIMITS).release()


def promote(repository: Path, url: str = URL, *, why: str = "", tls: Tls | None = None) -> Rollout:
    """The canary or the shadow answers everybody; the plan that holds from now on."""
    return _change_plan(repository, url, tls, "promote", Rollout.promoted, why)


def abort(repository: Path, url: str = URL, *, why: str = "", tls: Tls | None = None) -> Rollout:
    """The stable version answers everybody again; the plan that holds from now on."""
    return _change_plan(repository, url, tls, "abort", Rollout.aborted, why)


def aim_candidate(repository: Path, aim: Aim, url: str = URL, *, why: str = "", tls: Tls | None = None) -> Rollout:
    """The candidate gets another share, a shadow becomes a canary or the other way round."""

    def changed(plan: Rollout) -> Rollout:
        if plan.candidate is None:
            raise DeployError(
                f"there is no canary or shadow to change: python scripts/deploy.py RUN --{aim.action} ..."
            )
        return aim.plan(plan, plan.candidate)

    return _change_plan(repository, url, tls, aim.action, changed, why)


def _change_plan(
    repository: Path, url: str, tls: Tls | None, action: Action, change_of: Callable[[Rollout], Rollout], why: str
) -> Rollout:
    """Another plan for versions that passed their gates before."""
    check_writable(repository)
    with TritonControl(url, repository, tls) as control, locked(repository / LOCK, DeployError):
        before = _settled(repository, control)
        if before is None:
            raise DeployError(f"nothing is live in {repository}: python scripts/deploy.py RUN")
        plan = change_of(before.rollout)
        version = before.rollout.candidate
        assert version is not None
        config = before.with_plan(_versions(repository, before, plan), plan)
        origin = read_origin(version_folder(repository, version))
        change = new_change(action, version, plan, config.revision, origin, why)
        try:
            switch(repository, control, before, config, change)
        except Exception as error:
            raise DeployError(f"to {action} was refused: {error}; {restore(repository, control, before)}") from error
        tidy(repository, config)
        return plan


@dataclass
class _Trial:
    """One version on its way to the plan; `gates` are those it passed so far."""

    repository: Path
    control: TritonControl
    before: Served | None
    version: int
    run: Path | None
    aim: Aim
    why: str
    allow_worse: bool
    limits: Limits

    def release(self) -> Release:
        """Live by the plan, or refused and out of the way."""
        gates: list[GateResult] = []
        try:
            for gate in self._judge():
                gates.append(gate)
                require(gate)
            return self._go_live(tuple(gates))
        except BaseException as error:
            reason = f"version {self.version} was refused: {error}"
            still = restore(self.repository, self.control, self.before)
            still += self._put_away(reason, gates)
            if not isinstance(error, Exception):
                raise
            raise DeployError(f"{reason}; {still}") from error

    def _judge(self) -> Iterator[GateResult]:
        repository, before, version, control = self.repository, self.before, self.version, self.control
        folder = version_folder(repository, version)
        check_version(folder)
        yield size_gate((folder / "model.onnx").stat().st_size, self.limits)
        schema = read_schema((folder / "schema.json").read_bytes(), folder)
        yield schema_gate(schema, before.schema if before else None)
        self.aim.plan(before.rollout if before else None, version)
        versions = loadable(repository, before.rollout, (*before.versions, version)) if before else (version,)
        control.try_out(trial_config(schema, before, versions))
        probe = read_version_probe(repository, version)
        yield parity_gate(control.ask(version, probe.inputs), probe.pickup_time_s, self.limits)
        one_row = {name: array[:1] for name, array in probe.inputs.items()}
        live = control.asker(before.rollout.stable, one_row) if before else None
        yield latency_gate(control.asker(version, one_row), live, self.limits)
        yield self._judge_error(schema)

    def _judge_error(self, schema: Schema) -> GateResult:
        """Worse than the live version on the same later trips? Not knowing is refused as well."""
        if self.before is None:
            return GateResult("error", True, None, None, "not judged: nothing was live to compare with")
        if self.run is None or not (self.run / "config.yaml").exists():
            text = "not judged: it came without the settings of its training, so its later trips are not at hand"
            return GateResult("error", True, None, None, text)
        result = self._compare(self.run, schema, self.before.rollout.stable)
        if not result.passed and self.allow_worse:
            return replace(result, passed=True, text=f"{result.text}; let through by --allow-worse")
        return result if result.passed else replace(result, text=f"{result.text}; --allow-worse lets it through")

    def _compare(self, run: Path, schema: Schema, live: int) -> GateResult:
        from hailtime.serving.later_rows import later_rows  # brings torch, 2 s: only who compares pays for it

        try:
            rows, actual_s = later_rows(run, schema)
        except DataError as error:
            text = f"the later trips must be at hand to compare it with version {live}: {error}"
            return GateResult("error", False, None, None, text)
        return error_gate(self.control.ask(self.version, rows), self.control.ask(live, rows), actual_s, self.limits)

    def _go_live(self, gates: tuple[GateResult, ...]) -> Release:
        repository, before, version = self.repository, self.before, self.version
        folder = version_folder(repository, version)
        manifest = check_version(folder)
        schema = read_schema((folder / "schema.json").read_bytes(), folder)
        plan = self.aim.plan(before.rollout if before else None, version)
        if before is None:
            config = Served.from_text(write_config(schema, (version,), plan, revision=new_revision()))
        else:
            config = before.with_plan(_versions(repository, before, plan), plan)
        release = self._describe(schema, manifest, gates)
        store_file(folder / "release.json", json.dumps(asdict(release), indent=1))
        change = new_change(self.aim.action, version, plan, config.revision, manifest, self.why, gates)
        switch(repository, self.control, before, config, change)
        tidy(repository, config)
        log.info("version %d is live by %s, at most %.5f s off its probe", version, plan, release.parity_max_abs_s)
        return release

    def _describe(self, schema: Schema, manifest: dict[str, Any], gates: tuple[GateResult, ...]) -> Release:
        stable = self.before.rollout.stable if self.before else None
        return Release(
            self.version,
            stable if stable != self.version else None,
            schema.fingerprint,
            manifest["sha256"]["model.onnx"],
            len(read_version_probe(self.repository, self.version)),
            next(gate.value for gate in gates if gate.name == "parity") or 0.0,
            datetime.now(UTC).isoformat(timespec="seconds"),
            self.aim.action,
            gates,
        )

    def _put_away(self, reason: str, gates: list[GateResult]) -> str:
        """Write the refusal down and move the version out of sight, unless it is one that is being served."""
        origin = read_origin(version_folder(self.repository, self.version))
        _write_refusal(self.repository, self.version, self.before, origin, reason, gates)
        if self.before is not None and self.version in self.before.versions:
            return ""
        return f", the refused one lies in {quarantine(self.repository, self.version, reason)}"


def _settled(repository: Path, control: TritonControl) -> Served | None:
    """What is served, by the disk and by the server alike."""
    check_identity(repository, control, read_served(repository))
    before = settle(repository)
    follow(repository, control, before)
    return before


def _versions(repository: Path, before: Served, plan: Rollout) -> tuple[int, ...]:
    """Who stays loaded: the plan's, those a client may still ask that read the plan before, and the way back."""
    previous = previous_version(repository, plan.stable)
    return loadable(repository, plan, {*before.rollout.versions, *([previous] if previous else [])})


def _write_refusal(
    repository: Path,
    version: int | None,
    before: Served | None,
    origin: dict[str, Any],
    reason: str,
    gates: list[GateResult],
) -> None:
    model_folder(repository).mkdir(exist_ok=True)
    plan, revision = (before.rollout, before.revision) if before else (None, "")
    write_down(repository, new_change("refuse", version, plan, revision, origin, reason, gates))
