"""Joining: only what was known, only while fresh, the same on every engine and for every row order."""

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hailtime.errors import ConfigError, DataError, SchemaError
from hailtime.preparation.join import join_conditions
from hailtime.preparation.join_settings import HOUR_US
from hailtime.schema import Schema
from tests.conftest import ENGINES

SCHEMA = Schema.from_dict(
    {
        "source": "town",
        "timezone": "Europe/Berlin",
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            "rain": {"role": "numeric", "unit": "mm/h", "condition": "weather"},
            "sky": {"role": "categorical", "condition": "weather"},
            "speed": {"role": "numeric", "unit": "m/s", "condition": "traffic"},
            "zone": {"role": "categorical"},
            "pickup_time_s": {"role": "target", "unit": "s"},
        },
    }
)
FRESHNESS_H = {"weather": 3, "traffic": 1.5}
SETTINGS = {
    "weather": {"key": None, "freshness_h": FRESHNESS_H["weather"]},
    "traffic": {"key": "zone", "freshness_h": FRESHNESS_H["traffic"]},
}
T0 = 1_768_219_200_000_000  # 2026-01-12 12:00 UTC
MINUTE = 60_000_000
CONDITION_TYPES = {"observed_at": pl.Int64, "known_at": pl.Int64}


def asked(*minutes, zones=None):
    """Requests r0, r1, ... at these minutes after noon."""
    return pl.DataFrame(
        {
            "request_id": [f"r{i}" for i in range(len(minutes))],
            "requested_at": [T0 + int(minute * MINUTE) for minute in minutes],
            "zone": zones or ["north"] * len(minutes),
        },
        schema={"request_id": pl.String, "requested_at": pl.Int64, "zone": pl.String},
    )


def weather(*rows):
    """Rows (observed, known, rain) in minutes after noon."""
    columns = {
        "observed_at": [T0 + row[0] * MINUTE for row in rows],
        "known_at": [T0 + row[1] * MINUTE for row in rows],
        "rain": [row[2] for row in rows],
        "sky": [f"sky {row[2]}" for row in rows],
    }
    return pl.DataFrame(columns, schema={**CONDITION_TYPES, "rain": pl.Float64, "sky": pl.String}, strict=False)


def traffic(*rows):
    """Rows (zone, observed, known, speed)."""
    columns = {
        "zone": [row[0] for row in rows],
        "observed_at": [T0 + row[1] * MINUTE for row in rows],
        "known_at": [T0 + row[2] * MINUTE for row in rows],
        "speed": [row[3] for row in rows],
    }
    return pl.DataFrame(columns, schema={"zone": pl.String, **CONDITION_TYPES, "speed": pl.Float64}, strict=False)


def joined(trips, weather_rows, traffic_rows, make=ENGINES["polars"], settings=SETTINGS):
    """The joined trips as Polars in the order of their ids."""
    tables = {"weather": make(weather_rows), "traffic": make(traffic_rows)}
    native = join_conditions(make(trips), tables, SCHEMA, settings)
    native = native.collect() if isinstance(native, pl.LazyFrame) else native
    rows = native if isinstance(native, pl.DataFrame) else pl.from_pandas(native)
    return rows.cast({"rain": pl.Float64, "speed": pl.Float64, "sky": pl.String, "zone": pl.String}).sort("request_id")


def reference(request, rows, freshness_us, value):
    """The rule as it is told: of the rows known by then the latest observed, of equal ones the latest known."""
    known = [row for row in rows if max(row["observed_at"], row["known_at"]) <= request["requested_at"]]
    if not known:
        return None
    row = max(known, key=lambda row: (row["observed_at"], max(row["observed_at"], row["known_at"])))
    return row[value] if request["requested_at"] - row["observed_at"] <= freshness_us else None


def test_request_gets_the_latest_row_known_by_then(engine):
    rows = weather((0, 5, 1), (60, 65, 2))
    assert joined(asked(4.9, 5, 64.9, 65), rows, traffic(), engine)["rain"].to_list() == [None, 1, 1, 2]


def test_late_row_about_the_past_does_not_replace_a_newer_one(engine):
    rows = weather((0, 200, 1), (60, 65, 2))  # what was true at noon became known at 15:20
    assert joined(asked(100, 201), rows, traffic(), engine)["rain"].to_list() == [2, 2]


def test_correction_counts_from_the_moment_it_is_known(engine):
    rows = weather((0, 5, 1), (0, 30, 9))
    assert joined(asked(29, 30), rows, traffic(), engine)["rain"].to_list() == [1, 9]


def test_row_is_used_up_to_its_freshness_and_not_longer(engine):
    rows = weather((0, 5, 1))
    trips = asked(180, 180 + 1 / MINUTE)  # three hours, and a microsecond more
    assert joined(trips, rows, traffic(), engine)["rain"].to_list() == [1, None]


def test_stale_newest_row_is_not_replaced_by_an_older_one(engine):
    rows = weather((-200, 10, 7), (-190, 5, 1))
    assert joined(asked(6, 11), rows, traffic(), engine)["rain"].to_list() == [None, None]


def test_row_known_before_it_is_true_waits_until_it_is(engine):
    assert joined(asked(9, 10), weather((10, 0, 4)), traffic(), engine)["rain"].to_list() == [None, 4]


def test_each_key_has_its_own_rows_and_a_missing_key_none(engine):
    rows = traffic(("north", 0, 0, 8), ("south", 0, 0, 5), (None, 0, 0, 1))
    trips = asked(10, 10, 10, 10, zones=["north", "south", None, "elsewhere"])
    assert joined(trips, weather(), rows, engine)["speed"].to_list() == [8, 5, None, None]


def test_value_that_is_nan_or_missing_in_the_latest_row_stays_missing(engine):
    rows = weather((0, 0, 1), (10, 10, float("nan")), (30, 30, None))
    assert joined(asked(5, 15, 35), rows, traffic(), engine)["rain"].to_list() == [1, None, None]


def test_every_trip_comes_back_once_also_where_ids_and_times_repeat(engine):
    trips = pl.concat([asked(5, 5), asked(5, 5)])
    rows = joined(trips, weather((0, 0, 1), (0, 0, 2)), traffic(("north", 0, 0, 8)), engine)
    assert rows.height == 4
    assert rows["rain"].to_list() == [2] * 4  # of rows alike in both clocks the largest
    assert joined(trips.clear(), weather((0, 0, 1)), traffic(), engine).height == 0


def test_empty_table_gives_missing_values(engine):
    rows = joined(asked(1, 2), weather(), traffic(), engine)
    assert rows["rain"].null_count() == rows["sky"].null_count() == rows["speed"].null_count() == 2


@pytest.mark.parametrize("hours", [0.01, 1, 12, 13, 24 * 31])
def test_freshness_of_any_length_is_kept_exactly(engine, hours):
    freshness = {**SETTINGS, "weather": {"key": None, "freshness_h": hours}}
    trips = asked(0, hours * 60, hours * 60 + 1 / MINUTE)
    rows = joined(trips, weather((0, 0, 1)), traffic(), engine, freshness)
    assert rows["rain"].to_list() == [1, 1, None]


zones = st.sampled_from(["north", "south", None])
minutes = st.integers(-300, 300)
requests = st.lists(st.tuples(minutes, zones), min_size=1, max_size=12)
weather_rows = st.lists(st.tuples(minutes, minutes, st.integers(0, 9)), max_size=12, unique_by=lambda r: r[:2])
traffic_rows = st.lists(
    st.tuples(zones, minutes, minutes, st.integers(0, 9)), max_size=15, unique_by=lambda row: row[:3]
)


def make_tables(request_list, weather_list, traffic_list):
    trips = asked(*(r[0] for r in request_list), zones=[r[1] for r in request_list])
    return trips, weather(*weather_list), traffic(*traffic_list)


@settings(max_examples=60, deadline=None)
@given(requests, weather_rows, traffic_rows)
def test_join_equals_the_rule_told_in_plain_python(request_list, weather_list, traffic_list):
    # rows whose clocks are equal once a row known too early waits are a tie of their own, told in another test
    weather_list = list({(o, max(o, k)): (o, k, v) for o, k, v in weather_list}.values())
    traffic_list = list({(z, o, max(o, k)): (z, o, k, v) for z, o, k, v in traffic_list}.values())
    trips, weather_frame, traffic_frame = make_tables(request_list, weather_list, traffic_list)
    got = joined(trips, weather_frame, traffic_frame)
    for row in got.to_dicts():
        same_zone = [r for r in traffic_frame.to_dicts() if r["zone"] is not None and r["zone"] == row["zone"]]
        assert row["rain"] == reference(row, weather_frame.to_dicts(), 3 * HOUR_US, "rain")
        assert row["speed"] == reference(row, same_zone, int(1.5 * HOUR_US), "speed")


@settings(max_examples=40, deadline=None)
@given(requests, weather_rows, traffic_rows, st.integers(-300, 300))
def test_rows_known_later_change_nothing(request_list, weather_list, traffic_list, now):
    """What a request at or before `now` gets, it also gets without all that became known after `now`."""
    past = [request for request in request_list if request[0] <= now]
    trips, weather_frame, traffic_frame = make_tables(past, weather_list, traffic_list)
    is_known = pl.col("known_at") <= T0 + now * MINUTE
    then = joined(trips, weather_frame.filter(is_known), traffic_frame.filter(is_known))
    assert_frame_equal(joined(trips, weather_frame, traffic_frame), then, check_exact=True)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(requests, weather_rows, traffic_rows, st.randoms(use_true_random=False))
def test_row_order_and_engine_change_nothing(request_list, weather_list, traffic_list, random):
    trips, weather_frame, traffic_frame = make_tables(request_list, weather_list, traffic_list)
    expected = joined(trips, weather_frame, traffic_frame)
    for table in (weather_list, traffic_list):
        random.shuffle(table)
    trips = trips[random.sample(range(trips.height), trips.height)]
    for make in ENGINES.values():
        got = joined(trips, weather(*weather_list), traffic(*traffic_list), make)
        assert_frame_equal(got, expected, check_exact=True, check_column_order=False)


def test_pandas_index_means_nothing():
    trips = asked(5, 65).to_pandas().set_index(pd.Index([7, 7]))
    rows = weather((0, 0, 1), (60, 60, 2)).to_pandas().set_index(pd.Index([3, 3]))
    frame = join_conditions(trips, {"weather": rows, "traffic": traffic().to_pandas()}, SCHEMA, SETTINGS)
    assert frame.sort_values("request_id")["rain"].to_list() == [1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weather": {"key": None}}, "freshness_h must be hours above 0, got None"),
        ({"weather": {"key": None, "freshness_h": -1}}, "freshness_h must be hours above 0, got -1"),
        ({"weather": {"key": None, "freshness": 3}}, "no setting 'freshness', did you mean 'freshness_h'"),
        ({"weather": None, "wether": {}}, "no entry 'weather', which columns come from, did you mean 'wether'"),
    ],
    ids=["none", "negative", "misspelt", "no table"],
)
def test_setting_that_cannot_work_is_told(change, message):
    wrong = {name: entry for name, entry in {**SETTINGS, **change}.items() if entry is not None}
    with pytest.raises(ConfigError, match=message):
        joined(asked(1), weather(), traffic(), settings=wrong)


def test_table_the_source_does_not_bring_is_told():
    with pytest.raises(DataError, match="brings no condition 'weather', did you mean 'weathers'"):
        join_conditions(asked(1), {"weathers": weather(), "traffic": traffic()}, SCHEMA, SETTINGS)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (weather().drop("known_at"), "rows of weather have no column 'known_at'"),
        (weather((0, 0, 1)).with_columns(rain=pl.lit("T")), "rain of the rows of weather must be a number.*'T'"),
    ],
    ids=["missing column", "text"],
)
def test_table_that_does_not_fit_is_told(table, message):
    with pytest.raises(SchemaError, match=message):
        joined(asked(1), table, traffic())


def test_key_that_trips_lack_is_told():
    with pytest.raises(SchemaError, match="trips have no column 'zone' to join by, did you mean 'zones'"):
        joined(asked(1).drop("zone").with_columns(pl.lit("north").alias("zones")), weather(), traffic())


def test_joined_column_that_trips_bring_is_told():
    with pytest.raises(SchemaError, match="rain comes from weather, and the trips have such a column already"):
        joined(asked(1).with_columns(rain=1.0), weather(), traffic())
