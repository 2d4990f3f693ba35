"""New York's ambulance calls: wall clocks, marks in the weather file, and clear words for a folder that is not it."""

import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import yaml

from hailtime.config import CONFIGS
from hailtime.errors import DataError
from hailtime.preparation.clean import clean
from hailtime.preparation.join import join_conditions
from hailtime.schema import Schema
from hailtime.sources.nyc_ems import CENTROIDS, INCIDENTS, WEATHER, load

REAL = Path(os.environ.get("HAILTIME_NYC_EMS", Path(__file__).parents[2] / "shared" / "data" / "nyc_ems"))
SETTINGS = yaml.safe_load((CONFIGS / "source" / "nyc_ems.yaml").read_text())
SCHEMA = Schema.from_dict(SETTINGS["schema"])


def incidents(*local_times):
    n = len(local_times)
    numbers = dict.fromkeys(
        ("policeprecinct", "citycouncildistrict", "communitydistrict", "communityschooldistrict", "zipcode"), [75] * n
    )
    texts = {"held": ["N"] * n, "special_event": ["N"] * n, "initial_call_type": ["SICK"] * n, "borough": ["BRONX"] * n}
    return pl.DataFrame(
        {
            "cad_incident_id": list(range(n)),
            "incident_datetime": [datetime.fromisoformat(time) for time in local_times],
            "initial_severity": [4] * n,
            "atom": ["NaN"] * n,
            "dispatch_area": ["K4"] * n,
            "congressionaldistrict": [None] * n,
            "response_s": [300] * n,
            **numbers,
            **texts,
        }
    )


def write_folder(folder, calls=None, weather="01-02-2014 13:51,10,33,32,92,7,29.99,0.01\n"):
    (incidents("2014-02-01 15:00:00") if calls is None else calls).write_parquet(folder / INCIDENTS)
    head = "DATE,VISIBILITY,DRYBULBTEMPF,WETBULBTEMPF,RelativeHumidity,WindSpeed,SeaLevelPressure,Precip\n"
    (folder / WEATHER).write_text(head + weather)
    (folder / CENTROIDS).write_text("precinct,lat,lon\n75,40.67,-73.87\n")
    return folder


def utc(*time):
    return int(datetime(*time, tzinfo=UTC).timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        pytest.param("2014-01-15 12:00:00", utc(2014, 1, 15, 17), id="winter"),
        pytest.param("2014-07-15 12:00:00", utc(2014, 7, 15, 16), id="summer"),
        pytest.param("2014-11-02 01:30:00", utc(2014, 11, 2, 5, 30), id="twice in autumn: the earlier"),
        pytest.param("2014-03-09 02:30:00", utc(2014, 3, 9, 7, 30), id="never in spring: an hour later"),
    ],
)
def test_wall_time_becomes_utc(tmp_path, local, expected):
    trips = load(write_folder(tmp_path, incidents(local))).trips
    assert trips["requested_at"].to_list() == [expected]


def test_weather_is_in_standard_time_all_year_and_known_five_minutes_later(tmp_path):
    weather = load(write_folder(tmp_path, weather="15-07-2014 13:51,10,80,70,50,7,29.99,0\n")).conditions["weather"]
    assert weather["observed_at"].to_list() == [utc(2014, 7, 15, 18, 51)]
    assert weather["known_at"].to_list() == [utc(2014, 7, 15, 18, 56)]


def test_marks_in_the_weather_are_missing_values(tmp_path):
    lines = "01-02-2014 00:51,10,33s,*,92,7,,T\n01-02-2014 01:51, 9 ,,30,91,VR,29.90,0.01s\n"
    weather = load(write_folder(tmp_path, weather=lines)).conditions["weather"]
    columns = ["visibility_mi", "temperature_f", "wind_mph", "pressure_inhg", "precipitation_in"]
    assert weather.select(columns).rows() == [(10, None, 7, None, None), (9, None, None, 29.9, None)]


def test_categories_are_texts_and_the_word_nan_is_missing(tmp_path):
    row = load(write_folder(tmp_path)).trips.row(0, named=True)
    assert (row["precinct"], row["severity"], row["atom"], row["congressional_district"]) == ("75", "4", None, None)
    assert (row["precinct_lat"], row["precinct_lon"]) == (40.67, -73.87)


def test_call_without_a_precinct_stays_and_has_no_place(tmp_path):
    calls = incidents("2014-02-01 15:00:00").with_columns(policeprecinct=pl.lit(None, pl.Int32))
    assert load(write_folder(tmp_path, calls)).trips["precinct_lat"].to_list() == [None]


def test_missing_folder_says_what_it_should_hold(tmp_path):
    with pytest.raises(DataError, match=f"folder with {INCIDENTS}, {WEATHER} and {CENTROIDS}; there is no"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [INCIDENTS, WEATHER, CENTROIDS])
def test_missing_file_is_named(tmp_path, name):
    (write_folder(tmp_path) / name).unlink()
    with pytest.raises(DataError, match=f"needs {name} in .*, and it is not there"):
        load(tmp_path)


def test_missing_column_is_named(tmp_path):
    calls = incidents("2014-02-01 15:00:00").rename({"response_s": "response"})
    with pytest.raises(DataError, match="no column 'response_s', did you mean 'response'"):
        load(write_folder(tmp_path, calls))


@pytest.mark.parametrize("content", ["", "precinct,lat,lon\n"], ids=["no byte", "no row"])
def test_empty_file_is_named(tmp_path, content):
    (write_folder(tmp_path) / CENTROIDS).write_text(content)
    with pytest.raises(DataError, match=CENTROIDS):
        load(tmp_path)


def test_file_that_is_no_parquet_is_named(tmp_path):
    (write_folder(tmp_path) / INCIDENTS).write_text("PAR1 and nothing")
    with pytest.raises(DataError, match=f"{INCIDENTS} cannot be read"):
        load(tmp_path)


def test_month_first_dates_are_refused(tmp_path):
    lines = "07-12-2014 00:51,10,33,32,92,7,29,0\n07-13-2014 00:51,10,33,32,92,7,29,0\n"
    with pytest.raises(DataError, match=r"day first\), got '07-13-2014 00:51'"):
        load(write_folder(tmp_path, weather=lines))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real calls are not at {REAL}; HAILTIME_NYC_EMS names another place")
def test_real_calls_match_the_published_figures():
    raw = load(REAL)
    trips, report = clean(raw.trips, SCHEMA, SETTINGS["rules"])
    assert (report.rows_in, report.rows_out) == (373_154, 337_452)
    joined = join_conditions(trips, raw.conditions, SCHEMA, SETTINGS["conditions"])
    assert joined["temperature_f"].null_count() / joined.height < 0.001
    january = pl.from_epoch("requested_at", "us").dt.month() == 1
    assert joined.filter(january)["temperature_f"].mean() == pytest.approx(32, abs=5)  # New York in January
