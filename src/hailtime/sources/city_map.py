"""The map of Rivermouth, the simulated city: its zones, its street grid, a river with two bridges and a highway.

A place is one complex number: kilometres east of the centre + i kilometres north of it. So a drive is a difference, its
length an `abs`, its direction an `angle`, and a million of them is one numpy expression. Everything is smooth in the
places except where a real city is not: at the river, and where the highway becomes the faster way.
"""

from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Places = NDArray[np.complex128]

TIMEZONE = "America/New_York"
CENTRE_LAT, CENTRE_LON = 43.60, -70.93
KM_PER_DEG_LAT = 111.195  # of a sphere of 6371 km, as the model's great-circle distance
KM_PER_DEG_LON = KM_PER_DEG_LAT * float(np.cos(np.radians(CENTRE_LAT)))
CITY_RADIUS_KM = 17.5

GROUPS = ("centre", "inner", "outer", "airport")
AIRPORT = GROUPS.index("airport")
_NAMES = {
    "centre": "Old Town,Market Square,Harbour North,Harbour South,Customs Quay,Cathedral Hill,Theatre Row,"
    "Exchange,Museum Mile,Central Station",
    "inner": "Mill Lane,Ropewalk,Garden District,University,Brewery Yards,Canal Side,Park Slope,Foundry,Lantern Hill,"
    "Chapel Green,Saltmarsh,Orchard Street,Fishergate,Kings Meadow,Printworks,Tannery,West Docks,Observatory,"
    "Hospital Hill,Stadium",
    "outer": "Northfield,Eastbrook,Southgate,Westwood,Birch Hollow,Cedar Ridge,Clearwater,Stony Creek,Fox Run,"
    "Harrow Heath,Long Meadow,Maple Grove,Quarry Hill,Reservoir,Sandy Point,Three Oaks,Upper Ferry,Lower Ferry,"
    "Windmill Down,Willow Bend,Kestrel Heights,Granite Falls,Pine Barrens,Beacon Hill,Marsh End,Summit,Lakeside,"
    "Outer Harbour",
    "airport": "Airport,Airport Cargo",
}
ZONE_NAMES = tuple(name for group in GROUPS for name in _NAMES[group].split(","))
ZONE_GROUP: Ints = np.repeat(np.arange(4), [len(_NAMES[group].split(",")) for group in GROUPS])  # index into GROUPS

GRID_ANGLE_RAD = np.radians(29.0)  # Manhattan's streets lie 29 degrees off north
HIGHWAY_FROM, HIGHWAY_TO = -14.0 - 9.0j, 13.0 + 12.0j
HIGHWAY_KM = abs(HIGHWAY_TO - HIGHWAY_FROM)
HIGHWAY_HEADING = (HIGHWAY_TO - HIGHWAY_FROM) / HIGHWAY_KM
CLOSED_FROM_KM, CLOSED_TO_KM = 8.0, 27.0  # kilometres along the highway that the reconstruction closes: 56 % of it
BRIDGES = (-8.62 - 4.82j, 3.5 - 0.77j)  # the highway's bridge in the west and the Old Bridge beside the centre


def to_places(lat: Floats, lon: Floats) -> Places:
    """Degrees to kilometres east + i north of the centre."""
    return (lon - CENTRE_LON) * KM_PER_DEG_LON + 1j * (lat - CENTRE_LAT) * KM_PER_DEG_LAT


def to_degrees(places: Places) -> tuple[Floats, Floats]:
    """Latitude and longitude."""
    return CENTRE_LAT + places.imag / KM_PER_DEG_LAT, CENTRE_LON + places.real / KM_PER_DEG_LON


@cache
def zone_centres() -> Places:
    """A sunflower of zones, denser towards the centre (58 of them), and the two airport zones in the south-east."""
    k = np.arange(int((ZONE_GROUP != AIRPORT).sum()))
    golden_angle = np.pi * (3 - np.sqrt(5))
    radius_km = 16.5 * ((k + 0.5) / len(k)) ** 0.85
    return np.concatenate([radius_km * np.exp(1j * golden_angle * k), [10.5 - 7.5j, 12.0 - 9.3j]])


def zones() -> pl.DataFrame:
    """The zones: `zone`, `lat`, `lon` of the centre, `group` (centre, inner, outer, airport)."""
    lat, lon = to_degrees(zone_centres())
    groups = [GROUPS[group] for group in ZONE_GROUP]
    return pl.DataFrame({"zone": list(ZONE_NAMES), "lat": lat, "lon": lon, "group": groups})


def named(names: tuple[str, ...], index: Ints, column: str = "") -> pl.Series:
    """Indices into names as a column of texts."""
    return pl.Series(column, list(names)).gather(index)


_CELL_KM = 0.125
_HALF_KM = 22.0  # the raster covers the city and what can be asked for around it


def _raster_centres() -> Places:
    axis = np.arange(-_HALF_KM, _HALF_KM, _CELL_KM) + _CELL_KM / 2
    return np.asarray(np.add.outer(1j * axis, axis).ravel())


@cache
def _zone_raster() -> Ints:
    """The nearest zone of every cell of a square raster, flat, row by row from the south-west."""
    cells = _raster_centres()
    nearest = np.zeros(len(cells), dtype=np.int64)
    best = np.full(len(cells), np.inf)
    for zone, centre in enumerate(zone_centres()):
        distance = np.abs(cells - centre)
        closer = distance < best
        nearest[closer], best[closer] = zone, distance[closer]
    return nearest


def zone_at(places: Places) -> Ints:
    """Index into `ZONE_NAMES` of the zone a place lies in."""
    n = int(2 * _HALF_KM / _CELL_KM)
    column = np.clip((places.real + _HALF_KM) / _CELL_KM, 0, n - 1).astype(np.int64)
    row = np.clip((places.imag + _HALF_KM) / _CELL_KM, 0, n - 1).astype(np.int64)
    found: Ints = _zone_raster()[row * n + column]
    return found


def draw_places(rng: np.random.Generator, zone: Ints) -> Places:
    """A place in each of these zones, every one in the city as likely as another."""
    cells, first = _cells_by_zone()
    n_cells = np.diff(first)[zone]
    cell = cells[first[zone] + (rng.random(len(zone)) * n_cells).astype(np.int64)]
    return cell + _CELL_KM * (rng.random(len(zone)) - 0.5 + 1j * (rng.random(len(zone)) - 0.5)) * 0.99


@cache
def _cells_by_zone() -> tuple[Places, Ints]:
    """Centres of the raster's cells in the city, zone after zone, and where each zone's begin."""
    centres = _raster_centres()
    inside = np.abs(centres) < CITY_RADIUS_KM
    zone = _zone_raster()[inside]
    order = np.argsort(zone, kind="stable")
    return centres[inside][order], np.searchsorted(zone[order], np.arange(len(ZONE_NAMES) + 1))


@cache
def zone_areas_km2() -> Floats:
    """Area of each zone within the city's circle."""
    area: Floats = np.diff(_cells_by_zone()[1]) * _CELL_KM**2
    return area


_RIVER_STEPS_PER_KM = 128  # the river in steps of 8 m: looking its bank up takes a third of working it out
_RIVER_HALF_KM = 32.0


@cache
def _river_km() -> Floats:
    """How far north the river is, from west to east: it winds through the city."""
    n_half = int(_RIVER_HALF_KM * _RIVER_STEPS_PER_KM)
    x = (np.arange(-n_half, n_half) + 0.5) / _RIVER_STEPS_PER_KM
    north: Floats = -2.5 + 1.8 * np.sin(x / 4) + 0.1 * x
    return north


def is_north(places: Places) -> NDArray[np.bool_]:
    """Whether a place lies north of the river."""
    step = ((places.real + _RIVER_HALF_KM) * _RIVER_STEPS_PER_KM).astype(np.int64)
    return np.asarray(places.imag > _river_km().take(step, mode="clip"))


def grid_km(start: Places, end: Places | complex) -> Floats:
    """Length along the rotated street grid (Manhattan distance), the river left out."""
    along = (end - start) * np.exp(-1j * GRID_ANGLE_RAD)
    km: Floats = np.abs(along.real) + np.abs(along.imag)
    return km


def street_km(start: Places, end: Places, end_is_north: NDArray[np.bool_] | None = None) -> Floats:
    """Shortest way along the streets; between the banks it goes over the better of the two bridges.

    Who asks for many ways to the same ends can say on which bank these are.
    """
    direct = grid_km(start, end)
    across = np.flatnonzero(is_north(start) != (is_north(end) if end_is_north is None else end_is_north))
    a, b = start[across], end[across]
    west, east = (grid_km(a, bridge) + grid_km(b, bridge) for bridge in BRIDGES)
    direct[across] = np.minimum(west, east)
    return direct


def highway_km(places: Places) -> Floats:
    """How far along the highway (0 at its south-west end) its nearest ramp lies."""
    km: Floats = np.clip(((places - HIGHWAY_FROM) * np.conj(HIGHWAY_HEADING)).real, 0, HIGHWAY_KM)
    return km


def highway_place(along_km: Floats) -> Places:
    """The place that many kilometres along the highway."""
    return (HIGHWAY_FROM + along_km * HIGHWAY_HEADING).astype(np.complex128)


def closure_km(places: Places) -> Floats:
    """Distance to the part of the highway that the reconstruction closes."""
    nearest = highway_place(np.clip(highway_km(places), CLOSED_FROM_KM, CLOSED_TO_KM))
    km: Floats = np.abs(places - nearest)
    return km


def closure_crowding(places: Places) -> Floats:
    """How much of a closed highway's traffic the streets here take: 1 beside the closed part, fading within 4 km."""
    crowding: Floats = np.exp(-((closure_km(places) / 2.5) ** 2))
    return crowding


def street_speed_mps(places: Places) -> Floats:
    """Speed of the streets in free flow: slow in the narrow centre, smoothly faster towards the edge."""
    speed: Floats = 5.2 + 6.0 * (1 - np.exp(-((np.abs(places) / 6.5) ** 2)))
    return speed
