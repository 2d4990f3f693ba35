"""From one plan to the next, and back when the server does not follow. Killed at any point, `settle` puts it right.

The config on the disk is what holds: a server that starts anew reads it. It changes once, after all gates, by rename.
"""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from hailtime.errors import DeployError
from hailtime.rollout import Rollout
from hailtime.serving.config_file import TRIAL, Served, read_served, store_config
from hailtime.serving.control import TritonControl
from hailtime.serving.gates import LIMITS, GateResult, Limits, parity_gate, require
from hailtime.serving.history import (
    Change,
    announce,
    read_history,
    settle_history,
    stable_versions,
    withdraw,
    write_down,
)
from hailtime.serving.model_file import Probe, read_probe, read_rule, read_schema
from hailtime.serving.places import INCOMING, folder_in, model_folder, version_folder
from hailtime.serving.repository import empty_trash, is_intact, prune, store_warm_up
from hailtime.serving.settings import WARM_UP, warm_up_files

log = logging.getLogger(__name__)


def settle(repository: Path) -> Served | None:
    """What is served by the disk, after clearing up what somebody who was killed left. The caller holds the lock."""
    shutil.rmtree(folder_in(repository, INCOMING), ignore_errors=True)
    empty_trash(repository)
    served = read_served(repository)
    settle_history(repository, served)
    return served


def mend_warm_up(repository: Path) -> None:
    """Write the row again that a server runs before a version answers, where it is gone: none loads without it."""
    served = read_served(repository)
    if served is not None and "model_warmup" in served.text:
        probe = read_version_probe(repository, served.rollout.stable)
        files = [folder_in(model_folder(repository), WARM_UP) / name for name in warm_up_files(probe.inputs)]
        if not all(file.is_file() and file.stat().st_size for file in files):
            store_warm_up(repository, probe)


def check_identity(repository: Path, control: TritonControl, served: Served | None) -> str | None:
    """The revision that the server tells; DeployError when it is none of this repository's."""
    told = control.revision()
    ours = {change.revision for change in read_history(repository)} | {served.revision if served else ""}
    if told is not None and told.removesuffix(TRIAL) not in ours:
        raise DeployError(f"the server at {control.url} serves another repository than {repository}")
    return told


def follow(repository: Path, control: TritonControl, served: Served | None) -> None:
    """Have the server serve what the disk says, where somebody was killed before telling it."""
    told = check_identity(repository, control, served)
    if served is None and told is not None:
        control.unload()
    elif served is not None and told != served.revision:
        control.load(served)


def switch(repository: Path, control: TritonControl, before: Served | None, config: Served, change: Change) -> None:
    """Serve by `config` and write the change down; on any failure serve by `before` again and raise."""
    announce(repository, change)
    try:
        control.load(config)
        require(probe_gate(repository, config.rollout.stable, control))
        if config.rollout.candidate is not None:
            require(probe_gate(repository, config.rollout.candidate, control))
    except BaseException:
        withdraw(repository)
        raise
    write_down(repository, change)


def restore(repository: Path, control: TritonControl, before: Served | None) -> str:
    """Back to what was served; says in words what is served now."""
    try:
        if before is None:
            store_config(repository, None)
            control.unload()
            return "nothing is served, as before"
        store_config(repository, before)
        if control.revision() != before.revision:
            control.load(before)
        return f"version {before.rollout.stable} still answers"
    except Exception as error:  # the first error matters more, and the config on disk is the earlier one
        log.warning("the earlier config could not be loaded: %s", error)
        return f"the earlier config is in place, but the server did not take it ({error}): restart the server"


def planned(repository: Path, before: Served, plan: Rollout, also: Iterable[int]) -> Served:
    """The config of this plan, with the rule of its stable version; of `also` is loaded what is whole."""
    config = before.with_plan(loadable(repository, plan, also), plan)
    return config.with_rule(stable_rule(repository, plan))


def still_asked(repository: Path, before: Served, plan: Rollout) -> set[int]:
    """Versions beside the plan's: those that clients ask who read the plan before, and the one a rollback goes to."""
    previous = previous_version(repository, plan.stable)
    return {*before.rollout.versions, *([previous] if previous else [])}


def stable_rule(repository: Path, plan: Rollout) -> str:
    return read_rule((version_folder(repository, plan.stable) / "model.onnx").read_bytes())


def loadable(repository: Path, plan: Rollout, also: Iterable[int]) -> tuple[int, ...]:
    """The versions to load: those of the plan, and of `also` those whose files are whole.

    One damaged file fails the whole load, so DeployError when a version of the plan has one.
    """
    damaged = sorted(version for version in plan.versions if not is_intact(repository, version))
    if damaged:
        raise DeployError(
            f"the files of version {damaged[0]} are not as they were published: python scripts/rollback.py, or copy "
            "them from its run"
        )
    return tuple(sorted(plan.versions | {version for version in also if is_intact(repository, version)}))


def probe_gate(repository: Path, version: int, control: TritonControl, limits: Limits = LIMITS) -> GateResult:
    """Whether this version, as it is served now, answers what PyTorch answered."""
    probe = read_version_probe(repository, version)
    return parity_gate(control.ask(version, probe.inputs), probe.pickup_time_s, limits)


def read_version_probe(repository: Path, version: int) -> Probe:
    folder = version_folder(repository, version)
    schema = read_schema((folder / "schema.json").read_bytes(), folder)
    return read_probe((folder / "probe.npz").read_bytes(), schema)


def previous_version(repository: Path, stable: int | None) -> int | None:
    """The stable version before this one, to which a rollback goes: the nearest whose files are whole."""
    earlier = [version for version in stable_versions(read_history(repository)) if version != stable]
    return next((version for version in reversed(earlier) if is_intact(repository, version)), None)


def tidy(repository: Path, config: Served) -> list[int]:
    """Delete old versions that nobody needs. It fails nothing: the change is made already."""
    previous = previous_version(repository, config.rollout.stable)
    try:
        return prune(repository, {*config.versions, *([previous] if previous else [])})
    except OSError as error:
        log.warning("old versions could not be deleted: %s", error)
        return []
