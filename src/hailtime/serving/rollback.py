"""Back to the stable version before, in one step: python scripts/rollback.py [--to VERSION]

It works while the newest version is broken or the server does not start: what is gone back to is loaded alone when it
does not load beside the other.
"""

import logging
from pathlib import Path

from hailtime.errors import DeployError
from hailtime.locking import locked
from hailtime.rollout import Rollout
from hailtime.serving.config_file import Served, store_config
from hailtime.serving.control import TritonControl
from hailtime.serving.history import Change, announce, new_change, read_history, write_down
from hailtime.serving.places import LOCK, check_writable, version_folder
from hailtime.serving.repository import is_intact, read_origin
from hailtime.serving.switch import check_identity, planned, previous_version, restore, settle, switch
from hailtime.serving.tls import Tls

log = logging.getLogger(__name__)


def rollback(
    repository: Path,
    url: str = "127.0.0.1:8001",
    version: int | None = None,
    *,
    why: str = "",
    tls: Tls | None = None,
    offline: bool = False,
) -> Rollout:
    """Make the stable version before this one stable, or `version`, which must have been; a candidate ends with it.

    `offline` changes the config on the disk alone, for a server that is down because of what it should load.
    """
    check_writable(repository)
    if offline:
        return _go_back_on_disk(repository, version, why)
    with TritonControl(url, repository, tls) as control, locked(repository / LOCK, DeployError):
        before = _served(repository)
        check_identity(repository, control, before)
        try:
            return _go_back(repository, control, before, version, why, alone=False)
        except _NotBeside as error:
            log.warning("it does not load beside the version that is live (%s), so alone", error)
        return _go_back(repository, control, before, version, why, alone=True)


def _go_back_on_disk(repository: Path, version: int | None, why: str) -> Rollout:
    with locked(repository / LOCK, DeployError):
        config, change = _way_back(repository, _served(repository), version, why, alone=True)
        try:
            announce(repository, change)
            store_config(repository, config)
            write_down(repository, change)
        except OSError as error:
            raise DeployError(f"the plan in {repository} cannot be written: {error}") from error
        return config.rollout


class _NotBeside(DeployError):
    """The version did not load together with others."""


def _served(repository: Path) -> Served:
    before = settle(repository)
    if before is None:
        raise DeployError(f"nothing is live in {repository}, so there is no way back: python scripts/deploy.py RUN")
    return before


def _go_back(
    repository: Path, control: TritonControl, before: Served, version: int | None, why: str, *, alone: bool
) -> Rollout:
    config, change = _way_back(repository, before, version, why, alone)
    try:
        switch(repository, control, before, config, change)
    except Exception as error:
        if not alone and len(config.versions) > 1:
            raise _NotBeside(str(error)) from error
        still = restore(repository, control, before)
        raise DeployError(f"going back to version {config.rollout.stable} failed: {error}; {still}") from error
    return config.rollout


def _way_back(repository: Path, before: Served, version: int | None, why: str, alone: bool) -> tuple[Served, Change]:
    target = _target(repository, before.rollout, version)
    plan = Rollout(target)
    beside = set() if alone else {*before.rollout.versions, *before.versions}
    config = planned(repository, before, plan, beside)
    origin = read_origin(version_folder(repository, target))
    return config, new_change("rollback", target, plan, config.revision, origin, why)


def _target(repository: Path, plan: Rollout, version: int | None) -> int:
    """Where to go back to; DeployError when that is nowhere, with what there is."""
    been = sorted({change.plan.stable for change in read_history(repository) if change.plan} - {plan.stable})
    there = [earlier for earlier in been if is_intact(repository, earlier)]
    told = (
        f"there is: {', '.join(map(str, there))}" if there else "there is none; deploy a run that is known to be good"
    )
    target = previous_version(repository, plan.stable) if version is None else version
    if target is None or target not in there:
        what = "an earlier stable version" if version is None else f"version {version}"
        raise DeployError(f"going back needs a version that was stable before and is whole, {what} is not; {told}")
    return target
