"""The requests of Rivermouth: when and where riders ask, and which driver is sent.

Supply makes the distance: idle drivers lie around a rider like raindrops (a Poisson process), so the distance to the
nearest follows a Rayleigh distribution whose scale is their density's. Dispatch compares the eight nearest by road,
so that few have to cross the river (measured: 0.7 %, while 4.2 % of the nearest are across it).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hailtime.sources import city_map
from hailtime.sources.city_map import ZONE_GROUP, Floats, Ints, Places
from hailtime.sources.city_scenario import Influence
from hailtime.sources.city_state import STEP_S, Clock, Conditions, between, rush

PRODUCTS = ("standard", "shared", "xl", "accessible")
PLACES = ("street", "hotel", "station", "mall", "airport")
APPS = ("ios", "android", "web")

_N_SLOTS = 4096  # shares to 0.01 %; a search among the shares themselves takes ten times as long


def _slots(shares: list[list[float]] | Floats) -> NDArray[np.int8]:
    """For each row of shares 4,096 slots with indices of its columns, as many of each as its share."""
    growing = np.cumsum(shares, axis=1)
    edges = np.round(growing / growing[:, -1:] * _N_SLOTS).astype(np.int64)
    counts = np.diff(edges, axis=1, prepend=0)
    return np.array([np.repeat(np.arange(len(row)), row) for row in counts], dtype=np.int8)


# By local hour. Demand: pickups in thousands of New York's high-volume trips, July 2026. Supply: drivers against a
# usual hour's, set so that the share of waits above 10 minutes goes through the day as it does there.
_DEMAND = np.array(
    [  # before noon, after noon
        [777, 539, 390, 314, 331, 402, 577, 825, 1058, 1023, 928, 918],
        [941, 970, 1022, 1058, 1097, 1184, 1199, 1141, 1076, 1081, 1083, 989],
    ]
).ravel()
_SUPPLY = np.array(
    [  # before noon, after noon
        [0.61, 0.78, 0.65, 0.49, 0.37, 0.64, 0.84, 1.09, 1.12, 1.44, 1.38, 1.17],
        [1.01, 0.95, 1.01, 1.22, 1.37, 1.27, 1.39, 1.22, 0.92, 0.81, 0.63, 0.58],
    ]
).ravel()
# Nights out make weekends late and nobody commutes (a guess); weekdays are what is left of the week's mean.
_WEEKEND = np.array(
    [  # before noon, after noon
        [1.7, 1.7, 1.7, 1.7, 1.2, 0.8, 0.6, 0.5, 0.5, 0.6, 0.9, 0.9],
        [0.9, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 1.1, 1.2, 1.2],
    ]
).ravel()

# By group of zones: centre, inner, outer, airport.
_ZONE_WEIGHT = np.array([3.2, 1.5, 0.6, 3.0])
_WEIGHT_AT_NIGHT = np.array([2.2, 1.4, 0.7, 1.0])
_IDLE_PER_KM2 = np.array([3.4, 1.5, 0.36, 1.6])
_PLACE_SLOTS = _slots(
    [  # street hotel station mall airport
        [0.72, 0.13, 0.11, 0.04, 0.00],
        [0.84, 0.04, 0.05, 0.07, 0.00],
        [0.86, 0.02, 0.03, 0.09, 0.00],
        [0.10, 0.08, 0.02, 0.00, 0.80],
    ]
)
_PRODUCT_SLOTS = _slots([[0.68, 0.12, 0.15, 0.05]])
_PRODUCT_FLEET = np.array([1.0, 0.9, 0.45, 0.22])  # share of the drivers who serve it
_APP_SLOTS = _slots([[0.55, 0.41, 0.04]])
_REACH = 0.15  # share of the idle drivers who would take the next offer
_FARTHEST_KM = 9.0  # nobody is sent from farther away


@dataclass(frozen=True)
class Asked:
    """When and where riders ask, and how it is there then; arrays of one length."""

    utc_s: Floats
    pickup: Places
    zone: Ints
    now: Conditions
    on: Influence


@dataclass(frozen=True)
class Requests:
    """What is seen when riders ask; arrays of one length. Zone, product, place and app are indices into their names."""

    utc_s: Floats
    hour: Floats  # local, 0 to 24
    is_weekend: NDArray[np.bool_]
    morning: Floats  # how much of the morning's and the evening's rush hour it is: 1 at its height, 0 on a weekend
    evening: Floats
    zone: Ints
    pickup: Places
    driver: Places  # where the driver is, or will be free again
    driver_speed_mps: Floats
    driver_heading_deg: Floats
    driver_busy_s: Floats
    idle_drivers: Floats
    open_requests: Floats
    product: Ints
    place: Ints
    app: Ints


_DIRECTIONS = np.exp(2j * np.pi * np.arange(8192) / 8192)  # drawing one of these costs a tenth of working one out


def _by_hour(values: Floats | Ints, hour: Floats) -> Floats:
    """A table by hour as a smooth course of the day, each value in the middle of its hour."""
    course: Floats = np.interp(hour, np.arange(24) + 0.5, values, period=24)
    return course


@dataclass(frozen=True)
class Course:
    """How the city's days go, by step of the clock: requests and drivers, both against the mean hour's."""

    demand: Floats
    supply: Floats

    @classmethod
    def of(cls, clock: Clock) -> "Course":
        weekend = _by_hour(_WEEKEND, clock.hour)
        pattern = np.where(clock.is_weekend, weekend, (7 - 2 * weekend) / 5)
        return cls(_by_hour(_DEMAND, clock.hour) / np.mean(_DEMAND) * pattern, _by_hour(_SUPPLY, clock.hour))


def idle_drivers(zone: Ints, supply: Floats) -> Floats:
    """The mean number of idle drivers in these zones."""
    return np.asarray(_IDLE_PER_KM2[ZONE_GROUP[zone]] * city_map.zone_areas_km2()[zone] * supply)


@cache
def _home_slots() -> NDArray[np.int8]:
    """Zones by local hour."""
    day = np.cos(2 * np.pi * (np.arange(24) + 0.5 - 14) / 24)[:, None] / 2 + 0.5  # 1 at two in the afternoon
    return _slots((day * _ZONE_WEIGHT + (1 - day) * _WEIGHT_AT_NIGHT)[:, ZONE_GROUP])


def draw_pickups(rng: np.random.Generator, clock: Clock, utc_s: Floats) -> Places:
    """Where riders stand: around the zones' centres, by day more in the centre, at the airport close to its doors."""
    step, _ = clock.place(utc_s)
    n = len(utc_s)
    home = _choose(rng, _home_slots(), clock.hour[step].astype(np.int64), n)
    spread_km = np.where(ZONE_GROUP == 3, 0.4, 0.33 * np.sqrt(city_map.zone_areas_km2()))
    place = city_map.zone_centres()[home] + spread_km[home] * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
    return np.asarray(place * np.minimum(1, city_map.CITY_RADIUS_KM / np.abs(place)))


def draw_requests(rng: np.random.Generator, clock: Clock, course: Course, asked: Asked) -> Requests:
    """The requests that riders make then and there, with the driver sent to each."""
    n, group, area_km2 = len(asked.utc_s), ZONE_GROUP[asked.zone], city_map.zone_areas_km2()[asked.zone]
    step, part = clock.place(asked.utc_s)
    supply, demand = between(course.supply, step, part), between(course.demand, step, part)
    product = _choose(rng, _PRODUCT_SLOTS, 0, n)
    idle = rng.poisson(idle_drivers(asked.zone, supply)).astype(np.float64)
    waiting = rng.poisson(0.9 * _ZONE_WEIGHT[group] * demand / np.sqrt(supply)).astype(np.float64)
    idle, waiting = asked.on.count(idle, asked.on.supply), asked.on.count(waiting, asked.on.waiting)
    is_busy = rng.random(n) < 0.10 + 0.40 * waiting / (waiting + idle + 2)
    density = (idle + 0.5) * _REACH / area_km2 * _PRODUCT_FLEET[product] * np.where(is_busy, 1.6, 1.0)
    driver = _send_driver(rng, asked.pickup, density)
    speed_mps, heading_deg = _draw_motion(rng, driver, is_busy, asked.now["traffic_speed_ratio"])
    hour, is_weekend = clock.hour[step] + part * (STEP_S / 3600), clock.is_weekend[step]
    return Requests(
        utc_s=asked.utc_s,
        hour=hour,
        is_weekend=is_weekend,
        morning=np.where(is_weekend, 0.0, rush(hour, 8.3, 1.5)),
        evening=np.where(is_weekend, 0.0, rush(hour, 17.3, 2.3)),
        zone=asked.zone,
        pickup=asked.pickup,
        driver=driver,
        driver_speed_mps=speed_mps,
        driver_heading_deg=heading_deg,
        driver_busy_s=np.where(is_busy, np.clip(np.round(rng.exponential(130, n)), 1, 1200), 0.0),
        idle_drivers=idle,
        open_requests=waiting,
        product=product,
        place=_choose(rng, _PLACE_SLOTS, group, n),
        app=_choose(rng, _APP_SLOTS, 0, n),
    )


def _choose(rng: np.random.Generator, slots: NDArray[np.int8], row: Ints | int, n: int) -> Ints:
    """`n` indices, each drawn by the shares of its row."""
    return np.asarray(slots[row, rng.integers(0, _N_SLOTS, n)], dtype=np.int64)


def _send_driver(rng: np.random.Generator, pickup: Places, per_km2: Floats) -> Places:
    """Of the eight nearest drivers the one with the shortest way by road."""
    n, pickup_is_north, area_km2 = len(pickup), city_map.is_north(pickup), 1 / (np.pi * per_km2)
    best, best_km, farther = pickup, np.full(n, np.inf), np.zeros(n)
    for _ in range(8):
        farther = farther + rng.exponential(1, n)
        radius_km = np.minimum(np.sqrt(farther * area_km2), _FARTHEST_KM)
        place = pickup + radius_km * _DIRECTIONS[rng.integers(0, len(_DIRECTIONS), n)]
        road_km = city_map.street_km(place, pickup, pickup_is_north)
        is_better = road_km < best_km
        best, best_km = np.where(is_better, place, best), np.where(is_better, road_km, best_km)
    return best


def _draw_motion(
    rng: np.random.Generator, driver: Places, is_busy: NDArray[np.bool_], ratio: Floats
) -> tuple[Floats, Floats]:
    """Speed and compass heading: a third are parked, most follow the grid, beside the highway half are on it."""
    n = len(driver)
    is_parked = (rng.random(n) < 0.35) & ~is_busy
    ramp_km = np.abs(driver - city_map.highway_place(city_map.highway_km(driver)))
    is_on_highway = (ramp_km < 0.4) & (rng.random(n) < 0.5) & ~is_parked
    cruise = np.where(is_on_highway, 24.0, city_map.street_speed_mps(driver)) * ratio
    speed = np.where(is_parked, 0.0, np.clip(cruise * (1 + 0.25 * rng.standard_normal(n)), 0, 38)).round(1)
    along = np.where(is_on_highway, np.angle(city_map.HIGHWAY_HEADING), city_map.GRID_ANGLE_RAD)
    turns = rng.integers(0, 4, n) * np.where(is_on_highway, np.pi, np.pi / 2)
    angle = along + turns + np.where(is_on_highway, 0.05, 0.25) * rng.standard_normal(n)
    return speed, np.round((90 - np.degrees(angle)) % 360, 0) % 360
