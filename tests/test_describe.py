"""An unknown table: what each column seems to be, and a first yaml that prepares it as it is."""

import gzip
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from omegaconf import OmegaConf

from hailtime.config import CONFIGS
from hailtime.describing.description import describe
from hailtime.describing.draft import draft, start_of
from hailtime.describing.names import says, unit_in, words_of
from hailtime.describing.page import page
from hailtime.describing.ranges import rounded_out
from hailtime.describing.table import distinct_of, open_table
from hailtime.describing.times import read_time_texts
from hailtime.errors import DataError
from hailtime.preparation.dataset import check_settings, prepare
from hailtime.sources import simulated_city
from hailtime.sources.files import load

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DATA = CONFIGS.parents[1] / "shared" / "data"
N = 600


def trips(n=N, **columns):
    """Ten days, a request every 24 minutes, the driver there after 1 to 15 minutes; further columns as given."""
    asked = [datetime(2026, 1, 5) + timedelta(minutes=24 * i) for i in range(n)]
    wait_s = np.random.default_rng(7).integers(60, 900, n).tolist()
    own = {
        "trip_id": [f"t{i}" for i in range(n)],
        "created": asked,
        "arrival": [time + timedelta(seconds=wait) for time, wait in zip(asked, wait_s, strict=True)],
        "zone": [f"z{i % 7}" for i in range(n)],
    }
    return pl.DataFrame({name: values for name, values in (own | columns).items() if values is not None})


def waits_s(frame):
    return (frame["arrival"] - frame["created"]).dt.total_seconds()


def written(frame, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


def described(frame, tmp_path, name="trips.parquet"):
    return describe(written(frame, tmp_path / name), "mine", NOW)


def role_of(description, column):
    return description.guesses[column].role


def settings_of(description):
    return OmegaConf.to_container(OmegaConf.create(draft(description)), resolve=True)


def prepared(description, tmp_path):
    """The first yaml taken as it is."""
    settings = settings_of(description)
    raw = load(**{key: value for key, value in settings["load"].items() if key != "_target_"})
    return prepare(raw, settings, tmp_path / "prepared")


def suspicions(description, column):
    return {suspicion.text: suspicion.share for suspicion in description.columns[column].suspicions}


# ---- real tables and a simulated city, as they are


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_the_real_tlc_file_prepares_with_the_yaml_as_it_is(tmp_path):
    path = DATA / "nyc_hvfhv" / "hvfhv_2020-04-30_10k.parquet"
    description = describe(path, "tlc", NOW)
    later = (
        "dropoff_datetime",
        "trip_miles",
        "trip_time",
        "base_passenger_fare",
        "tips",
        "driver_pay",
        "wav_match_flag",
    )
    assert {role_of(description, column) for column in later} == {"left out"}
    # on_scene is given by Uber only, 7 of 10 trips: the pickup is whole
    assert "missing in 30%" in description.guesses["pickup_datetime"].why
    done = prepared(description, tmp_path)
    assert (done.schema.zone, done.schema.numeric) == ("pu_location_id", ())
    raw = pl.read_parquet(path)
    median_s = (raw["pickup_datetime"] - raw["request_datetime"]).dt.total_seconds().median()
    assert description.roles.moments.target_s.median() == median_s
    assert done.report["clean"]["rows_out"] > 9_900


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_the_real_ambulance_calls_prepare_with_the_target_they_hold(tmp_path):
    description = describe(DATA / "nyc_ems" / "incidents_2013_2016h1.parquet", "ems", NOW)
    assert [role_of(description, c) for c in ("cad_incident_id", "incident_datetime", "response_s", "src_split")] == [
        "id",
        "requested_at",
        "target",
        "left out",
    ]
    assert "'NaN' for 'not given': stays a word of its own: make it null in the file" in suspicions(description, "atom")
    done = prepared(description, tmp_path)
    assert done.schema.zone == "policeprecinct"
    assert done.schema.column("zipcode").role == "categorical"
    assert done.report["clean"]["rows_out"] > 360_000


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_simulated_city_prepares_and_its_truth_is_left_out(tmp_path, suffix):
    raw = simulated_city.load(n_requests=4_000, start="2026-01-12", days=14)
    description = described(raw.table(), tmp_path, f"city.{suffix}")
    assert role_of(description, "true_median_s") == "left out"
    assert description.clock.timezone == "America/New_York"
    done = prepared(description, tmp_path)
    assert done.schema.journey == ("driver_lat", "driver_lon", "pickup_lat", "pickup_lon")
    assert done.schema.zone == "pickup_zone"
    assert done.schema.column("driver_speed_mps").unit == "m/s"
    assert {c.name for c in done.schema.columns} >= {"idle_drivers", "open_requests", "product", "app"}


# ---- times


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        pytest.param("%Y-%m-%d %H:%M:%S", None, id="ISO"),
        pytest.param("%Y-%m-%dT%H:%M:%SZ", None, id="ISO, UTC"),
        pytest.param("%d-%m-%Y %H:%M", "%d-%m-%Y %H:%M", id="day first"),
        pytest.param("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p", id="month first, noon"),
        pytest.param("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S", id="dots"),
        pytest.param("%d/%m/%Y %H:%M %z", "%d/%m/%Y %H:%M %z", id="offset"),
        pytest.param("%d %b %Y %H:%M", "%d %b %Y %H:%M", id="month's name"),
    ],
)
def test_times_prepare_in_the_format_that_was_found(tmp_path, form, expected):
    frame = trips()
    frame = frame.with_columns(pl.col("created", "arrival").dt.replace_time_zone("UTC").dt.strftime(form))
    description = described(frame, tmp_path, "trips.csv")
    assert settings_of(description)["load"]["columns"]["requested_at"] == (
        {"column": "created", "format": expected} if expected else "created"
    )
    first = prepared(description, tmp_path).part("train")["requested_at"][0]
    assert datetime.fromtimestamp(first / 1e6, UTC) == datetime(2026, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("texts", "form", "why", "is_sure"),
    [
        pytest.param(
            ["03/04/2026", "13/04/2026"], "%d/%m/%Y", "'13/04/2026' cannot be read the other way", True, id="13"
        ),
        pytest.param(
            ["03/04/2026", "03/14/2026"], "%m/%d/%Y", "'03/14/2026' cannot be read the other way", True, id="14"
        ),
        # as days first: 5 January, 5 February, 4 March; as months first 1 May, 2 May, 3 April
        pytest.param(
            ["05-01-2026", "05-02-2026", "04-03-2026"], "%d-%m-%Y", "so the rows are in order", True, id="order"
        ),
        pytest.param(
            ["03/04/2026", "01/02/2026", "02/01/2026"], "%m/%d/%Y", "is a guess by the mark", False, id="slash"
        ),
        pytest.param(["03.04.2026", "01.02.2026", "02.01.2026"], "%d.%m.%Y", "is a guess by the mark", False, id="dot"),
    ],
)
def test_day_and_month_are_told_apart_by_evidence_or_it_says_guess(texts, form, why, is_sure):
    read = read_time_texts(pl.Series(texts))
    assert (read.format, read.is_sure) == (form, is_sure)
    assert why in read.why


@pytest.mark.parametrize(("unit", "us"), [("s", 1_000_000), ("ms", 1_000), ("us", 1)])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_numbers_since_1970_are_times_in_the_unit_of_their_size(tmp_path, unit, us, suffix):
    frame = trips().with_columns(pl.col("created", "arrival").dt.epoch("us") // us)
    description = described(frame, tmp_path, f"trips.{suffix}")
    assert settings_of(description)["load"]["columns"]["requested_at"] == {"column": "created", "unit": unit}
    assert prepared(description, tmp_path).part("train")["requested_at"][0] == 1_767_571_200_000_000  # 2026-01-05 UTC


def test_nanoseconds_are_told_and_left_to_their_owner(tmp_path):
    frame = trips().with_columns(pl.col("created", "arrival").dt.epoch("ns"))
    description = described(frame, tmp_path)
    assert settings_of(description)["load"]["columns"]["requested_at"] == "???"
    assert "ns since 1970 are not read: divide by 1,000" in description.to_fill[0]


def test_an_id_of_ten_digits_is_no_time(tmp_path):
    frame = trips(trip_id=[1_767_571_200 + i for i in range(N)])
    assert role_of(described(frame, tmp_path), "trip_id") == "id"


# ---- roles


@pytest.mark.parametrize(
    ("name", "values"),
    [
        pytest.param("zip", ["00501", "10001"], id="zeros in front"),
        pytest.param("zipcode", [10001, 10002], id="name"),
        pytest.param("PULocationID", [61.0, 76.0], id="fractions"),
        pytest.param("sector", [101, 305, 502], id="few with gaps"),
        pytest.param("is_airport", ["Y", "N"], id="flag"),
        pytest.param("prebooked", [0, 1], id="0 or 1"),
        pytest.param("shared", [True, False], id="boolean"),
        pytest.param("unit_code", ["101", "102", "37B"], id="digits and a letter"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_codes_and_flags_are_categories_and_stay_what_they_are(tmp_path, name, values, suffix):
    description = described(trips(**{name: [values[i % len(values)] for i in range(N)]}), tmp_path, f"trips.{suffix}")
    assert role_of(description, name) == "category"
    done = prepared(description, tmp_path)
    ours = next(c.name for c in done.schema.categorical if c.name not in ("zone",))
    expected = {str(value).lower() if isinstance(value, bool) else str(value) for value in values}
    assert set(done.part("train")[ours]) == expected


@pytest.mark.parametrize("name", ["open_requests", "party_count", "n_seats"])
def test_a_count_is_a_number(tmp_path, name):
    description = described(trips(**{name: [i % 9 for i in range(N)]}), tmp_path)
    assert role_of(description, name) == "number"
    assert check_settings(settings_of(description)).column(name).maximum == 9  # whole, a little above 8


@pytest.mark.parametrize(
    ("name", "unit", "per_unit"),
    [("wait", "min", 60), ("wait_sec", None, 1), ("response", "h", 3600), ("waited_ms", "ms", 0.001)],
)
def test_a_duration_that_equals_arrived_minus_requested_is_the_target_in_its_unit(tmp_path, name, unit, per_unit):
    frame = trips()
    frame = frame.with_columns((waits_s(frame) / per_unit).alias(name))
    description = described(frame, tmp_path)
    assert (role_of(description, name), description.guesses[name].sure) == ("target", "sure")
    rows = prepared(description, tmp_path).part("train").join(frame, left_on="request_id", right_on="trip_id")
    assert rows["pickup_time_s"].to_list() == pytest.approx(
        (rows["arrival"] - rows["created"]).dt.total_seconds().to_list()
    )
    assert settings_of(description)["load"]["columns"]["pickup_time_s"] == (
        {"column": name, "unit": unit} if unit else name
    )


def test_without_an_arrival_the_wait_gets_its_unit_by_its_size(tmp_path):
    frame = trips()
    frame = frame.with_columns((waits_s(frame) / 60).round(1).alias("waiting")).drop("arrival")
    description = described(frame, tmp_path)
    assert settings_of(description)["load"]["columns"]["pickup_time_s"] == {"column": "waiting", "unit": "min"}
    assert "in min by its size" in description.guesses["waiting"].why


@pytest.mark.parametrize(
    "name", ["fare_amount", "tips", "trip_miles", "trip_time", "ride_status", "actual_route", "driver_rating"]
)
def test_what_is_known_later_by_its_name_is_left_out(tmp_path, name):
    description = described(trips(**{name: np.random.default_rng(1).random(N)}), tmp_path)
    assert role_of(description, name) == "left out"
    assert "known later" in description.guesses[name].why


@pytest.mark.parametrize("name", ["multiple", "train_nearby", "payload_hint", "latency_s", "strait"])
def test_a_word_inside_a_word_says_nothing(tmp_path, name):
    assert role_of(described(trips(**{name: np.random.default_rng(1).random(N)}), tmp_path), name) == "number"


def test_a_column_that_leaks_the_target_is_left_out_whatever_its_name(tmp_path):
    frame, rng = trips(), np.random.default_rng(1)
    wait = waits_s(frame).cast(pl.Float64)
    frame = frame.with_columns(
        x1=wait * 0.3 + pl.Series(rng.normal(0, 5, N)),  # noise of 5 s beside a spread of 73 s
        x2=wait * 0.3 + pl.Series(rng.normal(0, 60, N)),  # an honest predictor
        x3=pl.Series([f"{int(value // 120)} x" for value in wait]),
    )
    description = described(frame, tmp_path)
    assert [role_of(description, name) for name in ("x1", "x2", "x3")] == ["left out", "number", "left out"]
    assert "too good to be known" in description.guesses["x1"].why
    assert "explains" in description.guesses["x3"].why


def test_other_times_persons_counters_and_free_text_are_left_out(tmp_path):
    frame = trips()
    frame = frame.with_columns(
        pl.int_range(N).alias("Unnamed: 0"),
        (pl.col("arrival") + timedelta(minutes=20)).alias("ended_on"),
        pl.Series("driver_id", [f"d{i % 40}" for i in range(N)]),
        pl.Series("note", [f"please ring {i}" for i in range(N // 2)] * 2),
        pl.Series("country", ["US"] * N),
    )
    description = described(frame, tmp_path)
    whys = {name: description.guesses[name].why for name in ("ended_on", "driver_id", "note", "country", "Unnamed: 0")}
    assert {role_of(description, name) for name in whys} == {"left out"}
    assert "known later" in whys["ended_on"]
    assert "one driver each" in whys["driver_id"]
    assert "counter" in whys["Unnamed: 0"]


def test_a_pickup_is_no_request(tmp_path):
    frame = trips().rename(
        {"created": "tpep_pickup_datetime", "arrival": "tpep_dropoff_datetime"}
    )  # as taxis are published
    description = described(frame, tmp_path)
    assert settings_of(description)["load"]["columns"]["requested_at"] == "???"
    assert "tpep_pickup_datetime" in description.to_fill[0]


def test_the_scene_is_taken_where_it_is_always_reported(tmp_path):
    frame = trips().rename({"arrival": "on_scene_time"})
    frame = frame.with_columns((pl.col("on_scene_time") + timedelta(seconds=50)).alias("pickup_time"))
    description = described(frame, tmp_path)
    assert (role_of(description, "on_scene_time"), role_of(description, "pickup_time")) == ("arrived_at", "left out")


def test_without_an_id_the_time_stands_in_and_equal_rows_are_one(tmp_path):
    frame = trips(trip_id=None)
    description = described(pl.concat([frame, frame.head(1)]), tmp_path)
    done = prepared(description, tmp_path)
    findings = {finding["name"]: finding["rows"] for finding in done.report["clean"]["findings"]}
    assert findings["same_row_twice"] == 1


# ---- places


def test_swapped_columns_are_read_the_right_way_round(tmp_path):
    rng = np.random.default_rng(1)
    frame = trips(pickup_lat=rng.normal(-73.98, 0.02, N), pickup_lon=rng.normal(40.75, 0.02, N))
    description = described(frame, tmp_path)
    assert settings_of(description)["load"]["columns"]["pickup_lat"] == "pickup_lon"
    assert description.clock.timezone == "America/New_York"
    row = prepared(description, tmp_path).part("train").row(0, named=True)
    assert (round(row["pickup_lat"]), round(row["pickup_lon"])) == (41, -74)


def test_zeros_and_swapped_rows_are_told_and_do_not_widen_the_range(tmp_path):
    lat, lon = [52.5] * (N - 5) + [0.0] * 3 + [13.4] * 2, [13.4] * (N - 5) + [0.0] * 3 + [52.5] * 2
    lat[:100], lon[:100] = np.linspace(52.4, 52.6, 100).tolist(), np.linspace(13.3, 13.5, 100).tolist()
    description = described(trips(start_latitude=lat, start_longitude=lon), tmp_path)
    told = suspicions(description, "start_latitude")
    assert told["0 as a coordinate: no position"] == pytest.approx(3 / N)
    assert told["latitude and longitude are swapped in these rows"] == pytest.approx(2 / N)
    assert description.clock.timezone == "Europe/Berlin"


# ---- values


def test_a_number_for_not_given_is_told_and_left_out_of_the_range(tmp_path):
    busy = [float(i % 300) for i in range(N)]
    busy[10:20] = [9999.0] * 10
    description = described(trips(driver_busy_s=busy), tmp_path)
    assert suspicions(description, "driver_busy_s")["9999 stands apart: likely 'not given'"] == pytest.approx(10 / N)
    assert check_settings(settings_of(description)).column("driver_busy_s").maximum < 400


def test_words_for_not_given_are_missing_in_a_csv(tmp_path):
    rain = ["NA", "n.a."] + ["0.5", "1.5"] * (N // 2 - 1)
    description = described(trips(rain_mm_h=rain), tmp_path, "trips.csv")
    assert set(settings_of(description)["load"]["missing"]) == {"NA", "n.a."}
    rows = prepared(description, tmp_path).part("train").sort("requested_at")
    assert rows["rain_mm_h"].to_list()[:3] == [None, None, 0.5]


def test_numbers_with_marks_are_left_out_with_the_reason(tmp_path):
    rain = [f"{i % 7}.5{'stuvwxyz'[i % 8] if i % 9 == 0 else ''}" for i in range(N)]
    description = described(trips(rain=rain), tmp_path, "trips.csv")
    assert "numbers with marks in between" in description.guesses["rain"].why
    prepared(description, tmp_path)


def test_one_odd_word_outside_of_the_sample_is_found(tmp_path):
    path = written(trips(n=5_000, rain=["0.5", "1.5"] * 2_499 + ["0.5", "?!"]), tmp_path / "trips.csv")
    table = open_table(path, sample_rows=50)
    assert 20 < table.sample.height < 100
    assert "?!" not in table.sample["rain"]
    assert table.facts["rain"].odd_words == ("?!",)
    assert table.basis == f"a sample of {table.sample.height} of 5,000 rows"


def test_repetitions_are_counted_rightly_though_rows_are_sampled(tmp_path):
    ids = [f"t{i // 2}" for i in range(20_000)]  # each twice: a sample of 100 rows sees hardly any pair
    table = open_table(written(pl.DataFrame({"id": ids}), tmp_path / "ids.parquet"), sample_rows=100)
    looked, distinct = distinct_of(table, "id")
    assert distinct * 2 == looked > 100


def test_clocks_never_set_future_times_and_impossible_orders_are_told(tmp_path):
    frame = trips()
    created = frame["created"].to_list()
    created[0], created[1] = datetime(1970, 1, 1), datetime(2031, 1, 1)
    description = described(frame.with_columns(pl.Series("created", created)), tmp_path)
    told = suspicions(description, "created")
    assert told["before 2000, such as 1970-01-01: a clock never set"] == pytest.approx(1 / N)
    assert told["in the future, such as 2031-01-01"] == pytest.approx(1 / N)
    assert suspicions(description, "arrival")["before the request"] == pytest.approx(1 / N)


def test_wall_times_in_the_hour_that_spring_skips_are_told(tmp_path):
    created = [datetime(2026, 3, 8, 2, 30) + timedelta(days=i) for i in range(N)]  # and on 14 March 2027
    frame = trips(created=created, arrival=[time + timedelta(minutes=5) for time in created])
    rng = np.random.default_rng(1)
    frame = frame.with_columns(lat=pl.Series(rng.normal(40.7, 0.1, N)), lon=pl.Series(rng.normal(-74, 0.1, N)))
    told = suspicions(described(frame, tmp_path), "created")
    shares = [share for text, share in told.items() if "spring skips in America/New_York" in text]
    assert shares == [pytest.approx(2 / N)]


def test_the_same_id_again_is_told(tmp_path):
    frame = trips()
    description = described(pl.concat([frame, frame.head(3)]), tmp_path)
    assert suspicions(description, "trip_id")["the same id again: the same request twice, or no id"] == pytest.approx(
        3 / 603
    )


@pytest.mark.parametrize(
    ("name", "ours", "value"),
    [("distance_mi", "distance_m", 1609.344), ("speed_mph", "speed_mps", 0.44704), ("idle_min", "idle_s", 60.0)],
)
def test_units_of_a_name_become_ours(tmp_path, name, ours, value):
    description = described(trips(**{name: [1.0, 2.5] * (N // 2)}), tmp_path)
    done = prepared(description, tmp_path)
    assert done.part("train")[ours].min() == pytest.approx(value)
    assert done.schema.column(ours).minimum <= value <= done.schema.column(ours).maximum


# ---- the yaml


def test_names_that_yaml_would_misread_are_quoted(tmp_path):
    names = ["no", "Wait: #1 (min)", "${oc.env:HOME}", 'a "b"', "2nd_area", "beat"]
    description = described(trips(**{name: [f"v{i % 3}" for i in range(N)] for name in names}), tmp_path)
    entries = settings_of(description)["load"]["columns"].values()
    read = {entry["column"] for entry in entries if isinstance(entry, dict)}
    assert read >= set(names)
    assert len(prepared(description, tmp_path).schema.categorical) == 7


def test_the_split_leaves_a_gap_as_long_as_the_longest_waits(tmp_path):
    description = described(trips(), tmp_path)
    assert settings_of(description)["split"] == {"validation": 0.7, "calibration": 0.78, "test": 0.85, "gap_s": 900}


def test_months_of_data_are_split_by_dates(tmp_path):
    description = described(trips(n=12_000), tmp_path)  # 200 days from 5 January 2026: 70 % are 140 days
    assert str(settings_of(description)["split"]["validation"]) == "2026-05-25"
    prepared(description, tmp_path)


def test_a_table_of_an_id_and_two_times_says_that_an_input_is_lacking(tmp_path):
    description = described(trips(zone=None), tmp_path)
    assert "a number or a category that is known at the request" in description.to_fill[0]
    assert "???" in draft(description)


@pytest.mark.parametrize(
    ("path", "start"),
    [("trips/2026-*.csv.gz", ("trips", "2026-*.csv.gz")), ("a/b.csv", ("a", "b.csv")), ("b.csv", (".", "b.csv"))],
)
def test_a_path_is_cut_where_the_glob_begins(path, start):
    assert start_of(Path(path)) == start


def test_a_folder_of_compressed_files_prepares(tmp_path):
    frame = trips()
    (tmp_path / "in").mkdir()
    for number, part in enumerate((frame.head(300), frame.tail(300))):
        (tmp_path / "in" / f"{number}.csv.gz").write_bytes(gzip.compress(part.write_csv().encode()))
    assert prepared(describe(tmp_path / "in", "mine", NOW), tmp_path).report["clean"]["rows_in"] == N


# ---- conditions


def test_weather_becomes_a_piece_of_a_yaml(tmp_path):
    hours = [f"{day:02}-01-2026 {hour:02}:51" for day in range(1, 21) for hour in range(24)]
    frame = pl.DataFrame({"DATE": hours, "temp": [float(i % 60) for i in range(480)], "rain_mm_h": [0.5] * 479 + [0.0]})
    description = described(frame, tmp_path, "weather.csv")
    piece = settings_of(description)
    assert piece["load"]["conditions"]["weather"]["columns"]["known_at"] == {
        "column": "DATE",
        "format": "%d-%m-%Y %H:%M",
        "delay_s": 300,
    }
    assert piece["schema"]["columns"]["temp"]["unit"] == "degF"  # 59 °C was never measured
    assert piece["conditions"] == {"weather": {"key": None, "freshness_h": 3}}


def test_traffic_by_zone_is_joined_by_its_zone(tmp_path):
    raw = simulated_city.load(n_requests=500, start="2026-01-12", days=14)
    piece = settings_of(described(raw.conditions["traffic"], tmp_path))
    assert piece["conditions"]["traffic"]["key"] == "pickup_zone"
    assert piece["load"]["conditions"]["traffic"]["columns"]["known_at"] == {"column": "known_at", "unit": "us"}


# ---- files that cannot be read


def test_semicolons_are_told_with_the_way_out(tmp_path):
    (tmp_path / "t.csv").write_text("id;created;km\n1;2026-01-05 10:00;1,5\n")
    with pytest.raises(DataError, match=r"with commas, its first line has semicolons.*decimal_comma=True"):
        open_table(tmp_path / "t.csv")


def test_the_way_out_of_semicolons_works(tmp_path):
    (tmp_path / "t.csv").write_text("id;km\na;1,5\n")
    with pytest.raises(DataError) as told:
        open_table(tmp_path / "t.csv")
    command = str(told.value).partition('python -c "')[2].removesuffix('"')
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    assert open_table(tmp_path / "commas.csv").sample.rows() == [("a", "1.5")]


def test_a_folder_of_mixed_files_says_how_to_name_some(tmp_path):
    written(trips(), tmp_path / "a.csv")
    written(trips(), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"Parquet files or CSV files, found 1 and 1.*a glob such as '.*\*\.parquet'"):
        open_table(tmp_path)


def test_files_of_different_tables_are_not_one(tmp_path):
    written(trips(), tmp_path / "a.csv")
    written(pl.DataFrame({"zone": [1], "x": [1], "y": [2]}), tmp_path / "b.csv")
    with pytest.raises(DataError, match=r"must have the same columns; a\.csv and b\.csv share 1 of 6"):
        open_table(tmp_path)


def test_a_column_that_only_some_files_have_is_left_out(tmp_path):
    written(trips(), tmp_path / "in" / "a.parquet")
    written(trips(surge=[1.0, 1.5] * 300), tmp_path / "in" / "b.parquet")
    description = describe(tmp_path / "in", "mine", NOW)
    assert "surge: not in every file" in draft(description)
    prepared(description, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("t.csv", "a,b\n", "has no rows"), ("t.csv", "", "cannot be read"), ("t.parquet", "x", "cannot be read")],
)
def test_an_empty_or_broken_file_is_told(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        open_table(tmp_path / name)


# ---- names and ranges


@pytest.mark.parametrize(
    ("name", "words"), [("PULocationID", ["pu", "location", "id"]), ("on_scene time", ["on", "scene", "time"])]
)
def test_a_name_is_cut_into_its_words(name, words):
    assert words_of(name) == words


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("wait_min", "min"),
        ("rain_mm_h", "mm/h"),
        ("trip miles", "mi"),
        ("pickup_hour", None),
        ("s", None),
        ("DistKM", "km"),
    ],
)
def test_the_unit_is_the_last_word(name, unit):
    assert unit_in(name) == unit


def test_a_word_is_found_as_a_word():
    assert [says(name, ("tip",)) for name in ("tips", "multiple", "tip_usd")] == ["tip", None, "tip"]
    assert says("policeprecinct", ("precinct",)) == "precinct"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(4.43, 9.87, (4.0, 10.5)), (0.0, 668.0, (0.0, 750.0)), (-71.16, -70.69, (-71.2, -70.65)), (5.0, 5.0, (4.5, 5.5))],
)
def test_limits_are_round_and_wider(low, high, expected):
    assert rounded_out(low, high) == pytest.approx(expected)


# ---- the page and the script


class _Tags(HTMLParser):
    """Counts what opens and closes, and collects what would be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br", "rect"):
            self.open.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        if tag != "rect":
            assert self.open.pop() == tag


def test_the_page_is_whole_fetches_nothing_and_escapes_what_it_shows(tmp_path):
    frame = trips(**{"<b>bold</b>": ["<script>alert(1)</script>", "x"] * (N // 2)})
    description = described(frame, tmp_path)
    html = page(description, draft(description), "next")
    tags = _Tags()
    tags.feed(html)
    assert (tags.open, tags.fetched) == ([], [])
    assert html.count("<script>") == 1
    assert "&lt;b&gt;bold&lt;/b&gt;" in html
    assert html.count("<tr") - 1 >= len(description.columns)


def run_script(*arguments, cwd):
    command = [sys.executable, str(CONFIGS.parent / "scripts" / "describe.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_script_leaves_yaml_and_page_and_never_overwrites(tmp_path):
    path, out = written(trips(), tmp_path / "trips.csv"), tmp_path / "mine.yaml"
    said = run_script(path, "--name", "mine", "--out", out, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.endswith(
        "next: cp mine.yaml configs/source/mine.yaml && python scripts/prepare.py source=mine\n"
    )
    assert (tmp_path / "data" / "described" / "mine.html").is_file()
    out.write_text("mended by hand")
    again = run_script(path, "--name", "mine", "--out", out, cwd=tmp_path)
    assert (again.returncode, out.read_text()) == (2, "mended by hand")
    assert again.stderr.startswith("ConfigError: mine.yaml is there already")
