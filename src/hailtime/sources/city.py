"""Rivermouth over some days: its trips, in cells of 25,000 requests that can be drawn alone and in any order.

A cell holds the requests of a share of the days' demand, so all are of one size and follow each other in time. Each
draws from chances of its own (`stream`), so a city plays the same in pieces, live, as in one load, and what a scenario
adds moves nothing else.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl

from hailtime.errors import ConfigError
from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources import city_map
from hailtime.sources.city_feeds import known_conditions
from hailtime.sources.city_map import Floats, Ints, Places
from hailtime.sources.city_scenario import Influence, Scenario
from hailtime.sources.city_state import CityState, Clock, draw_state, make_clock, stream
from hailtime.sources.city_times import draw_noise, draw_routing_eta_s, drive_s, median_s
from hailtime.sources.city_trips import APPS, PLACES, PRODUCTS, Asked, Course, Requests, draw_pickups, draw_requests

WAIT_S = (20.0, 7000.0)  # nobody waits longer or is there sooner: 1 of 1,000,000 would; no median is near either end
CELL = 25_000  # requests: few enough for arrays to stay in a processor's cache, enough for calls to weigh little


@dataclass(frozen=True)
class City:
    """`n_requests` usual requests in `days` days from midnight of `first_day`, and what the scenarios make of them."""

    n_requests: int
    first_day: datetime
    days: int
    seed: int
    scenarios: tuple[Scenario, ...] = ()

    def __post_init__(self) -> None:
        names = [scenario.name for scenario in self.scenarios]
        if len(set(names)) < len(names):
            raise ConfigError(f"a scenario begins once at a time, got {', '.join(sorted(names))} (kind and UTC second)")

    def with_scenario(self, scenario: Scenario) -> "City":
        """The same city in which this happens too."""
        return replace(self, scenarios=(*self.scenarios, scenario))

    @cached_property
    def span_s(self) -> tuple[int, int]:
        """The first second and the one after the last; a local day may have 23 or 25 hours."""
        return int(self.first_day.timestamp()), int((self.first_day + timedelta(days=self.days)).timestamp())

    @cached_property
    def clock(self) -> Clock:
        return make_clock(*self.span_s)

    @cached_property
    def course(self) -> Course:
        return Course.of(self.clock)

    @cached_property
    def usual(self) -> CityState:
        """How it would be without scenarios."""
        return draw_state(self.seed, self.clock)

    @cached_property
    def state(self) -> CityState:
        """How it really is."""
        state = self.usual
        for scenario in self.scenarios:
            state = scenario.change(state)
        return state

    @cached_property
    def conditions(self) -> dict[str, pl.DataFrame]:
        """What the feeds tell, each in order of `known_at`."""
        return known_conditions(self.seed, self.state, self.course, self.scenarios)

    @property
    def n_cells(self) -> int:
        return -(-self.n_requests // CELL)

    def cells_between(self, from_s: float, to_s: float) -> range:
        """The cells that hold the requests of a span, and perhaps one more."""
        first, last = self._demand.shares(np.array([from_s - 1, to_s + 1])) * self.n_requests / CELL
        return range(int(first), min(int(last) + 1, self.n_cells))

    def cell(self, k: int) -> list[pl.DataFrame]:
        """Spotless trips, each frame in time order: the usual ones of cell `k`, then what each scenario adds."""
        numbers = np.arange(k * CELL, min((k + 1) * CELL, self.n_requests))
        rng = stream(self.seed, "usual", k)
        utc_s = self._demand.moments((k * CELL + np.sort(rng.random(len(numbers))) * len(numbers)) / self.n_requests)
        ids = f"r{self.first_day:%y%m%d}-" + pl.Series(numbers + 1).cast(pl.String).str.zfill(7)
        usual = self.trips(rng, f"usual-{k}", utc_s, draw_pickups(rng, self.clock, utc_s), ids)
        return [usual, *(self._added(scenario, k) for scenario in self.scenarios)]

    def _added(self, scenario: Scenario, k: int) -> pl.DataFrame:
        """The requests a scenario adds while cell `k` lasts."""
        whose = f"{scenario.name}-{k}"
        rng, demand = stream(self.seed, whose), self._demand_of(scenario.more_requests(self.clock))
        edges = np.array([k * CELL, min((k + 1) * CELL, self.n_requests)]) / self.n_requests
        first, last = demand.shares(self._demand.moments(edges))
        n = int(self.n_requests * (last - first) + rng.random())
        utc_s = demand.moments(first + np.sort(rng.random(n)) * (last - first))
        pickup = scenario.more_pickups(rng, n)
        pickup = draw_pickups(rng, self.clock, utc_s) if pickup is None else pickup
        ids = f"r{self.first_day:%y%m%d}-{whose}-" + pl.Series(range(n), dtype=pl.Int64).cast(pl.String)
        return self.trips(rng, whose, utc_s, pickup, ids)

    def trips(
        self, rng: np.random.Generator, whose: str, utc_s: Floats, pickup: Places, ids: pl.Series
    ) -> pl.DataFrame:
        """Spotless trips of requests made at these moments and places. `whose` names the chances of scenarios."""
        here = [scenario for scenario in self.scenarios if scenario.is_on(utc_s).any()]
        on = Influence(rounding=stream(self.seed, f"{whose} counts").random(len(utc_s)) if here else 0.0)
        for scenario in here:
            scenario.influence(on, utc_s, pickup)
        zone = city_map.zone_at(pickup)
        asked = Asked(utc_s, pickup, zone, self.state.at(utc_s, zone), on)
        seen = draw_requests(rng, self.clock, self.course, asked)
        trips = pl.DataFrame({"request_id": ids} | _times(rng, seen, asked) | _columns(seen))
        for scenario in here:
            trips = scenario.show(stream(self.seed, f"{whose} in {scenario.name}"), trips)
        return trips

    @cached_property
    def _demand(self) -> "_Demand":
        return self._demand_of(np.ones(len(self.clock.utc_s)))

    def _demand_of(self, times: Floats) -> "_Demand":
        """So many times the usual requests by step of the clock. Rain makes more of them."""
        start_s, end_s = self.span_s
        is_within = (self.clock.utc_s >= start_s) & (self.clock.utc_s < end_s)
        usual = (self.course.demand * (1 + 0.10 * np.log1p(self.usual.rain_mm_h)))[is_within]
        edges_s = np.append(self.clock.utc_s[is_within], end_s).astype(np.float64)
        return _Demand(edges_s, np.append(0.0, np.cumsum(usual * times[is_within]) / usual.sum()))


@dataclass(frozen=True)
class _Demand:
    """Requests up to each moment, as a share of all usual ones."""

    edges_s: Floats
    share: Floats

    def moments(self, share: Floats) -> Floats:
        """When so many have been made: UTC seconds."""
        return np.asarray(np.interp(share, self.share, self.edges_s))

    def shares(self, utc_s: Floats) -> Floats:
        """How many have been made by then."""
        return np.asarray(np.interp(utc_s, self.edges_s, self.share))


def _times(rng: np.random.Generator, seen: Requests, asked: Asked) -> dict[str, Floats | Ints]:
    """When they asked and the drivers arrived; the truth about it and a routing engine's estimate.

    Both are told to the millisecond, because processors differ in the last bit of an exponential (measured), and the
    same settings must give the same fingerprint on each.
    """
    driving_s = drive_s(seen, asked.now, asked.on.is_closed)
    true_median_s = median_s(seen, asked.now, asked.on, driving_s)
    pickup_time_s = np.clip(true_median_s * draw_noise(rng, seen, asked.now), *WAIT_S)
    requested_at = (seen.utc_s * MICROSECONDS_PER_SECOND).astype(np.int64)
    return {
        "requested_at": requested_at,
        "arrived_at": requested_at + np.round(pickup_time_s).astype(np.int64) * MICROSECONDS_PER_SECOND,
        "routing_eta_s": draw_routing_eta_s(rng, seen, driving_s).round(3),
        "true_median_s": true_median_s.round(3),
    }


def _columns(seen: Requests) -> dict[str, Floats | pl.Series]:
    """What is seen of the requests, as the schema names it."""
    pickup_lat, pickup_lon = city_map.to_degrees(seen.pickup)
    driver_lat, driver_lon = city_map.to_degrees(seen.driver)
    return {
        "pickup_lat": pickup_lat.round(5),
        "pickup_lon": pickup_lon.round(5),
        "driver_lat": driver_lat.round(5),
        "driver_lon": driver_lon.round(5),
        "driver_speed_mps": seen.driver_speed_mps,
        "driver_heading_deg": seen.driver_heading_deg,
        "driver_busy_s": seen.driver_busy_s,
        "idle_drivers": seen.idle_drivers,
        "open_requests": seen.open_requests,
        "pickup_zone": city_map.named(city_map.ZONE_NAMES, seen.zone),
        "pickup_area": city_map.named(city_map.GROUPS, city_map.ZONE_GROUP[seen.zone]),
        "product": city_map.named(PRODUCTS, seen.product),
        "pickup_place": city_map.named(PLACES, seen.place),
        "app": city_map.named(APPS, seen.app),
    }
