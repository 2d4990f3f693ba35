"""New York's high-volume trips: what an arrival is, who booked ahead, and where the zones are."""

import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from hailtime.errors import DataError
from hailtime.preparation.clean import clean
from hailtime.preparation.dataset import prepare
from hailtime.schema import Schema
from hailtime.sources.nyc_hvfhv import CENTROIDS, LOOKUP, load
from tests.test_config import source_settings_of

REAL = Path(os.environ.get("HAILTIME_NYC_HVFHV", Path(__file__).parents[2] / "shared" / "data" / "nyc_hvfhv"))
SETTINGS = source_settings_of("nyc_hvfhv")
SCHEMA = Schema.from_dict(SETTINGS["schema"])
NEEDS_REAL = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"the real trips are not at {REAL}; HAILTIME_NYC_HVFHV names another place"
)
CLOCK = ("request_datetime", "on_scene_datetime", "pickup_datetime", "dropoff_datetime")


def trip(request="19:34:06", on_scene="19:40:12", pickup="19:41:02", day="2020-04-30", **columns):
    """One published row: a real one unless said otherwise."""
    times = dict(zip(CLOCK, (request, on_scene, pickup, "20:08:04"), strict=True))
    row = {name: time and datetime.fromisoformat(f"{day} {time}") for name, time in times.items()}
    row |= {"hvfhs_license_num": "HV0003", "PULocationID": 4, "DOLocationID": 56, "trip_miles": 8.85}
    return row | {"shared_request_flag": "N", "wav_request_flag": "Y", "access_a_ride_flag": " "} | columns


def load_rows(folder, *rows):
    pl.DataFrame(rows, schema_overrides=dict.fromkeys(CLOCK, pl.Datetime("us"))).write_parquet(folder / "day.parquet")
    (folder / LOOKUP).write_text(
        '"LocationID","Borough","Zone","service_zone"\n4,"Manhattan","Alphabet City","Yellow Zone"\n'
        '56,"Queens","Corona","Boro Zone"\n57,"Queens","Corona","Boro Zone"\n'
        '264,"Unknown","NV","N/A"\n265,"Unknown","NA","N/A"\n'
    )
    (folder / CENTROIDS).write_text(
        "LocationID,borough,zone,lat,lon,area_km2\n4,Manhattan,Alphabet City,40.72,-73.98,1\n"
        "56,Queens,Corona,40.75,-73.85,0.17\n56,Queens,Corona,40.74,-73.86,1.70\n"
    )
    return load(folder).table().to_dicts()


def test_an_arrival_is_on_scene_where_reported_else_the_pickup(tmp_path):
    late = trip(on_scene="19:45:00", PULocationID=57)  # after the pickup: it cannot have been
    trips = load_rows(tmp_path, trip(), trip(on_scene=None, hvfhs_license_num="HV0005"), late)
    told = [(t["company"], t["arrived_by"], (t["arrived_at"] - t["requested_at"]) / 1e6) for t in trips]
    assert told == [("Uber", "on scene", 366), ("Lyft", "pickup", 416), ("Uber", "pickup", 416)]


def test_wall_time_becomes_utc(tmp_path):
    (row,) = load_rows(tmp_path, trip())
    assert row["requested_at"] == datetime(2020, 4, 30, 23, 34, 6, tzinfo=UTC).timestamp() * 1_000_000


@pytest.mark.parametrize(
    ("times", "booking"),
    [
        pytest.param(("19:34:06", "19:40:12", "19:41:02"), "on demand", id="on demand"),
        pytest.param(("19:00:00", "18:59:01", "19:02:00"), "ahead", id="on scene before, picked up after"),
        pytest.param(("19:15:00", None, "19:00:00"), "ahead", id="picked up before"),
        pytest.param(("19:35:00", "19:40:32", "19:41:02"), "full five minutes", id="slot"),
        pytest.param(("19:34:00", "19:40:32", "19:41:02"), "on demand", id="full minute"),
    ],
)
def test_a_trip_booked_ahead_is_told_by_its_times(tmp_path, times, booking):
    (row,) = load_rows(tmp_path, trip(*times))
    assert row["booking"] == booking


def test_a_zone_has_a_name_and_the_centre_of_its_largest_part(tmp_path):
    (row,) = load_rows(tmp_path, trip(DOLocationID=57))  # the map gives 57 the number 56
    assert [row[f"pickup_{what}"] for what in ("zone", "borough", "lat")] == ["Alphabet City", "Manhattan", 40.72]
    assert [row[f"dropoff_{what}"] for what in ("zone", "borough", "lat", "lon")] == ["Corona", "Queens", 40.74, -73.86]


def test_an_unknown_zone_is_missing_and_outside_is_a_place_without_centre(tmp_path):
    (row,) = load_rows(tmp_path, trip(PULocationID=264, DOLocationID=265))
    assert [row[f"pickup_{what}"] for what in ("zone", "borough", "lat")] == [None, None, None]
    assert [row[f"dropoff_{what}"] for what in ("zone", "borough", "lat")] == ["Outside of NYC", "Outside of NYC", None]


def test_flags_are_y_or_n_and_a_blank_is_not_reported(tmp_path):
    (row,) = load_rows(tmp_path, trip())
    assert [row[flag] for flag in ("shared_requested", "wav_requested", "access_a_ride")] == ["N", "Y", None]


def test_a_trip_in_two_files_is_one(tmp_path):
    load_rows(tmp_path, trip(), trip(pickup="19:41:03"))
    (tmp_path / "again.parquet").write_bytes((tmp_path / "day.parquet").read_bytes())
    kept, report = clean(load(tmp_path).table(), SCHEMA, SETTINGS["rules"])
    assert (report.rows_in, kept.height) == (4, 2)


def test_missing_folder_says_what_it_should_hold(tmp_path):
    with pytest.raises(DataError, match=rf"folder with \*.parquet, {LOOKUP} and {CENTROIDS}; there is no"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["day.parquet", LOOKUP, CENTROIDS])
def test_missing_file_is_named(tmp_path, name):
    load_rows(tmp_path, trip())
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=rf"{'parquet' if name == 'day.parquet' else name} must be or match"):
        load(tmp_path)


@NEEDS_REAL
def test_real_trips_match_the_published_figures():
    raw = load(REAL).table()
    kept, report = clean(raw, SCHEMA, SETTINGS["rules"])
    caught = {finding.name: finding.rows for finding in report.findings if finding.rows}
    assert caught == {"not_there_before_asked": 17, "not_for_a_slot": 39, "range_pickup_time_s": 2}
    assert (report.rows_in, report.rows_out) == (10_060, 10_002)
    # July 2026, a month of 20.9 million: Lyft's median wait is 4.55 minutes; an evening of April 2020 was slower
    assert kept.filter(company="Lyft")["pickup_time_s"].median() / 60 == pytest.approx(4.55, abs=1.5)
    outside_or_in = pl.col("dropoff_lat").is_not_null() | (pl.col("dropoff_zone") == "Outside of NYC")
    assert raw.select(pl.col("pickup_lat").is_not_null().all(), outside_or_in.all()).row(0) == (True, True)


@NEEDS_REAL
def test_one_real_day_can_be_split(tmp_path):
    prepared = prepare(load(REAL, files="hvfhv_2020-04-30_10k.parquet"), SETTINGS, tmp_path / "prepared")
    rows = [prepared.part(name).height for name in ("train", "validation", "calibration", "test")]
    assert min(rows) > 500
    assert rows[0] > 5_000
