"""How long a pickup takes in Rivermouth: its median from its parts, and the noise around it.

median = until the driver accepts + rest of the driver's trip + turning round + drive + finding the rider
"""

import numpy as np

from hailtime.sources import city_map
from hailtime.sources.city_map import Floats, Places
from hailtime.sources.city_scenario import Influence
from hailtime.sources.city_state import Conditions, rush
from hailtime.sources.city_trips import APPS, PLACES, PRODUCTS, Requests

_HIGHWAY_MPS = 26.0
_RAMPS_S = 20.0
_FIND_S = np.array([12.0, 28.0, 48.0, 67.0, 102.0])  # by PLACES
_FIND_SIGMA = np.array([0.00, 0.01, 0.03, 0.07, 0.06])
_SHARED, _WEB = PRODUCTS.index("shared"), APPS.index("web")
_STATION, _MALL, _AIRPORT = (PLACES.index(place) for place in ("station", "mall", "airport"))


def accept_s(seen: Requests) -> Floats:
    """Until a driver takes the offer: longer where many wait for few."""
    return 6 + 30 * seen.open_requests / (seen.open_requests + seen.idle_drivers + 2)


def turn_s(seen: Requests) -> Floats:
    """A parked driver gets going; a moving one who heads away must turn round, and later the faster the road."""
    toward = np.angle(seen.pickup - seen.driver) - np.radians(90 - seen.driver_heading_deg)
    seconds: Floats = 10 * np.exp(-seen.driver_speed_mps / 1.5) + 2.6 * seen.driver_speed_mps * (1 - np.cos(toward))
    return seconds


def drive_s(seen: Requests, now: Conditions, is_closed: Floats | float) -> Floats:
    """The faster of streets and highway, slowed by rain, cold, incidents and the traffic a closed highway sheds."""
    ratio, middle = now["traffic_speed_ratio"], (seen.driver + seen.pickup) / 2
    street_mps = city_map.street_speed_mps(middle) * ratio
    by_street = city_map.street_km(seen.driver, seen.pickup) * 1000 / street_mps + _bridge_s(seen)
    by_highway = _highway_s(seen, street_mps, np.sqrt(ratio), is_closed)
    wet = 1 + 0.007 * np.log1p(now["rain_mm_h"]) + 0.004 * np.maximum(0, -now["temperature_c"])
    blocked = 1 + 0.16 * np.minimum(now["incidents_active"], 3)
    seconds: Floats = np.minimum(by_street, by_highway) * wet * blocked
    if np.any(is_closed):
        seconds *= 1 + 0.45 * city_map.closure_crowding(middle) * is_closed
    return seconds


def _bridge_s(seen: Requests) -> Floats:
    """The queue at a bridge in the rush hours, for those who cross."""
    crosses = city_map.is_north(seen.driver) != city_map.is_north(seen.pickup)
    return np.where(crosses, 20 + 60 * (seen.morning + seen.evening), 0.0)


def _highway_s(seen: Requests, street_mps: Floats, flow: Floats, is_closed: Floats | float) -> Floats:
    """By streets to the highway, along it and by streets again; what is closed of it is driven on crowded streets."""
    enter_km, leave_km = city_map.highway_km(seen.driver), city_map.highway_km(seen.pickup)
    enter, leave = city_map.highway_place(enter_km), city_map.highway_place(leave_km)
    access_km = city_map.street_km(seen.driver, enter) + city_map.street_km(leave, seen.pickup)
    low, high = np.minimum(enter_km, leave_km), np.maximum(enter_km, leave_km)
    shut_km = np.maximum(0, np.minimum(high, city_map.CLOSED_TO_KM) - np.maximum(low, city_map.CLOSED_FROM_KM))
    shut_km = shut_km * is_closed
    highway_mps = _HIGHWAY_MPS * flow * (1 - _tide(seen, enter, leave))
    streets_s = (access_km + 1.3 * shut_km) * 1000 / street_mps
    seconds: Floats = streets_s + (high - low - shut_km) * 1000 / highway_mps + _RAMPS_S
    return seconds


def _tide(seen: Requests, enter: Places, leave: Places) -> Floats:
    """Share of the highway's speed lost to commuters: inbound in the morning, outbound in the evening."""
    inbound = 0.5 + 0.5 * np.tanh((np.abs(enter) - np.abs(leave)) / 3)
    tide: Floats = seen.morning * inbound + seen.evening * (1 - inbound)
    return 0.35 * tide


def find_s(seen: Requests, now: Conditions) -> Floats:
    """From the kerb to the rider: by kind of place and how crowded it is, in the rain, with a web page's rough pin."""
    crowd = np.zeros(len(seen.hour))
    crowd += (seen.place == _STATION) * (0.4 * seen.morning + 0.3 * seen.evening)
    crowd += (seen.place == _MALL) * np.where(seen.is_weekend, 0.4, 0.15) * rush(seen.hour, 15.5, 3)
    crowd += (seen.place == _AIRPORT) * 0.35 * rush(seen.hour, 18, 3)
    parking_s = 14 * np.exp(-((np.abs(seen.pickup) / 2.5) ** 2)) * rush(seen.hour, 14, 6)
    outside = 1 + 0.03 * np.log1p(now["rain_mm_h"]) + 0.008 * np.maximum(0, -now["temperature_c"])
    pin = 1 + 0.25 * (seen.app == _WEB)
    finding_s: Floats = (_FIND_S[seen.place] * (1 + crowd) + parking_s) * outside * pin
    return np.where(seen.product == _SHARED, finding_s + 18, finding_s)


def median_s(seen: Requests, now: Conditions, on: Influence, driving_s: Floats) -> Floats:
    """The exact median of the pickup time, given the request, the actual conditions and what scenarios do."""
    drops_off_s = np.where(seen.driver_busy_s > 0, 15.0, 0.0)
    waits_s = accept_s(seen) * on.accept + seen.driver_busy_s + drops_off_s
    return waits_s + turn_s(seen) + driving_s + find_s(seen, now) + on.find_s


def draw_noise(rng: np.random.Generator, seen: Requests, now: Conditions) -> Floats:
    """What multiplies the median: its own median is 1, its right tail heavier than log-normal's.

    What nobody records makes it: how well the driver knows these streets, whether the rider is at the kerb, signals.
    """
    z = rng.standard_normal(len(seen.hour))
    sigma = 0.205 + _FIND_SIGMA[seen.place] + 0.007 * np.log1p(now["rain_mm_h"]) + 0.03 * (seen.product == _SHARED)
    noise: Floats = np.exp(sigma * z * (1 + 0.10 * np.maximum(0, z)))
    return noise


def draw_routing_eta_s(rng: np.random.Generator, seen: Requests, driving_s: Floats) -> Floats:
    """A routing engine's estimate: roads and current traffic, 8 % short, shorter still in the centre, noisy."""
    bias = 0.92 - 0.08 * np.exp(-np.abs(seen.pickup) / 5)
    estimate: Floats = driving_s * bias * np.exp(0.10 * rng.standard_normal(len(driving_s)))
    return estimate
