"""Where a row happens: pairs of coordinates, which of them are swapped, and the time zone they lie in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from hailtime.describing.columns import Column
from hailtime.describing.guess import Guess, Role
from hailtime.describing.names import says
from hailtime.describing.suspicious import Suspicion

_LAT, _LON = ("lat", "latitude"), ("lon", "lng", "long", "longitude")
_ENDS: dict[str, tuple[str, ...]] = {
    "driver": ("driver", "vehicle", "car", "courier", "cab", "unit", "taxi"),
    "dropoff": ("dropoff", "dest", "destination", "do", "end", "to"),
    "pickup": (),  # what is left
}
# Cities where people are driven; the nearest one says the zone.
_CITIES = (
    ("New York", 40.7, -74.0, "America/New_York"), ("Toronto", 43.7, -79.4, "America/Toronto"),
    ("Miami", 25.8, -80.2, "America/New_York"), ("Atlanta", 33.7, -84.4, "America/New_York"),
    ("Chicago", 41.9, -87.6, "America/Chicago"), ("Dallas", 32.8, -96.8, "America/Chicago"),
    ("Denver", 39.7, -105.0, "America/Denver"), ("Phoenix", 33.4, -112.1, "America/Phoenix"),
    ("Los Angeles", 34.1, -118.2, "America/Los_Angeles"), ("San Francisco", 37.8, -122.4, "America/Los_Angeles"),
    ("Seattle", 47.6, -122.3, "America/Los_Angeles"), ("Mexico City", 19.4, -99.1, "America/Mexico_City"),
    ("Bogota", 4.7, -74.1, "America/Bogota"), ("Lima", -12.0, -77.0, "America/Lima"),
    ("Santiago", -33.4, -70.7, "America/Santiago"), ("Buenos Aires", -34.6, -58.4, "America/Argentina/Buenos_Aires"),
    ("Sao Paulo", -23.6, -46.6, "America/Sao_Paulo"), ("Lisbon", 38.7, -9.1, "Europe/Lisbon"),
    ("London", 51.5, -0.1, "Europe/London"), ("Dublin", 53.3, -6.3, "Europe/Dublin"),
    ("Madrid", 40.4, -3.7, "Europe/Madrid"), ("Porto", 41.15, -8.6, "Europe/Lisbon"),
    ("Paris", 48.9, 2.35, "Europe/Paris"), ("Brussels", 50.8, 4.4, "Europe/Brussels"),
    ("Amsterdam", 52.4, 4.9, "Europe/Amsterdam"), ("Berlin", 52.5, 13.4, "Europe/Berlin"),
    ("Munich", 48.1, 11.6, "Europe/Berlin"), ("Rome", 41.9, 12.5, "Europe/Rome"),
    ("Vienna", 48.2, 16.4, "Europe/Vienna"), ("Prague", 50.1, 14.4, "Europe/Prague"),
    ("Warsaw", 52.2, 21.0, "Europe/Warsaw"), ("Stockholm", 59.3, 18.1, "Europe/Stockholm"),
    ("Helsinki", 60.2, 24.9, "Europe/Helsinki"), ("Kyiv", 50.5, 30.5, "Europe/Kiev"),
    ("Athens", 38.0, 23.7, "Europe/Athens"), ("Istanbul", 41.0, 29.0, "Europe/Istanbul"),
    ("Moscow", 55.8, 37.6, "Europe/Moscow"), ("Cairo", 30.0, 31.2, "Africa/Cairo"),
    ("Lagos", 6.5, 3.4, "Africa/Lagos"), ("Nairobi", -1.3, 36.8, "Africa/Nairobi"),
    ("Johannesburg", -26.2, 28.0, "Africa/Johannesburg"), ("Riyadh", 24.7, 46.7, "Asia/Riyadh"),
    ("Dubai", 25.2, 55.3, "Asia/Dubai"), ("Karachi", 24.9, 67.0, "Asia/Karachi"),
    ("Mumbai", 19.1, 72.9, "Asia/Kolkata"), ("Delhi", 28.6, 77.2, "Asia/Kolkata"),
    ("Bengaluru", 13.0, 77.6, "Asia/Kolkata"), ("Dhaka", 23.8, 90.4, "Asia/Dhaka"),
    ("Bangkok", 13.8, 100.5, "Asia/Bangkok"), ("Hanoi", 21.0, 105.8, "Asia/Ho_Chi_Minh"),
    ("Singapore", 1.35, 103.8, "Asia/Singapore"), ("Jakarta", -6.2, 106.8, "Asia/Jakarta"),
    ("Manila", 14.6, 121.0, "Asia/Manila"), ("Hong Kong", 22.3, 114.2, "Asia/Hong_Kong"),
    ("Beijing", 39.9, 116.4, "Asia/Shanghai"), ("Shanghai", 31.2, 121.5, "Asia/Shanghai"),
    ("Chengdu", 30.7, 104.1, "Asia/Shanghai"), ("Xi'an", 34.3, 108.9, "Asia/Shanghai"),
    ("Seoul", 37.6, 127.0, "Asia/Seoul"), ("Tokyo", 35.7, 139.7, "Asia/Tokyo"),
    ("Perth", -31.9, 115.9, "Australia/Perth"), ("Melbourne", -37.8, 145.0, "Australia/Melbourne"),
    ("Sydney", -33.9, 151.2, "Australia/Sydney"), ("Brisbane", -27.5, 153.0, "Australia/Brisbane"),
    ("Auckland", -36.8, 174.8, "Pacific/Auckland"),
)  # fmt: skip
_NEAR_DEG = 6.0  # farther from every city, only the hours from the longitude are said


@dataclass(frozen=True)
class Place:
    """One end of the way: its two columns as they are meant, and whether their names say the opposite."""

    end: str
    lat: Column
    lon: Column
    is_swapped: bool

    @property
    def guesses(self) -> dict[str, Guess]:
        swapped = " (the names are swapped: this is what the values are)" if self.is_swapped else ""
        sides: tuple[tuple[Column, Literal["lat", "lon"]], ...] = ((self.lat, "lat"), (self.lon, "lon"))
        return {column.name: Guess(_role(self.end, side), f"by its name and values{swapped}") for column, side in sides}


def find_places(columns: Sequence[Column]) -> list[Place]:
    """Pickup, driver and destination, at most one of each; a name without an end is the pickup."""
    coordinates = [c for c in columns if c.kind == "number" and not c.is_constant]
    found: dict[str, Place] = {}
    for lat in (c for c in coordinates if says(c.name, _LAT)):
        lon = next((c for c in coordinates if _same_but(lat.name, c.name)), None)
        end = _end_of(lat.name)
        if lon is not None and _are_degrees(lat, lon) and end not in found:
            found[end] = _in_order(end, lat, lon)
    return list(found.values())


def with_swapped_rows(place: Place) -> Place:
    """The place with a word about rows whose two values are the wrong way round."""
    lat, lon = place.lat.values, place.lon.values
    middle_lat, middle_lon = _median(lat), _median(lon)
    if abs(middle_lat - middle_lon) < 5:  # such a place looks the same both ways
        return place
    wrong = ((lat - middle_lon).abs() < 2) & ((lon - middle_lat).abs() < 2)
    n_wrong = int(wrong.sum() or 0)
    found = [Suspicion("latitude and longitude are swapped in these rows", n_wrong / len(lat))] if n_wrong else []
    if place.is_swapped:
        found.append(Suspicion(f"{place.lat.name} holds latitudes and {place.lon.name} longitudes", 1.0))
    return replace(place, lat=place.lat.suspect(found), lon=place.lon.suspect(found))


def guess_timezone(places: Sequence[Place]) -> tuple[str, str] | None:
    """An IANA name and why, from the first place; None without coordinates."""
    if not places:
        return None
    lat, lon = _median(places[0].lat.values), _median(places[0].lon.values)
    name, city_lat, city_lon, zone = min(_CITIES, key=lambda city: (city[1] - lat) ** 2 + (city[2] - lon) ** 2)
    if (city_lat - lat) ** 2 + (city_lon - lon) ** 2 <= _NEAR_DEG**2:
        return zone, f"a guess: {lat:.2f}, {lon:.2f} is nearest to {name}"
    hours = round(lon / 15)
    return (
        f"Etc/GMT{-hours:+d}" if hours else "UTC",
        f"a guess from the longitude {lon:.1f}: UTC{hours:+d} without daylight saving",
    )


def _role(end: str, side: Literal["lat", "lon"]) -> Role:
    roles: dict[tuple[str, str], Role] = {
        ("pickup", "lat"): "pickup_lat",
        ("pickup", "lon"): "pickup_lon",
        ("driver", "lat"): "driver_lat",
        ("driver", "lon"): "driver_lon",
        ("dropoff", "lat"): "dropoff_lat",
        ("dropoff", "lon"): "dropoff_lon",
    }
    return roles[end, side]


def _end_of(name: str) -> str:
    return next((end for end, words in _ENDS.items() if says(name, words)), "pickup")


def _same_but(lat: str, lon: str) -> bool:
    """`start_lat` and `start_lng`: the same name but for the word."""
    lowered = lat.lower()
    return says(lon, _LON) is not None and any(
        lowered.replace(one, other) == lon.lower() for one in ("latitude", "lat") for other in _LON if one in lowered
    )


def _are_degrees(lat: Column, lon: Column) -> bool:
    sides = [values.abs().quantile(0.99) for values in (lat.values, lon.values)]
    return all(side is not None and side <= 180 for side in sides) and min(side or 0 for side in sides) <= 90


def _in_order(end: str, lat: Column, lon: Column) -> Place:
    """A latitude beyond 66.5°, where nobody is driven, whose partner could be one, is the longitude."""
    is_swapped = abs(_median(lat.values)) > 66.5 >= abs(_median(lon.values))
    return Place(end, lon, lat, True) if is_swapped else Place(end, lat, lon, False)


def _median(values: pl.Series) -> float:
    middle = values.median()
    return float(middle) if isinstance(middle, int | float) else 0.0
