"""Which time it is: the real one, or that of a city that is played faster for a show or a test.

    HAILTIME_CLOCK="1775462400@60 since 1795726800" python scripts/monitor.py serve

A minute a second from 2026-04-06 08:00 UTC on, which was shown when the real clock stood at the third number. One
variable, so that backend, monitor and retraining of one show agree, each in its own process.
"""

import os
import re
import time
from functools import lru_cache
from typing import NamedTuple

from hailtime.errors import ConfigError

VARIABLE = "HAILTIME_CLOCK"
_FORM = re.compile(r"(\d+(?:\.\d+)?)@(\d+(?:\.\d+)?) since (\d+(?:\.\d+)?)")


class Played(NamedTuple):
    """A clock that showed `from_s` at the real time `began_s` (both UTC seconds) and goes `speed` times as fast."""

    from_s: float
    speed: float
    began_s: float

    def __str__(self) -> str:
        return f"{self.from_s:.3f}@{self.speed:g} since {self.began_s:.6f}"

    def now(self) -> float:
        return self.from_s + (time.time() - self.began_s) * self.speed


def now() -> float:
    """UTC seconds."""
    said = os.environ.get(VARIABLE)
    return _played(said).now() if said else time.time()


def sleep(seconds: float) -> None:
    """Waits until so many seconds are over by `now`."""
    time.sleep(max(0.0, seconds) / speed())


def speed() -> float:
    """How many of its seconds go by in a real one."""
    said = os.environ.get(VARIABLE)
    return _played(said).speed if said else 1.0


@lru_cache(maxsize=1)
def _played(said: str) -> Played:
    found = _FORM.fullmatch(said)
    if not found or float(found[2]) <= 0:
        raise ConfigError(
            f"{VARIABLE} must read like '1775462400@60 since 1795726800' (UTC seconds shown, seconds a second, real "
            f"UTC seconds then), got {said!r}: unset it for the real time"
        )
    return Played(*map(float, found.groups()))
