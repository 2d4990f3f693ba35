"""Cleaning: each rule catches what it says, on every engine alike, and wrong settings and tables are told clearly."""

import json
import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from hailtime.config import CONFIGS
from hailtime.errors import ConfigError, DataError, SchemaError
from hailtime.preparation.clean import clean, mend_conditions
from hailtime.schema import Schema
from hailtime.sources.simulated_city import load
from tests.conftest import ENGINES

NOON_US = 1_768_219_200_000_000  # date -u -d 2026-01-12T12:00:00Z +%s, in microseconds
COLUMNS = {
    "request_id": {"role": "id"},
    "requested_at": {"role": "requested_at"},
    "from_lat": {"role": "numeric", "unit": "deg", "range": [43, 44]},
    "from_lon": {"role": "numeric", "unit": "deg", "range": [-71, -70]},
    "to_lat": {"role": "numeric", "unit": "deg", "range": [43, 44], "out_of_range": "reject"},
    "to_lon": {"role": "numeric", "unit": "deg"},
    "queue": {"role": "numeric", "unit": "1", "range": [0, 50], "out_of_range": "clip"},
    "rain": {"role": "numeric", "unit": "mm/h", "range": [0, 100], "condition": "weather"},
    "snow": {"role": "numeric", "unit": "mm/h", "range": [0, 100], "out_of_range": "reject", "condition": "weather"},
    "zone": {"role": "categorical"},
    "pickup_time_s": {"role": "target", "unit": "s", "range": [20, 7200], "out_of_range": "reject"},
}
JOURNEY = ["from_lat", "from_lon", "to_lat", "to_lon"]
SCHEMA = Schema.from_dict({"source": "town", "timezone": "Europe/Berlin", "journey": JOURNEY, "columns": COLUMNS})


def trips(n=4, **columns):
    """Good trips r0, r1, ... asked a minute apart, with the given columns instead."""
    good = {
        "request_id": [f"r{i}" for i in range(n)],
        "requested_at": [NOON_US + i * 60_000_000 for i in range(n)],
        "from_lat": [43.5] * n,
        "from_lon": [-70.5] * n,
        "to_lat": [43.51] * n,
        "to_lon": [-70.51] * n,
        "queue": [3] * n,
        "zone": ["north"] * n,
        "pickup_time_s": [300.0] * n,
    }
    return pl.DataFrame(good | columns, strict=False)


def cleaned(frame, rules=None, schema=SCHEMA):
    """The clean trips as Polars sorted by id, and the findings by name."""
    native, report = clean(frame, schema, rules or {})
    native = native.collect() if isinstance(native, pl.LazyFrame) else native
    rows = native if isinstance(native, pl.DataFrame) else pl.from_pandas(native)
    assert rows.height == report.rows_out
    return rows.sort("request_id"), {finding.name: finding for finding in report.findings}


def ids(rows):
    return rows["request_id"].to_list()


def test_good_trips_stay_and_come_back_in_the_callers_kind_of_frame():
    for make, kind in ((ENGINES["polars"], pl.DataFrame), (ENGINES["polars-lazy"], pl.LazyFrame)):
        assert isinstance(clean(make(trips()), SCHEMA, {})[0], kind)
    frame, report = clean(trips().to_pandas(), SCHEMA, {})
    assert isinstance(frame, pd.DataFrame)
    assert report.rows_in == report.rows_out == 4


def test_columns_of_conditions_and_unknown_ones_are_left_out(engine):
    rows, _ = cleaned(engine(trips(colour=["red"] * 4)))
    assert rows.columns == [name for name in COLUMNS if name not in ("rain", "snow")]


def test_keys_of_joins_are_kept():
    frame, _ = clean(trips(grid=[1, 2, None, 4]), SCHEMA, {}, keys=["grid"])
    assert frame["grid"].to_list() == ["1", "2", None, "4"]


def test_target_is_the_seconds_from_request_to_arrival(engine):
    frame = (
        trips()
        .drop("pickup_time_s")
        .with_columns(arrived_at=pl.Series([NOON_US + 90_500_000, None, NOON_US + 200_000_000, NOON_US + 300_000_000]))
    )
    rows, findings = cleaned(engine(frame))
    assert rows["pickup_time_s"].to_list() == [90.5, 80.0, 120.0]  # asked at 0, 120 and 180 s after noon
    assert findings["missing_pickup_time_s"].rows == 1


def test_given_target_wins_over_arrived_at(engine):
    rows, _ = cleaned(engine(trips(arrived_at=[NOON_US] * 4)))
    assert rows["pickup_time_s"].to_list() == [300.0] * 4


@pytest.mark.parametrize("column", ["request_id", "requested_at", "pickup_time_s"])
def test_trip_without_a_required_value_is_dropped(engine, column):
    frame = trips().with_columns(pl.when(pl.int_range(pl.len()) != 2).then(pl.col(column)).alias(column))
    rows, findings = cleaned(engine(frame))
    assert findings[f"missing_{column}"].rows == 1
    assert findings[f"missing_{column}"].share == 0.25
    assert rows["requested_at"].to_list() == [NOON_US, NOON_US + 60_000_000, NOON_US + 180_000_000]
    assert rows.schema["requested_at"] == pl.Int64


def test_nan_and_infinity_are_missing_at_once(engine):
    nan, inf = float("nan"), float("inf")
    rows, findings = cleaned(engine(trips(from_lat=[nan, 43.5, inf, None], pickup_time_s=[300, nan, 300, 300])))
    assert rows["from_lat"].to_list() == [None, None, None]
    assert ids(rows) == ["r0", "r2", "r3"]
    assert findings["range_from_lat"].rows == 0


def test_empty_text_is_a_missing_category(engine):
    rows, _ = cleaned(engine(trips(zone=["", None, "north", " "])))
    assert rows["zone"].to_list() == [None, None, "north", " "]


def test_out_of_range_is_made_missing_clipped_or_rejected_as_declared(engine):
    rows, findings = cleaned(
        engine(trips(from_lat=[42.9, 43, 44, 43.5], queue=[51, -1, 50, 3], to_lat=[43.5, 43.5, 43.5, 0]))
    )
    assert ids(rows) == ["r0", "r1", "r2"]
    assert rows["from_lat"].to_list() == [None, 43, 44]
    assert rows["queue"].to_list() == [50, 0, 50]
    did = {name: (f.severity, f.rows) for name, f in findings.items() if f.rows}
    assert did == {"range_to_lat": ("drop", 1), "range_from_lat": ("mend", 1), "range_queue": ("mend", 2)}
    assert findings["range_to_lat"].example == {"request_id": "r3", "to_lat": 0}


def test_target_out_of_range_is_dropped_also_where_the_column_says_missing(engine):
    target = {**COLUMNS["pickup_time_s"], "out_of_range": "missing"}
    schema = Schema.from_dict(
        {"source": "town", "timezone": "Europe/Berlin", "columns": {**COLUMNS, "pickup_time_s": target}}
    )
    rows, findings = cleaned(engine(trips(pickup_time_s=[19.9, 20, 7200, 7200.1])), schema=schema)
    assert ids(rows) == ["r1", "r2"]
    assert findings["range_pickup_time_s"].rows == 2


def test_time_of_a_clock_that_was_never_set_is_dropped(engine):
    rows, findings = cleaned(engine(trips(requested_at=[0, NOON_US, NOON_US * 1000, NOON_US])))
    assert ids(rows) == ["r1", "r3"]
    assert findings["range_requested_at"].rows == 2


def test_keep_selects_and_is_no_fault(engine):
    rule = {"only_done": {"rule": "keep", "column": "state", "value": "done"}}
    rows, findings = cleaned(engine(trips(state=["done", "held", None, "done"])), rule)
    assert ids(rows) == ["r0", "r3"]
    assert (findings["only_done"].severity, findings["only_done"].rows) == ("select", 2)


@pytest.mark.parametrize(
    ("values", "kept"),
    [(["c", "b"], ["a", "b"]), ([3, 2], [1, 2]), ([False, True], [True])],
    ids=["text", "numbers", "truth"],
)
def test_keep_takes_several_values_of_one_type(engine, values, kept):
    rows, _ = cleaned(engine(trips(2, kind=values)), {"these": {"rule": "keep", "column": "kind", "values": kept}})
    assert ids(rows) == ["r1"]


def test_arrival_before_the_request_is_caught_by_order(engine):
    rule = {"backwards": {"rule": "order", "first": "requested_at", "then": "arrived_at"}}
    arrived = [NOON_US - 1, NOON_US + 60_000_000, None, NOON_US + 480_000_000]
    rows, findings = cleaned(engine(trips(arrived_at=arrived)), rule)
    assert ids(rows) == ["r1", "r2", "r3"]
    assert findings["backwards"].example == {"request_id": "r0", "requested_at": NOON_US, "arrived_at": NOON_US - 1}


def haversine_m(lat_1, lon_1, lat_2, lon_2):
    lat_1, lon_1, lat_2, lon_2 = np.radians([lat_1, lon_1, lat_2, lon_2])
    a = np.sin((lat_2 - lat_1) / 2) ** 2 + np.cos(lat_1) * np.cos(lat_2) * np.sin((lon_2 - lon_1) / 2) ** 2
    return 2 * 6_371_008.8 * np.arcsin(np.sqrt(a))


def test_speed_is_the_great_circle_over_the_pickup_time(engine):
    time_s = haversine_m(43.5, -70.5, 43.9, -70.9) / 45  # 54.9 km in 1,220 s
    frame = trips(to_lat=[43.9] * 4, to_lon=[-70.9] * 4, pickup_time_s=[time_s * 0.9999, time_s * 1.0001, 7200, 20])
    rows, findings = cleaned(engine(frame), {"too_fast": {"rule": "speed", "max_mps": 45}})
    assert ids(rows) == ["r1", "r2"]
    assert findings["too_fast"].example["request_id"] == "r0"


def test_driver_at_null_island_is_unknown_not_too_fast(engine):
    frame = trips(from_lat=[0.0, 43.5, 43.5, 43.5], from_lon=[0.0, -70.5, None, -70.5])
    rows, findings = cleaned(engine(frame), {"too_fast": {"rule": "speed", "max_mps": 45}})
    assert findings["too_fast"].rows == 0
    assert rows["from_lat"].to_list() == [None, 43.5, 43.5, 43.5]


def test_duplicate_keeps_the_earliest_and_ties_fall_by_content(engine):
    frame = trips(
        request_id=["a", "a", "b", "b"], requested_at=[NOON_US + 5, NOON_US, NOON_US, NOON_US], queue=[1, 2, 9, 4]
    )
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        rows, findings = cleaned(engine(frame[order]), {"twice": {"rule": "duplicate", "by": ["request_id"]}})
        assert rows.select("request_id", "requested_at", "queue").rows() == [("a", NOON_US, 2), ("b", NOON_US, 4)]
        assert findings["twice"].rows == 2


def test_rows_without_a_key_are_no_duplicates(engine):
    rule = {"twice": {"rule": "duplicate", "by": ["zone", "queue"]}}
    rows, findings = cleaned(engine(trips(zone=["n", "n", None, None])), rule)
    assert ids(rows) == ["r0", "r2", "r3"]
    assert findings["twice"].rows == 1


def test_good_row_is_not_lost_to_a_faulty_duplicate(engine):
    frame = trips(request_id=["a", "a", "c", "d"], pickup_time_s=[None, 300, 300, 300])
    rows, _ = cleaned(engine(frame), {"twice": {"rule": "duplicate", "by": ["request_id"]}})
    assert ids(rows) == ["a", "c", "d"]


def test_joined_columns_are_held_to_their_ranges_after_the_join(engine):
    native, findings = mend_conditions(engine(trips(rain=[1, 101, None, 3], snow=[1, 2, 3, 200])), SCHEMA)
    rows = pl.from_pandas(native) if isinstance(native, pd.DataFrame) else native.lazy().collect()
    assert rows.sort("request_id")["rain"].to_list() == [1, None, None]
    assert {f.name: (f.severity, f.rows) for f in findings} == {"range_snow": ("drop", 1), "range_rain": ("mend", 1)}


def test_report_adds_up_and_is_json():
    rules = {"twice": {"rule": "duplicate", "by": ["request_id"]}}
    frame = trips(5, request_id=["a", "a", "b", "c", None], to_lat=[43.5, 43.5, 90, 43.5, 43.5])
    _, report = clean(frame, SCHEMA, rules)
    assert report.rows_in - sum(f.rows for f in report.findings if f.severity != "mend") == report.rows_out == 2
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["rows_in"] == 5


@pytest.fixture(scope="module")
def city_settings():
    return yaml.safe_load((CONFIGS / "source" / "simulated_city.yaml").read_text())


@pytest.fixture(scope="module")
def dirty_city():
    return load(n_requests=3000, days=7, dirt=3.0).table()


def test_every_engine_and_row_order_gives_the_same_trips_and_report(dirty_city, city_settings):
    schema = Schema.from_dict(city_settings["schema"])
    shuffled = dirty_city.sample(fraction=1.0, shuffle=True, seed=3)
    expected, expected_report = clean(dirty_city, schema, city_settings["rules"])
    expected = expected.sort("request_id")
    assert expected_report.rows_out < expected_report.rows_in
    for make in ENGINES.values():
        native, report = clean(make(shuffled), schema, city_settings["rules"])
        rows = pl.from_pandas(native) if isinstance(native, pd.DataFrame) else native.lazy().collect()
        assert report == expected_report
        assert_frame_equal(rows.sort("request_id"), expected, check_exact=True)


def test_pandas_index_means_nothing(dirty_city, city_settings):
    schema = Schema.from_dict(city_settings["schema"])
    frame = dirty_city.to_pandas()
    odd = frame.set_axis(np.zeros(len(frame), dtype=int), axis="index")
    one, other = (clean(f, schema, city_settings["rules"])[0] for f in (frame, odd))
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize("unit", ["us", "ns", "ms"])
def test_datetimes_with_a_zone_become_microseconds(engine, unit):
    noon = pl.from_epoch(pl.col("requested_at"), "us").dt.cast_time_unit(unit).dt.replace_time_zone("UTC")
    frame = trips().with_columns(noon.dt.convert_time_zone("Asia/Tokyo").alias("requested_at"))
    rows, _ = cleaned(engine(frame))
    assert rows["requested_at"].to_list() == trips()["requested_at"].to_list()


def test_integer_categories_read_the_same_everywhere(engine):
    rows, _ = cleaned(engine(trips(zone=[7, 8, 7, 10])))
    assert rows["zone"].to_list() == ["7", "8", "7", "10"]


def test_column_without_any_value_has_no_wrong_type(engine):
    rows, _ = cleaned(engine(trips(queue=[None] * 4, zone=[None] * 4)))
    assert rows["queue"].null_count() == rows["zone"].null_count() == 4


def test_one_trip_can_be_cleaned(engine):
    assert cleaned(engine(trips(1)))[0].height == 1


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        pytest.param(trips().clear(), "0 rows", id="empty table"),
        pytest.param(
            trips(pickup_time_s=[None] * 4), r"4 of 4 fell to the rule missing_pickup_time_s", id="no target at all"
        ),
        pytest.param(
            trips(requested_at=[NOON_US // 1_000_000] * 4), "read as microseconds since 1970 UTC", id="seconds"
        ),
    ],
)
def test_table_that_leaves_no_trip_is_refused(engine, frame, message):
    with pytest.raises(DataError, match=message):
        cleaned(engine(frame))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        pytest.param(trips().drop("to_lat"), "trips have no column 'to_lat', did you mean", id="missing column"),
        pytest.param(trips().drop("pickup_time_s"), "no column 'pickup_time_s'", id="missing target"),
        pytest.param(trips(queue=["3"] * 4), "queue of the trips must be a number, .*such as '3'", id="text"),
        pytest.param(trips(zone=[1.5] * 4), "zone of the trips must be text or integers.*cast it", id="float category"),
        pytest.param(
            trips(zone=[True] * 4), "zone of the trips must be text or integers.*cast it", id="truth category"
        ),
        pytest.param(trips(requested_at=["noon"] * 4), "requested_at of the trips must be int64 micro", id="text time"),
        pytest.param(
            trips().with_columns(pl.from_epoch("requested_at", "us")),
            "without a zone: localise",
            id="time without zone",
        ),
    ],
)
def test_table_that_does_not_fit_the_schema_is_told(engine, frame, message):
    with pytest.raises(SchemaError, match=message):
        cleaned(engine(frame))


def test_something_that_is_no_frame_is_told():
    with pytest.raises(DataError, match="trips must be a Polars, pandas or Spark frame, got list"):
        clean([1, 2], SCHEMA, {})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param({"rule": "duplicat", "by": ["zone"]}, "no rule 'duplicat', did you mean 'duplicate'", id="rule"),
        pytest.param({"by": ["zone"]}, "needs an entry 'rule'", id="no rule"),
        pytest.param({"rule": "speed", "max_mp": 3}, "no setting 'max_mp', did you mean 'max_mps'", id="setting"),
        pytest.param({"rule": "speed"}, "speed needs the setting 'max_mps'", id="no setting"),
        pytest.param({"rule": "speed", "max_mps": 0}, "above 0, got 0", id="speed 0"),
        pytest.param({"rule": "duplicate", "by": "zone"}, "by must be a list of columns", id="by text"),
        pytest.param({"rule": "keep", "column": "zone"}, "keep needs column and either value or values", id="no value"),
        pytest.param({"rule": "keep", "column": "zone", "values": ["a", 1]}, "all text or all numbers", id="mixed"),
        pytest.param({"rule": "keep", "column": "zone", "value": 3}, "reads zone as a number", id="other type"),
    ],
)
def test_rule_that_cannot_work_is_told(rule, message):
    with pytest.raises(ConfigError, match=message):
        clean(trips(), SCHEMA, {"mine": rule})


def test_speed_needs_a_journey():
    schema = Schema.from_dict({"source": "town", "timezone": "Europe/Berlin", "columns": COLUMNS})
    with pytest.raises(ConfigError, match="speed needs the schema's journey"):
        clean(trips(), schema, {"too_fast": {"rule": "speed", "max_mps": 45}})


def test_unknown_column_in_a_rule_names_the_nearest():
    with pytest.raises(SchemaError, match="no column 'zoen', did you mean 'zone'"):
        clean(trips(), SCHEMA, {"twice": {"rule": "duplicate", "by": ["zoen"]}})


def test_rule_may_not_take_a_name_of_the_schemas_own():
    with pytest.raises(ConfigError, match="range_queue is taken"):
        clean(trips(), SCHEMA, {"range_queue": {"rule": "keep", "column": "zone", "value": "north"}})


def test_math_of_the_test_is_right():
    assert haversine_m(0, 0, 0, 90) == pytest.approx(math.pi / 2 * 6_371_008.8)
