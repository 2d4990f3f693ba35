"""Rivermouth as it happens: requests, arrivals and what becomes known, span by span or at the pace of a clock.

    live = LiveCity(make_city(n_requests=20_000, start="2026-04-06", days=7))
    for moment in live.play(from_s, to_s, speed=60):  # an hour in a minute
        ask(moment.requests), report(moment.outcomes), store(moment.conditions)

The rows are those that `load` gives of the same settings with `dirt: 0`, however the time is cut into spans.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from hailtime.errors import ConfigError
from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources.city import WAIT_S, City
from hailtime.sources.city_map import to_places
from hailtime.sources.city_scenarios import KINDS
from hailtime.sources.city_state import stream
from hailtime.sources.city_trips import PRODUCTS

_UNKNOWN_AT_REQUEST = ("arrived_at", "true_median_s")
MOST_STEPS = 6  # of a moment that comes late: a real second of a city that is played 60 times as fast
_DRAWS = 512  # the rarest product is one of twenty: 1 of 10^11 draws has none

Row = dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """What happened from `from_s` until before `to_s` (UTC seconds)."""

    from_s: float
    to_s: float
    requests: pl.DataFrame
    outcomes: pl.DataFrame
    conditions: dict[str, pl.DataFrame]


class LiveCity:
    """A city that is played. Spans are UTC seconds, the first within and the last not."""

    def __init__(self, city: City) -> None:
        self.city = city

    def requests(self, from_s: float, to_s: float) -> pl.DataFrame:
        """The requests of a span in time order, with what is known when they are made. ConfigError outside the days."""
        self._check(from_s, to_s)
        return self._trips(from_s, to_s).drop(_UNKNOWN_AT_REQUEST)

    def outcomes(self, from_s: float, to_s: float) -> pl.DataFrame:
        """The arrivals of a span in time order: request_id, requested_at, arrived_at, pickup_time_s, true_median_s."""
        asked = self._trips(max(from_s - WAIT_S[1] - 1, self.city.span_s[0]), min(to_s, self.city.span_s[1]))
        return _arrivals(asked.filter(_within("arrived_at", from_s, to_s))).sort("arrived_at", "request_id")

    def hail(self, request_id: str, at_s: float, lat: float, lon: float, product: str) -> tuple[Row, Row]:
        """A ride beside the city's own, for somebody who stands there: its request and its arrival.

        They are as rows of `requests` and `outcomes` are, of which it is none: who asks for it keeps it.
        """
        if product not in PRODUCTS:
            raise ConfigError(f"a product is one of {', '.join(PRODUCTS)}, got {product!r}")
        utc_s, pickup = np.full(_DRAWS, at_s), np.full(_DRAWS, to_places(np.array(lat), np.array(lon)))
        rng = stream(self.city.seed, f"hail {request_id}")
        trips = self.city.trips(rng, f"hail {request_id}", utc_s, pickup, pl.Series([request_id] * _DRAWS))
        trip = trips.filter(pl.col("product") == product).head(1)
        return trip.drop(_UNKNOWN_AT_REQUEST).row(0, named=True), _arrivals(trip).row(0, named=True)

    def conditions_known(self, from_s: float, to_s: float) -> dict[str, pl.DataFrame]:
        """The rows of every condition table that became known in a span, in that order."""
        return {name: rows.filter(_within("known_at", from_s, to_s)) for name, rows in self.city.conditions.items()}

    def switch_on(self, kind: str, at_s: float, to_s: float | None = None) -> None:
        """From then on a scenario happens. What was before stays as it was played."""
        if kind not in KINDS:
            raise ConfigError(f"a scenario is one of {', '.join(KINDS)}, got {kind!r}")
        self.city = self.city.with_scenario(KINDS[kind].beginning(at_s, to_s))

    def close_highway(self, at_s: float, to_s: float | None = None) -> None:
        """`switch_on` the closure."""
        self.switch_on("closure", at_s, to_s)

    def play(
        self,
        from_s: float,
        to_s: float,
        speed: float = 60.0,
        step_s: float = 10.0,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Iterator[Moment]:
        """A `Moment` for every `step_s` of the city's time as soon as it is over, `speed` times as fast as real time.

        Who takes long over one gets the next at once, and all that is over by then in it, `MOST_STEPS` at most: what a
        moment costs by itself does not keep a busy machine from catching up with the clock.
        """
        self._check(from_s, to_s)
        began, steps = now(), 0
        while (first := from_s + steps * step_s) < to_s:
            n_over = int(((now() - began) * speed - steps * step_s) / step_s)
            steps += min(max(1, n_over), MOST_STEPS)
            last = min(from_s + steps * step_s, to_s)
            wait_s = began + (last - from_s) / speed - now()
            if wait_s > 0:
                sleep(wait_s)
            requests, outcomes = self.requests(first, last), self.outcomes(first, last)
            yield Moment(first, last, requests, outcomes, self.conditions_known(first, last))

    def _check(self, from_s: float, to_s: float) -> None:
        start_s, end_s = self.city.span_s
        if not start_s <= from_s <= to_s <= end_s:
            raise ConfigError(
                f"this city is played from {start_s} to {end_s} (UTC seconds), got {from_s:.0f} to {to_s:.0f}: "
                "make one with another start or more days"
            )

    def _trips(self, from_s: float, to_s: float) -> pl.DataFrame:
        is_asked = _within("requested_at", from_s, to_s)
        return pl.concat(_cell(self.city, k).filter(is_asked) for k in self.city.cells_between(from_s, to_s))


@lru_cache(maxsize=8)  # a wait of two hours reaches back over few cells, even with a million requests a day
def _cell(city: City, k: int) -> pl.DataFrame:
    return pl.concat(city.cell(k)).sort("requested_at", "request_id")


def _arrivals(trips: pl.DataFrame) -> pl.DataFrame:
    pickup_time_s = (pl.col("arrived_at") - pl.col("requested_at")) / MICROSECONDS_PER_SECOND
    names = ("request_id", "requested_at", "arrived_at", "pickup_time_s", "true_median_s")
    return trips.with_columns(pickup_time_s=pickup_time_s).select(names)


def _within(column: str, from_s: float, to_s: float) -> pl.Expr:
    """Half open, in whole microseconds, so that spans that meet share no row and lose none."""
    first, last = (round(second * MICROSECONDS_PER_SECOND) for second in (from_s, to_s))
    return (pl.col(column) >= first) & (pl.col(column) < last)
