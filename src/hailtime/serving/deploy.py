"""A run becomes a version that answers, or nothing changes: publish, load beside, pass the gates, switch.

python scripts/deploy.py runs/demo [--canary 5 | --shadow]
python scripts/deploy.py --promote | --abort | --canary 25
"""

from collections.abc import Callable
from pathlib import Path

from hailtime.errors import DeployError
from hailtime.locking import locked
from hailtime.rollout import Rollout
from hailtime.serving.config_file import Served, read_config, read_served, write_config
from hailtime.serving.control import TritonControl
from hailtime.serving.gates import LIMITS, GateResult, Limits, require, schema_gate
from hailtime.serving.history import Action, new_change
from hailtime.serving.model_file import read_run, read_schema
from hailtime.serving.places import LOCK, check_writable, model_folder, version_folder
from hailtime.serving.repository import describe_run, place_version, publish, read_origin
from hailtime.serving.settings import read_settings
from hailtime.serving.switch import (
    check_identity,
    follow,
    loadable,
    planned,
    restore,
    settle,
    still_asked,
    switch,
    tidy,
)
from hailtime.serving.tls import Tls
from hailtime.serving.trial import FOR_ALL, Aim, Release, Trial, write_refusal

__all__ = ["FOR_ALL", "Aim", "Release", "abort", "activate", "aim_candidate", "deploy", "promote", "publish"]
__all__ += ["read_config", "write_config"]

URL = "127.0.0.1:8001"


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
        settings = read_settings(repository)
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
            write_refusal(repository, None, before, origin, str(error), gates)
            raise
        return Trial(repository, control, before, version, run, aim, why, allow_worse, limits, settings).release()


def activate(
    repository: Path, version: int, url: str = URL, aim: Aim = FOR_ALL, *, why: str = "", tls: Tls | None = None
) -> Release:
    """The second half of `deploy`, for a version that was published before."""
    check_writable(repository)
    with TritonControl(url, repository, tls) as control, locked(repository / LOCK, DeployError):
        before = _settled(repository, control)
        aim.check(before)
        settings = read_settings(repository)
        if before is not None:
            loadable(repository, before.rollout, ())  # else the new version's gates would find the old one's damage
        if not version_folder(repository, version).is_dir():
            raise DeployError(f"{model_folder(repository)} has no version {version}: publish it first")
        return Trial(repository, control, before, version, None, aim, why, False, LIMITS, settings).release()


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
        config = planned(repository, before, plan, still_asked(repository, before, plan))
        origin = read_origin(version_folder(repository, version))
        change = new_change(action, version, plan, config.revision, origin, why)
        try:
            switch(repository, control, before, config, change)
        except Exception as error:
            raise DeployError(f"to {action} was refused: {error}; {restore(repository, control, before)}") from error
        tidy(repository, config)
        return plan


def _settled(repository: Path, control: TritonControl) -> Served | None:
    """What is served, by the disk and by the server alike."""
    check_identity(repository, control, read_served(repository))
    before = settle(repository)
    follow(repository, control, before)
    return before
