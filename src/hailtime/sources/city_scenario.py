"""A scenario: something that happens to Rivermouth beyond its usual days, and all the places where it can touch it."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.sources.city_map import Floats, Ints, Places
from hailtime.sources.city_state import STEP_S, CityState, Clock


@dataclass
class Influence:
    """What scenarios do to requests beyond weather and traffic: one number for all, or one for each request."""

    is_closed: Floats | float = 0.0  # 1 while the highway is
    supply: Floats | float = 1.0  # share of the idle drivers who are there
    waiting: Floats | float = 1.0  # times the requests that wait
    accept: Floats | float = 1.0  # times the seconds until a driver accepts
    find_s: Floats | float = 0.0  # beside the usual seconds to find the rider
    rounding: Floats | float = 0.0  # chances by which the counts are rounded up or down

    def count(self, usual: Floats, times: Floats | float) -> Floats:
        """Whole numbers, in the mean `times` the usual ones; exactly these where `times` is 1."""
        return np.floor(usual * times + self.rounding)


@dataclass(frozen=True)
class Scenario:
    """Something that lasts from one moment to another (UTC seconds). A kind overrides what it touches."""

    from_s: float
    to_s: float
    kind: ClassVar[str]
    lasts_h: ClassVar[float] = math.inf  # unless the settings say `to`

    @classmethod
    def beginning(cls, from_s: float, to_s: float | None = None) -> "Scenario":
        """One that lasts to `to_s`, or as long as its kind usually does."""
        return cls(from_s, from_s + 3600 * cls.lasts_h if to_s is None else to_s)

    @property
    def name(self) -> str:
        """Kind and beginning: what its chances and the ids of its requests are named after."""
        return f"{self.kind}-{self.from_s:.0f}"

    def is_on(self, utc_s: Floats | Ints) -> NDArray[np.bool_]:
        """Which of these moments it covers."""
        return (utc_s >= self.from_s) & (utc_s < self.to_s)

    def covers(self, clock: Clock) -> Floats:
        """1 at the steps that no moment outside it touches (one is read from the two steps around it), else 0."""
        is_inside = (clock.utc_s >= self.from_s + STEP_S) & (clock.utc_s <= self.to_s - STEP_S)
        return is_inside.astype(np.float64)

    def change(self, state: CityState) -> CityState:
        """Weather and traffic with it."""
        return state

    def influence(self, on: Influence, utc_s: Floats, pickup: Places) -> None:
        """Puts into `on` what it does to requests made at these moments and places."""

    def more_requests(self, clock: Clock) -> Floats:
        """Requests beside the usual ones by step, as a share of the whole city's."""
        return np.zeros(len(clock.utc_s))

    def more_pickups(self, rng: np.random.Generator, n: int) -> Places | None:
        """Where those are made; None: where the usual ones are."""
        return None

    def show(self, rng: np.random.Generator, trips: pl.DataFrame) -> pl.DataFrame:
        """The trips as the platform sees them."""
        return trips

    def feed_delay(self, observed_s: Floats) -> Floats:
        """How many times as late as usual a feed is with what was true at these moments."""
        return np.ones(len(observed_s))

    def tell(self, conditions: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """The conditions with what is told of it."""
        return conditions
