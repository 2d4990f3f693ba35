"""New York's Uber, Lyft, Via and Juno trips as the Taxi and Limousine Commission (TLC) publishes them.

The folder holds trip files ("High Volume For-Hire Vehicle Trip Records", Parquet, one a month) and two zone tables:

- taxi_zone_lookup.csv: LocationID, Borough, Zone, service_zone, as published
- taxi_zone_centroids.csv: LocationID, borough, zone, lat, lon, area_km2, one row a polygon of the published map

Times are local wall time. In the hour that autumn repeats, a trip over its end loses or gains an hour and falls to a
rule. A file holds the trips *picked up* in its month: next to its ends only slow or only fast ones are there.

The driver's arrival is `on_scene_datetime` where a company reports it (Uber always; no Lyft trip of 2020 and 2023)
before the pickup, else the pickup, which is later by the time it takes to get in: 46 s in the median, July 2026.
`arrived_by` says which. In 4.8 % of that month's trips the two are the same or in the wrong order.

Trips booked ahead carry the booked time as their request, so that a driver may be there "before it was asked for". All
17 such of 10,060 real ones were asked for at a full five minutes, where 56 are and chance would put 34: `booking` tells
all of these from `on demand`.
"""

from pathlib import Path

import polars as pl

from hailtime.errors import DataError
from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources import Blocks, RawData
from hailtime.sources.files import read_blocks, read_table

LOOKUP = "taxi_zone_lookup.csv"
CENTROIDS = "taxi_zone_centroids.csv"
TIMEZONE = "America/New_York"

COMPANIES = {"HV0002": "Juno", "HV0003": "Uber", "HV0004": "Via", "HV0005": "Lyft"}
SLOT_US = 300 * MICROSECONDS_PER_SECOND  # what booking screens offer; New York's offset from UTC is whole slots
UNKNOWN_ZONE, OUTSIDE_ZONE = 264, 265  # as the TLC's guide has them; names differ between versions of the lookup
OUTSIDE = "Outside of NYC"

_COLUMNS = {
    "requested_at": "request_datetime",
    "on_scene_at": "on_scene_datetime",
    "picked_up_at": "pickup_datetime",
    "dropped_off_at": "dropoff_datetime",
    "license": "hvfhs_license_num",
    "pickup_id": "PULocationID",
    "dropoff_id": "DOLocationID",
    "shared_requested": "shared_request_flag",
    "wav_requested": "wav_request_flag",
    "access_a_ride": "access_a_ride_flag",
}
ARRIVED_AT = pl.min_horizontal("on_scene_at", "picked_up_at")  # what is missing does not count
_FLAGS = ("shared_requested", "wav_requested", "access_a_ride")


def load(folder: str | Path, files: str = "*.parquet") -> RawData:
    """The trips of all files that match in blocks, with the names and centres of their zones.

    DataError when the folder, a file or a column is missing, or a file is empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"nyc_hvfhv needs a folder with {files}, {LOOKUP} and {CENTROIDS}; there is no {folder}")
    zones = _read_zones(folder)
    blocks = read_blocks(folder / files, _COLUMNS, TIMEZONE)
    return RawData(Blocks(lambda: (_trip_columns(_with_zones(block, zones)) for block in blocks)), {})


def _with_zones(trips: pl.DataFrame, zones: pl.DataFrame) -> pl.DataFrame:
    trips = trips.with_columns(pl.col("pickup_id", "dropoff_id").cast(pl.Int64))
    trips = trips.join(_zone_columns(zones, "pickup"), on="pickup_id", how="left", maintain_order="left")
    return trips.join(_zone_columns(zones, "dropoff"), on="dropoff_id", how="left", maintain_order="left")


def _trip_columns(trips: pl.DataFrame) -> pl.DataFrame:
    places = [f"{end}_{what}" for end in ("pickup", "dropoff") for what in ("zone", "borough", "lat", "lon")]
    is_on_scene = (pl.col("on_scene_at") <= pl.col("picked_up_at")).fill_null(False)
    return trips.select(
        _request_id().alias("request_id"),
        "requested_at",
        ARRIVED_AT.alias("arrived_at"),
        pl.when(is_on_scene).then(pl.lit("on scene")).otherwise(pl.lit("pickup")).alias("arrived_by"),
        _booking().alias("booking"),
        pl.col("license").replace(COMPANIES).alias("company"),
        *(_yes_or_no(name).alias(name) for name in _FLAGS),
        *places,
    )


def _request_id() -> pl.Expr:
    """Nothing published names a trip: `HV0003-1588289646-366-2033-142-69`, equal only where a trip is there twice."""
    second = MICROSECONDS_PER_SECOND
    since_us = [pl.col(name) - pl.col("requested_at") for name in ("picked_up_at", "dropped_off_at")]
    parts = [pl.col("license"), pl.col("requested_at") // second, *(us // second for us in since_us)]
    return pl.concat_str(*parts, "pickup_id", "dropoff_id", separator="-", ignore_nulls=True)


def _booking() -> pl.Expr:
    return (
        pl.when(pl.col("requested_at") > ARRIVED_AT)
        .then(pl.lit("ahead"))
        .when(pl.col("requested_at") % SLOT_US == 0)
        .then(pl.lit("full five minutes"))
        .otherwise(pl.lit("on demand"))
    )


def _yes_or_no(name: str) -> pl.Expr:
    """Y or N; a blank is not reported (Uber's access_a_ride_flag)."""
    text = pl.col(name).str.strip_chars()
    return pl.when(text.is_in(["Y", "N"])).then(text)


def _read_zones(folder: Path) -> pl.DataFrame:
    """One row a zone: id, names and the centre of its largest polygon.

    By name, because the published map gives the polygons of 57 the number 56, and those of 104 and 105 the number 103.
    """
    names = read_table(folder / LOOKUP, {"id": "LocationID", "borough": "Borough", "zone": "Zone"})
    columns = {"borough": "borough", "zone": "zone", "lat": "lat", "lon": "lon", "area": "area_km2"}
    largest = (
        read_table(folder / CENTROIDS, columns).sort("area", descending=True).unique(["borough", "zone"], keep="first")
    )
    named = pl.col("id") < UNKNOWN_ZONE
    outside = pl.when(pl.col("id") == OUTSIDE_ZONE).then(pl.lit(OUTSIDE))
    return names.join(largest.drop("area"), on=["borough", "zone"], how="left").with_columns(
        pl.when(named).then(pl.col(name)).otherwise(outside).alias(name) for name in ("borough", "zone")
    )


def _zone_columns(zones: pl.DataFrame, end: str) -> pl.DataFrame:
    return zones.rename({name: f"{end}_{name}" for name in zones.columns})
