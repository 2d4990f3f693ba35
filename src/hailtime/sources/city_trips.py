"""The requests of Rivermouth: when and where riders ask, and which driver is sent.

Supply makes the distance: idle drivers lie around a rider like raindrops (a Poisson process), so the distance to the
nearest follows a Rayleigh distribution whose scale is their density's. Dispatch compares the eight nearest by road,
so that few have to cross the river (measured: 0.6 %, while 4.2 % of the nearest are across it).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hailtime.sources import city_map
from hailtime.sources.city_conditions import STEP_S, CityState, Clock
from hailtime.sources.city_map import ZONE_GROUP, Floats, Ints, Places

PRODUCTS = ("standard", "shared", "xl", "accessible")
PLACES = ("street", "hotel", "station", "mall", "airport")
APPS = ("ios", "android", "web")

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
        [0.66, 0.88, 0.76, 0.57, 0.45, 0.74, 0.95, 1.20, 1.28, 1.55, 1.55, 1.32],
        [1.18, 1.10, 1.15, 1.32, 1.42, 1.40, 1.55, 1.42, 1.06, 0.90, 0.70, 0.62],
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
_PLACE_SHARES = np.array(
    [  # street hotel station mall airport
        [0.72, 0.13, 0.11, 0.04, 0.00],
        [0.84, 0.04, 0.05, 0.07, 0.00],
        [0.86, 0.02, 0.03, 0.09, 0.00],
        [0.10, 0.08, 0.02, 0.00, 0.80],
    ]
)
_PRODUCT_SHARES = np.array([[0.68, 0.12, 0.15, 0.05]])
_PRODUCT_FLEET = np.array([1.0, 0.9, 0.45, 0.22])  # share of the drivers who serve it
_APP_SHARES = np.array([[0.55, 0.41, 0.04]])
_REACH = 0.15  # share of the idle drivers who would take the next offer
_FARTHEST_KM = 9.0  # nobody is sent from farther away


@dataclass(frozen=True)
class Requests:
    """What is seen when riders ask; arrays of one length. Zone, product, place and app are indices into their names."""

    utc_s: Floats
    hour: Floats  # local, 0 to 24
    is_weekend: NDArray[np.bool_]
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


def _by_hour(values: Floats | Ints, hour: Floats) -> Floats:
    """A table by hour as a smooth course of the day, each value in the middle of its hour."""
    course: Floats = np.interp(hour, np.arange(24) + 0.5, values, period=24)
    return course


def _demand(hour: Floats, is_weekend: NDArray[np.bool_]) -> Floats:
    """Requests in an hour against the mean hour's."""
    weekend = _by_hour(_WEEKEND, hour)
    pattern = np.where(is_weekend, weekend, (7 - 2 * weekend) / 5)
    demand: Floats = _by_hour(_DEMAND, hour) / np.mean(_DEMAND) * pattern
    return demand


def draw_times(rng: np.random.Generator, state: CityState, start_s: int, end_s: int, n: int) -> Floats:
    """UTC seconds of n requests, in order: demand follows the clock, and rain makes more of it."""
    clock = state.clock
    within = (clock.utc_s >= start_s) & (clock.utc_s < end_s)
    weight = _demand(clock.hour, clock.is_weekend) * (1 + 0.10 * np.log1p(state.rain_mm_h))
    growing = np.concatenate([[0], np.cumsum(weight[within])])
    edges = np.append(clock.utc_s[within], end_s)
    times: Floats = np.interp(np.sort(rng.random(n)) * growing[-1], growing, edges)
    return times


def draw_requests(rng: np.random.Generator, state: CityState, utc_s: Floats) -> Requests:
    """The requests made at these seconds, with the driver sent to each."""
    n = len(utc_s)
    hour, is_weekend = _local(state.clock, utc_s)
    pickup = _draw_pickups(rng, hour)
    zone = city_map.zone_at(pickup)
    now = state.at(utc_s, zone)
    group = ZONE_GROUP[zone]
    everyone = np.zeros(n, dtype=np.int64)
    product = _choose(rng, _PRODUCT_SHARES, everyone)
    supply = _by_hour(_SUPPLY, hour) * np.exp(-0.03 * np.log1p(now["rain_mm_h"]))
    area_km2 = city_map.zone_areas_km2()[zone]
    idle = rng.poisson(_IDLE_PER_KM2[group] * area_km2 * supply).astype(np.float64)
    waiting = rng.poisson(0.9 * _ZONE_WEIGHT[group] * _demand(hour, is_weekend) / np.sqrt(supply)).astype(np.float64)
    is_busy = rng.random(n) < 0.10 + 0.40 * waiting / (waiting + idle + 2)
    density = (idle + 0.5) * _REACH / area_km2 * _PRODUCT_FLEET[product] * np.where(is_busy, 1.6, 1.0)
    driver = _send_driver(rng, pickup, density)
    speed_mps, heading_deg = _draw_motion(rng, driver, is_busy, now["traffic_speed_ratio"])
    return Requests(
        utc_s=utc_s,
        hour=hour,
        is_weekend=is_weekend,
        zone=zone,
        pickup=pickup,
        driver=driver,
        driver_speed_mps=speed_mps,
        driver_heading_deg=heading_deg,
        driver_busy_s=np.where(is_busy, np.clip(np.round(rng.exponential(130, n)), 1, 1200), 0.0),
        idle_drivers=idle,
        open_requests=waiting,
        product=product,
        place=_choose(rng, _PLACE_SHARES, group),
        app=_choose(rng, _APP_SHARES, everyone),
    )


def _local(clock: Clock, utc_s: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Local hour and weekend at these seconds."""
    step = ((utc_s - clock.utc_s[0]) // STEP_S).astype(np.int64)
    return clock.hour[step] + (utc_s - clock.utc_s[step]) / 3600, clock.is_weekend[step]


def _choose(rng: np.random.Generator, shares: Floats, row: Ints) -> Ints:
    """One column index for each entry of `row`, drawn with the shares in that row of the table."""
    table = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)
    table[:, -1] = 1.0
    steps = (table + np.arange(len(table))[:, None]).ravel()
    found = np.searchsorted(steps, row + rng.random(len(row)), side="right") - row * table.shape[1]
    return np.asarray(np.minimum(found, table.shape[1] - 1), dtype=np.int64)


def _draw_pickups(rng: np.random.Generator, hour: Floats) -> Places:
    """Where riders stand: around the zones' centres, by day more in the centre, at the airport close to its doors."""
    day = np.cos(2 * np.pi * (np.arange(24) + 0.5 - 14) / 24)[:, None] / 2 + 0.5  # 1 at two in the afternoon
    weights = day * _ZONE_WEIGHT + (1 - day) * _WEIGHT_AT_NIGHT
    home = _choose(rng, weights[:, ZONE_GROUP], hour.astype(np.int64) % 24)
    spread_km = np.where(ZONE_GROUP == 3, 0.4, 0.33 * np.sqrt(city_map.zone_areas_km2()))
    n = len(hour)
    place = city_map.zone_centres()[home] + spread_km[home] * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
    return np.asarray(place * np.minimum(1, city_map.CITY_RADIUS_KM / np.abs(place)))


def _send_driver(rng: np.random.Generator, pickup: Places, per_km2: Floats) -> Places:
    """Of the eight nearest drivers the one with the shortest way by road."""
    best, best_km, farther = pickup, np.full(len(pickup), np.inf), np.zeros(len(pickup))
    for _ in range(8):
        farther = farther + rng.exponential(1, len(pickup))
        radius_km = np.minimum(np.sqrt(farther / (np.pi * per_km2)), _FARTHEST_KM)
        place = pickup + radius_km * np.exp(2j * np.pi * rng.random(len(pickup)))
        road_km = city_map.street_km(place, pickup)
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
