"""Cleaning and joining frames of Spark: what Polars gives, also where a table is at its worst."""

import random
from datetime import UTC, datetime

import narwhals as nw
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hailtime.errors import DataError, SchemaError
from hailtime.preparation.clean import clean, cleaning_plan, mend_conditions
from hailtime.preparation.conform import conform
from hailtime.preparation.join import join_conditions
from hailtime.preparation.spark import clean_and_join_with_spark, stage_trips
from tests import joining
from tests.test_clean import NOON_US, SCHEMA, trips

RULES = {
    "only_done": {"rule": "keep", "column": "state", "value": "done"},
    "same_trip_twice": {"rule": "duplicate", "by": ["zone", "queue"]},
    "too_fast": {"rule": "speed", "max_mps": 45},
}
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def in_spark(spark, tmp_path):
    """in_spark(frame): the same rows as a frame of Spark."""

    def make(frame):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        stage_trips([frame], folder)
        return spark.read.parquet(folder.as_uri())

    yield make
    spark.catalog.clearCache()


def to_polars(frame):
    return pl.from_arrow(frame.toArrow())


def assert_cleaned_alike(in_spark, frame, rules):
    expected, expected_report = clean(frame, SCHEMA, rules)
    rows, report = clean(in_spark(frame), SCHEMA, rules)
    assert report == expected_report
    order = ["request_id", "requested_at", "queue", "zone"]
    assert_frame_equal(to_polars(rows).sort(order), expected.sort(order), check_exact=True)
    return {finding.name: finding for finding in report.findings}


def test_every_kind_of_fault_is_found_as_by_polars(in_spark):
    frame = trips(
        12,
        request_id=["a", "b", None, "", "e", "f", "g", "g", "i", "j", "k", "l"],
        from_lat=[NAN, 0.0, 0.0, -0.0, None, 43.9, INF, 43.5, 43.5, 43.5, 43.5, 43.5],
        from_lon=[-70.5, None, 0.0, -70.5, -70.5, -70.9, -70.5, -70.5, -70.5, -70.5, -70.5, -70.5],
        queue=[51, -1, 3, 3, 5, 6, 7, 7, None, None, 10, 11],
        zone=["n", "", None, "n", "s", "s", "w", "w", "x", "x", None, "é"],
        pickup_time_s=[300.0, 300, 300, 300, NAN, 60, 300, 300, 19.9, 7201, 300, 300],
        state=["done"] * 10 + [None, "held"],
    )
    findings = assert_cleaned_alike(in_spark, frame, RULES)
    assert {name for name, finding in findings.items() if finding.rows} == {
        *("only_done", "missing_request_id", "missing_pickup_time_s", "range_pickup_time_s", "too_fast"),
        *("same_trip_twice", "range_from_lat", "range_queue"),
    }


def test_rule_that_catches_nothing_says_so(in_spark):
    findings = assert_cleaned_alike(in_spark, trips(state=["done"] * 4, queue=[1, 2, 3, 4]), RULES)
    assert all((finding.rows, finding.example) == (0, None) for finding in findings.values())


def test_missing_keys_are_no_duplicates(in_spark):
    frame = trips(6, zone=["n", "n", None, None, "n", "n"], queue=[1, 1, 1, 1, None, None], state=["done"] * 6)
    assert assert_cleaned_alike(in_spark, frame, RULES)["same_trip_twice"].rows == 1


def test_time_beyond_every_integer_is_a_fault_and_no_error(in_spark):
    frame = trips(requested_at=[1e30, NOON_US, -1e30, NAN], state=["done"] * 4)
    findings = assert_cleaned_alike(in_spark, frame, {})
    assert (findings["range_requested_at"].rows, findings["missing_requested_at"].rows) == (2, 1)


def test_times_with_a_zone_are_read_to_the_microsecond(in_spark):
    whens = [
        datetime(2026, 1, 12, 12, 0, 0, 123_457, tzinfo=UTC),
        None,
        datetime(1969, 12, 31, 23, 59, 59, 7, tzinfo=UTC),
    ]
    at = pl.Series(whens, dtype=pl.Datetime("us", "UTC")).dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ns")
    frame = trips(3).with_columns(requested_at=at)
    rows = conform(nw.from_native(in_spark(frame)), "trips", {"requested_at": "time"}).to_native()
    assert to_polars(rows)["requested_at"].to_list() == [NOON_US + 123_457, None, -1_000_000 + 7]


def test_table_that_does_not_fit_is_told(in_spark):
    with pytest.raises(SchemaError, match=r"queue of the trips must be a number, .*such as 'three'"):
        clean(in_spark(trips(queue=["three"] * 4)), SCHEMA, {})
    with pytest.raises(DataError, match="no trip to clean: the table has 0 rows"):
        clean(in_spark(trips().clear()), SCHEMA, {})


def test_joined_columns_are_held_to_their_ranges(in_spark):
    frame = trips(rain=[1, 101, None, 3], snow=[1, 2, 3, 200])
    (rows, findings), (expected, expected_findings) = (mend_conditions(one, SCHEMA) for one in (in_spark(frame), frame))
    assert findings == expected_findings
    assert_frame_equal(to_polars(rows).sort("request_id"), expected, check_exact=True)


JOINED = joining.schema_of(
    rain="weather", speed="traffic", near="events", nearest_m="events", idle="supply", asked="recent", taken_s="recent"
)
JOINS = {
    "weather": {"key": None, "freshness_h": 3},
    "traffic": {"key": "zone", "freshness_h": 1.5},
    "events": {
        "join": "nearby",
        "table": "reports",
        "id": "event_id",
        "place": ["place_lat", "place_lon"],
        "at": ["lat", "lon"],
        "radius_m": 1500,
        "freshness_h": 3,
        "columns": {"near": "count", "nearest_m": "distance"},
    },
    "supply": {
        "join": "trailing",
        "table": "supply",
        "key": "zone",
        "window_min": 15,
        "columns": {"idle": {"mean": "n"}},
    },
    "recent": {
        "join": "trailing",
        "table": "trips",
        "key": "zone",
        "window_min": 30,
        "columns": {"asked": {"count": "requested_at"}, "taken_s": {"mean": "pickup_time_s"}},
    },
}
TABLES = {
    "weather": {"rain": pl.Float64},
    "traffic": {"zone": pl.String, "speed": pl.Float64},
    "reports": {"event_id": pl.String, "place_lat": pl.Float64, "place_lon": pl.Float64, "ends_at": pl.Int64},
    "supply": {"zone": pl.String, "n": pl.Float64},
}


def town(n_rows):
    """400 requests and tables of so many rows around them; keys, places and values may be missing, clocks disagree."""
    draw = random.Random(5)
    zone = lambda: draw.choice(["north", "south", "west", None])  # noqa: E731
    place = lambda: (43.6 + draw.uniform(-0.02, 0.02), draw.choice([None, -70 + draw.uniform(-0.02, 0.02)]))  # noqa: E731
    number = lambda: draw.choice([None, NAN, 0.0, draw.uniform(0, 40)])  # noqa: E731
    clocks = lambda: (draw.randint(-300, 300), draw.randint(-300, 300))  # noqa: E731
    rides = (
        {"minute": draw.randint(-300, 300), "zone": zone(), "pickup_time_s": draw.uniform(20, 3000)}
        | dict(zip(("lat", "lon"), place(), strict=True))
        for _ in range(400)
    )
    rows = {
        "weather": [(*clocks(), number()) for _ in range(n_rows)],
        "traffic": [(*clocks(), zone(), number()) for _ in range(n_rows)],
        "reports": [(*clocks(), f"e{draw.randint(0, 40)}", *place(), draw.choice([None, 100])) for _ in range(n_rows)],
        "supply": [(*clocks(), zone(), number()) for _ in range(n_rows)],
    }
    return joining.trips(*rides), {name: joining.table(TABLES[name], *rows[name]) for name in TABLES}


@pytest.mark.parametrize("n_rows", [150, 0], ids=["rows", "empty tables"])
def test_every_kind_of_join_meets_what_it_meets_in_polars(in_spark, n_rows):
    rides, tables = town(n_rows)
    expected = join_conditions(rides, tables, JOINED, JOINS)
    rows = join_conditions(in_spark(rides), {k: in_spark(table) for k, table in tables.items()}, JOINED, JOINS)
    rows = to_polars(rows).select(expected.columns).sort("request_id")
    assert_frame_equal(rows, expected.sort("request_id"), check_exact=True)
    shares = {name: 1 - expected[name].null_count() / 400 for name in ("rain", "speed", "nearest_m", "idle", "taken_s")}
    assert all((share > 0.1) == (n_rows > 0 or name == "taken_s") for name, share in shares.items()), shares


def test_folder_without_trips_and_a_file_that_is_no_parquet_are_told(spark, tmp_path):
    plan, staged = cleaning_plan(SCHEMA, {}), tmp_path / "raw"
    staged.mkdir()
    with pytest.raises(DataError, match=r"must be staged trips in .*raw, and it has no Parquet file"):
        clean_and_join_with_spark(staged, {}, plan, {}, tmp_path / "rows", spark)
    (staged / "000000.parquet").write_bytes(b"PAR1 and then something else")
    with pytest.raises(DataError, match=r"Spark could not prepare the trips in .*raw: "):
        clean_and_join_with_spark(staged, {}, plan, {}, tmp_path / "rows", spark)
    assert {path.name for path in tmp_path.iterdir()} == {"raw"}
