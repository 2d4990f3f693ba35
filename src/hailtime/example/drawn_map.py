"""The map of the simulated city as lines to draw, in kilometres east and north of its centre.

A zone is what lies nearer to its centre than to any other, so its outline is the city's circle cut by the lines half
way to the others.
"""

from functools import cache
from typing import Any

import numpy as np

from hailtime.sources import city_map
from hailtime.sources.city_map import Places

_CIRCLE = city_map.CITY_RADIUS_KM * np.exp(2j * np.pi * np.arange(120) / 120)
STREET_KM = 1.5  # between two streets that are drawn: a hint of the grid, not every street


@cache
def drawn_map() -> dict[str, Any]:
    """zones, streets, river, highway, bridges, and how degrees become kilometres; JSON as it stands."""
    centres, groups = city_map.zone_centres(), city_map.ZONE_GROUP
    zones = [
        {"name": name, "group": city_map.GROUPS[group], "centre": _pair(centre), "outline": _pairs(_outline(k))}
        for k, (name, group, centre) in enumerate(zip(city_map.ZONE_NAMES, groups, centres, strict=True))
    ]
    return {
        "radius_km": city_map.CITY_RADIUS_KM,
        "zones": zones,
        "streets": [_pairs(street) for street in _streets()],
        "river": _pairs(_river()),
        "highway": _pairs(np.array([city_map.HIGHWAY_FROM, city_map.HIGHWAY_TO])),
        "bridges": _pairs(np.array(city_map.BRIDGES)),
        "centre": [city_map.CENTRE_LAT, city_map.CENTRE_LON],
        "km_per_degree": [city_map.KM_PER_DEG_LAT, city_map.KM_PER_DEG_LON],
    }


def _outline(zone: int) -> Places:
    outline: Places = _CIRCLE
    centres = city_map.zone_centres()
    for other in np.delete(centres, zone):
        outline = _cut(outline, (centres[zone] + other) / 2, other - centres[zone])
    return outline


def _cut(outline: Places, edge: complex, away: complex) -> Places:
    """The part of a convex outline that does not lie beyond a line through `edge`, across `away`."""
    beyond = ((outline - edge) * np.conj(away)).real
    kept: list[complex] = []
    for k in range(len(outline)):
        here, there, a, b = outline[k - 1], outline[k], beyond[k - 1], beyond[k]
        if a * b < 0:
            kept.append(here + (there - here) * a / (a - b))
        if b <= 0:
            kept.append(there)
    return np.array(kept, dtype=np.complex128)


def _streets() -> list[Places]:
    """Both directions of the grid, each street from one side of the city to the other."""
    n, radius = int(city_map.CITY_RADIUS_KM / STREET_KM), city_map.CITY_RADIUS_KM
    streets = []
    for turn in (1, 1j):
        along = np.exp(1j * city_map.GRID_ANGLE_RAD) * turn
        for k in range(-n, n + 1):
            half = np.sqrt(radius**2 - (k * STREET_KM) ** 2)
            streets.append(np.array([along * (k * STREET_KM * 1j - half), along * (k * STREET_KM * 1j + half)]))
    return streets


def _river() -> Places:
    """From the western edge of the city to the eastern, found by asking which bank a place is on."""
    east, north = np.linspace(-18, 18, 145), np.linspace(-18, 18, 1441)
    is_north = city_map.is_north(np.add.outer(1j * north, east).ravel()).reshape(len(north), len(east))
    river = east + 1j * north[is_north.argmax(axis=0)]
    inside: Places = river[np.abs(river) <= city_map.CITY_RADIUS_KM]
    return inside


def _pair(place: complex) -> list[float]:
    return [round(float(place.real), 3), round(float(place.imag), 3)]


def _pairs(places: Places) -> list[list[float]]:
    return [_pair(complex(place)) for place in places]
