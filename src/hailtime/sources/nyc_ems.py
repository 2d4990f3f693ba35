"""New York ambulance calls with the weather at JFK: a real city whose answer time is pickup time in all but name.

The folder holds three files; all other columns in them are left alone:

- incidents_2013_2016h1.parquet: NYC Open Data "EMS Incident Dispatch Data" (a sample), `response_s` = call created to
  first unit on scene; `incident_datetime` is local wall time without a zone
- jfk_weather_hourly_2010_2018.csv: NOAA local climatological data, local *standard* time all year
- nypd_precinct_centroids.csv: precinct, lat, lon
"""

from datetime import timedelta
from pathlib import Path

import polars as pl

from hailtime.errors import DataError, did_you_mean
from hailtime.sources import RawData
from hailtime.sources.clock_times import utc_us

INCIDENTS = "incidents_2013_2016h1.parquet"
WEATHER = "jfk_weather_hourly_2010_2018.csv"
CENTROIDS = "nypd_precinct_centroids.csv"

TIMEZONE = "America/New_York"
STANDARD_TIME_UTC_OFFSET = timedelta(hours=-5)  # JFK's log does not follow daylight saving
# An hourly report is taken at :51 and filed for the full hour; five minutes after it was taken it can be read (a guess
# on the late side: reports go out within a few minutes).
WEATHER_DELAY = timedelta(minutes=5)

_CATEGORIES = {
    "held": "held",
    "special_event": "special_event",
    "initial_call_type": "call_type",
    "initial_severity": "severity",
    "borough": "borough",
    "dispatch_area": "dispatch_area",
    "atom": "atom",
    "zipcode": "zipcode",
    "policeprecinct": "precinct",
    "communitydistrict": "community_district",
    "communityschooldistrict": "school_district",
    "citycouncildistrict": "council_district",
    "congressionaldistrict": "congressional_district",
}
_WEATHER_NUMBERS = {
    "Precip": "precipitation_in",
    "DRYBULBTEMPF": "temperature_f",
    "WETBULBTEMPF": "wet_bulb_f",
    "RelativeHumidity": "humidity_percent",
    "WindSpeed": "wind_mph",
    "VISIBILITY": "visibility_mi",
    "SeaLevelPressure": "pressure_inhg",
}


def load(folder: str | Path) -> RawData:
    """The calls, with the centre of the police precinct as their place, and the hourly weather.

    DataError when the folder, a file or a column is missing, or a file is empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"nyc_ems needs a folder with {INCIDENTS}, {WEATHER} and {CENTROIDS}; there is no {folder}")
    trips = _read_trips(folder / INCIDENTS).join(_read_centroids(folder / CENTROIDS), on="precinct", how="left")
    return RawData(trips=trips, conditions={"weather": _read_weather(folder / WEATHER)})


def _read_trips(path: Path) -> pl.DataFrame:
    table = _read(path, ["cad_incident_id", "incident_datetime", "response_s", *_CATEGORIES])
    if table.schema["incident_datetime"] != pl.Datetime("us"):
        found = table.schema["incident_datetime"]
        raise DataError(f"{path}: incident_datetime must be a local time without a zone, got {found}")
    return table.select(
        pl.col("cad_incident_id").cast(pl.String).alias("request_id"),
        utc_us(pl.col("incident_datetime"), TIMEZONE).alias("requested_at"),
        *(_text(name).alias(new) for name, new in _CATEGORIES.items()),
        pl.col("response_s").cast(pl.Float64).alias("pickup_time_s"),
    )


def _read_centroids(path: Path) -> pl.DataFrame:
    table = _read(path, ["precinct", "lat", "lon"])
    centroids = table.select("precinct", _number("lat").alias("precinct_lat"), _number("lon").alias("precinct_lon"))
    return centroids.unique("precinct", keep="first", maintain_order=True)


def _read_weather(path: Path) -> pl.DataFrame:
    table = _read(path, ["DATE", *_WEATHER_NUMBERS])
    local = table["DATE"].str.to_datetime("%d-%m-%Y %H:%M", time_unit="us", strict=False)
    if local.null_count() > 0:  # a month-first file would parse for twelve days of a month, so one failure is too many
        odd = table["DATE"].filter(local.is_null())[0]
        raise DataError(f"{path}: DATE must be like 31-01-2010 00:51 (day first), got {odd!r}")
    observed_us = (local - STANDARD_TIME_UTC_OFFSET).dt.epoch("us")
    return table.select(
        observed_us.alias("observed_at"),
        (observed_us + WEATHER_DELAY // timedelta(microseconds=1)).alias("known_at"),
        *(_number(name).alias(new) for name, new in _WEATHER_NUMBERS.items()),
    )


def _read(path: Path, columns: list[str]) -> pl.DataFrame:
    """The named columns of one file; a CSV's as text, because its numbers may carry marks."""
    if not path.is_file():
        raise DataError(f"nyc_ems needs {path.name} in {path.parent}, and it is not there")
    try:
        is_parquet = path.suffix == ".parquet"
        table = pl.read_parquet(path) if is_parquet else pl.read_csv(path, infer_schema_length=0)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for name in columns:
        if name not in table.columns:
            raise DataError(f"{path} has no column {name!r}{did_you_mean(name, table.columns)}")
    if table.is_empty():
        raise DataError(f"{path} has no rows")
    return table.select(columns)


def _text(name: str) -> pl.Expr:
    """A category as text; the file writes some missing ones as the word NaN."""
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(~text.is_in(["", "NaN"])).then(text)


def _number(name: str) -> pl.Expr:
    """A number; what carries a mark (T trace, s suspect, * none) is not one."""
    return pl.col(name).str.strip_chars().cast(pl.Float64, strict=False)
