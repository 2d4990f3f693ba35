"""Rivermouth, a city that never was: trips whose best possible prediction is known.

A pickup time is `true_median_s` times noise whose median is exactly 1, and the median is a function of what a model
can see: the columns of the request, the local clock and the conditions. So the best possible mean absolute error is
the mean of |pickup_time_s - true_median_s| over clean rows. Three things keep a model from it: the city follows its
conditions as they are at the moment of the request, the model has the latest ones known (measured: 1.0 % more error);
values that `dirt` loses (1.1 %); and what scenarios do beyond the conditions, nobody tells.

Its distributions are set by New York's high-volume trips of July 2026 (wait P50 4.42, P90 9.98, P99 18.63 minutes).
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from hailtime.errors import ConfigError
from hailtime.sources import RawData
from hailtime.sources.city import CELL, City
from hailtime.sources.city_dirt import MAX_DIRT, add_dirt
from hailtime.sources.city_map import zones
from hailtime.sources.city_scenarios import local_time, read_scenario
from hailtime.sources.city_state import stream

__all__ = ["BLOCK", "load", "make_city", "zones"]

BLOCK = 10 * CELL  # requests in a block: 250,000
_WORKERS = 2  # blocks drawn at a time: numpy lets others run while it works


def load(
    n_requests: int = 300_000,
    start: str | date = "2026-01-12",
    days: int = 84,
    seed: int = 7,
    dirt: float = 1.0,
    scenarios: Sequence[Mapping[str, Any]] = (),
) -> RawData:
    """`n_requests` trips in `days` days from local midnight of `start`, and the conditions around them.

    - dirt: multiplies the usual rates of faults (0: spotless)
    - scenarios: `{kind: closure, from: 2026-03-20}` and the like, see `city_scenarios`; `from` and `to` are local
      midnights or times of day, and without `to` each kind lasts as long as it usually does. Some add requests to the
      usual ones. Two loads that differ by a scenario differ by what it touches alone.

    The trips are drawn anew, and the same, whenever they are iterated: 250,000 requests a block.
    """
    if not 0 <= dirt <= MAX_DIRT:
        raise ConfigError(f"dirt must be 0 (spotless) to {MAX_DIRT:g} times the usual faults, got {dirt}")
    city = make_city(n_requests, start, days, seed, scenarios)
    return RawData(_Blocks(city, dirt), city.conditions)


def make_city(
    n_requests: int = 300_000,
    start: str | date = "2026-01-12",
    days: int = 84,
    seed: int = 7,
    scenarios: Sequence[Mapping[str, Any]] = (),
) -> City:
    """The city of these settings. ConfigError when one cannot work."""
    for name, number, least in (("n_requests", n_requests, 1), ("days", days, 1), ("seed", seed, 0)):
        if number < least:
            raise ConfigError(f"{name} must be {least} or more, got {number}")
    first_day = local_time("start", start).replace(hour=0, minute=0, second=0, microsecond=0)
    return City(n_requests, first_day, days, seed, tuple(read_scenario(settings) for settings in scenarios))


@dataclass(frozen=True)
class _Blocks:
    """The trips with their faults, a block after the other, in the order they come in."""

    city: City
    dirt: float

    def __iter__(self) -> Iterator[pl.DataFrame]:
        n_blocks = -(-self.city.n_requests // BLOCK)
        _ = self.city.state, self.city.clock  # made once, before threads share them
        with ThreadPoolExecutor(_WORKERS) as pool:
            ahead: deque[Future[pl.DataFrame]] = deque()
            for k in range(n_blocks):
                ahead.append(pool.submit(self._block, k))
                if len(ahead) > _WORKERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _block(self, k: int) -> pl.DataFrame:
        """Usual requests and each scenario's get their faults apart: what one has, does not move the others'."""
        cells = range(k * BLOCK // CELL, min((k + 1) * BLOCK // CELL, self.city.n_cells))
        groups = zip(*(self.city.cell(cell) for cell in cells), strict=True)
        whose = ["usual", *(scenario.name for scenario in self.city.scenarios)]
        dirty = [
            add_dirt(stream(self.city.seed, f"{name} dirt", k), pl.concat(frames, rechunk=True), self.dirt)
            for name, frames in zip(whose, groups, strict=True)
        ]
        return pl.concat(dirty).sort("came_at", maintain_order=True).drop("came_at")
