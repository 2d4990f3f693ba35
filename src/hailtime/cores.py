"""How many cores this process may use: a container's limit is not in the number of cores that the machine has."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MEMBERSHIP, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Whole cores, at least one: what the scheduler may run us on, or fewer where a control group limits our time."""
    return limited_cores() or _scheduled_cores()


def limited_cores() -> int | None:
    """Whole cores of a control group's limit, at least one; None where it leaves us all that the scheduler does."""
    lowest = min(limits(), default=math.inf)
    return max(1, math.floor(lowest)) if lowest < _scheduled_cores() else None


def _scheduled_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def limits(membership: Path = _MEMBERSHIP, cgroups: Path = _CGROUPS) -> list[float]:
    """Cores' worth of time of our control groups, version 1 or 2, and of those above them; empty where none is set."""
    found = (_limit(folder) for folder in _folders(membership, cgroups))
    return [limit for limit in found if limit is not None]


def _limit(folder: Path) -> float | None:
    told = _read(folder / "cpu.max") or [*_read(folder / "cpu.cfs_quota_us"), *_read(folder / "cpu.cfs_period_us")]
    if len(told) != 2 or told[0] in ("max", "-1"):
        return None
    return int(told[0]) / int(told[1])


def _folders(membership: Path, cgroups: Path) -> Iterator[Path]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            mounted = cgroups / ("cpu" if controllers else "")
            # inside a container the path is the host's and the mount is the container's own
            yield from (mounted / str(part).lstrip("/") for part in (PurePosixPath(path), *PurePosixPath(path).parents))


def _read(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
