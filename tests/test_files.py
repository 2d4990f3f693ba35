"""Files of one's own: every way to write a time, units, many files as one table, and clear words for what is wrong."""

import gzip
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hailtime.errors import ConfigError, DataError
from hailtime.preparation.dataset import prepare
from hailtime.sources import BLOCK_ROWS
from hailtime.sources.files import load, read_blocks
from tests.test_config import source_settings_of

NEW_YORK = "America/New_York"


def utc(*time):
    return int(datetime(*time, tzinfo=UTC).timestamp() * 1_000_000)


def written(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(columns)
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path)
    return path


def read(path, columns, **settings):
    return load(path, columns, **settings).table()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2014-01-15 12:00:00", utc(2014, 1, 15, 17), id="winter"),
        pytest.param("2014-07-15T12:00", utc(2014, 7, 15, 16), id="summer, no seconds"),
        pytest.param("2014-11-02 01:30:00", utc(2014, 11, 2, 5, 30), id="twice in autumn: the earlier"),
        pytest.param("2014-03-09 02:30:00", utc(2014, 3, 9, 7, 30), id="never in spring: an hour later"),
        pytest.param("2014-07-15T12:00:00.250Z", utc(2014, 7, 15, 12, 0, 0, 250_000), id="UTC"),
        pytest.param("2014-07-15 12:00:00-04:00", utc(2014, 7, 15, 16), id="behind UTC"),
        pytest.param("2014-07-15 12:00:00+0530", utc(2014, 7, 15, 6, 30), id="ahead of UTC"),
    ],
)
def test_text_becomes_utc(tmp_path, suffix, text, expected):
    path = written(tmp_path / f"trips.{suffix}", at=[text, None, "2014-01-15 12:00:00"])
    times = read(path, {"requested_at": "at"}, timezone=NEW_YORK)["requested_at"]
    assert times.to_list() == [expected, None, utc(2014, 1, 15, 17)]


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        pytest.param(1_400_000_000, {"unit": "s"}, id="seconds"),
        pytest.param(1_400_000_000_000, {"unit": "ms"}, id="milliseconds"),
        pytest.param(1_400_000_000_000_000, {"unit": "us"}, id="microseconds"),
        pytest.param(1.4e9, {"unit": "s"}, id="float"),
        pytest.param(datetime(2014, 5, 13, 16, 53, 20, tzinfo=UTC), {}, id="aware"),
        pytest.param(datetime(2014, 5, 13, 12, 53, 20), {}, id="wall time"),
        pytest.param("13-05-2014 12:53:20", {"format": "%d-%m-%Y %H:%M:%S"}, id="day first"),
        pytest.param("13-05-2014 16:53:20 +0000", {"format": "%d-%m-%Y %H:%M:%S %z"}, id="day first, offset"),
        pytest.param(1_399_999_400, {"unit": "s", "delay_s": 600}, id="delayed"),
    ],
)
def test_every_kind_of_time_is_the_same_moment(tmp_path, value, entry):
    path = written(tmp_path / "trips.parquet", at=[value])
    times = read(path, {"requested_at": {"column": "at", **entry}}, timezone=NEW_YORK)["requested_at"]
    assert times.to_list() == [1_400_000_000_000_000]


def test_units_become_metres_and_seconds(tmp_path):
    path = written(tmp_path / "trips.csv", a=[2], b=[36], c=[10], d=[1])
    units = {"wait_s": ("a", "min"), "speed_mps": ("b", "km/h"), "height_m": ("c", "ft"), "way_m": ("d", "mi")}
    row = read(path, {name: {"column": column, "unit": unit} for name, (column, unit) in units.items()}).row(0)
    assert row == pytest.approx((120, 10, 3.048, 1609.344))


def test_text_stays_text_and_a_mark_is_missing(tmp_path):
    path = tmp_path / "trips.csv"
    path.write_text("zip,rain\n00501,NA\n10001,1.5\n")
    trips = read(path, {"zipcode": {"column": "zip", "kind": "text"}, "rain_mm_h": "rain"}, missing=["NA"])
    assert trips.rows() == [("00501", None), ("10001", 1.5)]


def test_a_late_fraction_does_not_surprise(tmp_path):
    path = written(tmp_path / "trips.csv", x=["1"] * 2_000 + ["1.5"])
    assert read(path, {"x": "x"})["x"][-1] == 1.5


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(["00501", "7"], [501, 7], id="whole numbers"),
        pytest.param(["1", "2.5e1", "inf"], [1.0, 25.0, float("inf")], id="numbers"),
        pytest.param(["1", "2.5", "A1"], ["1", "2.5", "A1"], id="one is text"),
        pytest.param(["12345678901234567890", "1"], ["12345678901234567890", "1"], id="too long to be a number"),
        pytest.param(["true", "false"], ["true", "false"], id="words"),
    ],
)
def test_a_csv_column_is_judged_by_all_its_values(tmp_path, values, expected):
    path = written(tmp_path / "trips.csv", x=[*values, None])
    assert read(path, {"x": "x"})["x"].to_list() == [*expected, None]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_a_large_file_comes_in_blocks_that_are_alike(tmp_path, suffix):
    ids = pl.Series(range(2 * BLOCK_ROWS + 1))
    frame = pl.DataFrame(
        {"id": ids, "zone": pl.Series(["7"]).extend_constant("7", len(ids) - 2).extend_constant("A", 1)}
    )
    path = tmp_path / f"trips.{suffix}"
    if suffix == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, compression="gzip" if suffix.endswith("gz") else "uncompressed")
    blocks = read_blocks(path, {"id": "id", "zone": "zone"})
    for _ in range(2):  # at every use from the beginning
        found = list(blocks)
        assert [block.height for block in found] == [BLOCK_ROWS, BLOCK_ROWS, 1]
        assert {tuple(block.schema.values()) for block in found} == {(pl.Int64, pl.String)}
    assert pl.concat(found)["id"].to_list() == ids.to_list()


def test_a_wrong_value_in_a_late_block_has_its_row(tmp_path):
    written(tmp_path / "a.csv", x=["1"] * 3)
    written(tmp_path / "b.csv", x=["1"] * (BLOCK_ROWS + 1) + ["T"])
    with pytest.raises(DataError, match=r"b\.csv: x must be a number, got 'T' in row 600,002; rows like it: 1"):
        read(tmp_path, {"x": {"column": "x", "kind": "number"}})


def test_small_files_become_one_block(tmp_path):
    for i in range(20):
        written(tmp_path / f"{i:02}.parquet", x=[i, None])
    (block,) = read_blocks(tmp_path, {"x": "x"})
    assert block["x"].drop_nulls().to_list() == list(range(20))


def test_a_file_without_a_column_is_named_before_anything_is_read(tmp_path):
    written(tmp_path / "a.parquet", x=[1])
    written(tmp_path / "b.parquet", y=[1])
    with pytest.raises(DataError, match=r"b\.parquet has no column 'x'"):
        load(tmp_path, {"x": "x"})


def test_a_duration_is_no_number(tmp_path):
    path = written(tmp_path / "a.parquet", x=[timedelta(seconds=3)])
    with pytest.raises(DataError, match=r"x must be a number, got Duration"):
        read(path, {"x_s": {"column": "x", "unit": "s"}})


@pytest.mark.parametrize("path", ["", "*.csv*", "day*"], ids=["folder", "glob", "beginning"])
def test_many_files_are_one_table_with_only_the_named_columns(tmp_path, path):
    written(tmp_path / "day1.csv", x=[1], y=["a"])
    (tmp_path / "day2.csv.gz").write_bytes(gzip.compress(b"z,x\n7,2.5\n"))
    (tmp_path / "_SUCCESS").write_text("")
    assert read(tmp_path / path, {"value": "x"}).to_dict(as_series=False) == {"value": [1.0, 2.5]}


def test_folder_names_can_be_columns(tmp_path):
    for month in (1, 2):
        written(tmp_path / f"month={month}" / "part.parquet", x=[month * 10])
    assert read(tmp_path, {"month": "month", "x": "x"}).rows() == [(1, 10), (2, 20)]


def test_conditions_are_read_the_same_way(tmp_path):
    written(tmp_path / "trips.csv", at=["2014-07-15 12:00"])
    written(tmp_path / "weather.csv", hour=["2014-07-15 12:00"], rain=[0.5])
    columns = {"observed_at": "hour", "known_at": {"column": "hour", "delay_s": 300}, "rain_mm_h": "rain"}
    conditions = {"weather": {"path": "weather.csv", "columns": columns, "timezone": "UTC"}}
    raw = load("trips.csv", {"requested_at": "at"}, conditions, NEW_YORK, folder=tmp_path)
    assert raw.table()["requested_at"].to_list() == [utc(2014, 7, 15, 16)]
    assert raw.conditions["weather"].rows() == [(utc(2014, 7, 15, 12), utc(2014, 7, 15, 12, 5), 0.5)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("trips.csv", "", "trips.csv cannot be read", id="no byte"),
        pytest.param("trips.csv", "at,x\n", "trips.csv has no rows", id="no row"),
        pytest.param("trips.parquet", "PAR1", "trips.parquet cannot be read", id="no Parquet"),
        pytest.param("trips.csv", "at,y\n1,2\n", "trips.csv has no column 'x'; there is: at, y", id="no column"),
        pytest.param("trips.csv", "att,x\n1,2\n", "no column 'at', did you mean 'att'", id="nearly the column"),
        pytest.param(
            "trips.csv",
            "at,x\n2014-07-15 12:00,1\n,2\n15/07/2014,3\n16/07/2014,4\n",
            "at must be a time like .* got '15/07/2014' in row 3; rows like it: 2",
            id="not a time",
        ),
        pytest.param("trips.txt", "at,x\n", "must be or match files ending in .*; there is trips.txt", id="end"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path, {"requested_at": "at", "x": "x"}, timezone=NEW_YORK)


def test_a_glob_without_files_is_told(tmp_path):
    with pytest.raises(DataError, match=r"trips-\*.csv must be or match files ending in .*; there is no file"):
        read(tmp_path / "trips-*.csv", {"x": "x"})


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(DataError, match=r"must be a folder, there is none at .*nowhere"):
        load("trips.csv", {"x": "x"}, folder=tmp_path / "nowhere")


def test_files_that_are_not_alike_are_named(tmp_path):
    written(tmp_path / "a.csv", x=[1])
    written(tmp_path / "b.csv", x=["one"])
    with pytest.raises(DataError, match=r"alike: x is text in .*b\.csv, a number in .*a\.csv; kind: text reads both"):
        read(tmp_path, {"x": "x"})
    assert read(tmp_path, {"x": {"column": "x", "kind": "text"}})["x"].to_list() == ["1", "one"]


def test_a_declared_kind_reads_files_that_are_not_alike(tmp_path):
    written(tmp_path / "a.parquet", x=[1], y=["1"])
    written(tmp_path / "b.parquet", x=["one"], y=[2.5])
    columns = {"x": {"column": "x", "kind": "text"}, "y": {"column": "y", "kind": "number"}}
    assert read(tmp_path, columns).rows() == [("1", 1.0), ("one", 2.5)]


def test_a_file_without_a_value_fits_any_other(tmp_path):
    written(tmp_path / "a.parquet", x=["one"])
    written(tmp_path / "b.parquet", x=pl.Series([None], dtype=pl.Float64))
    assert read(tmp_path, {"x": "x"})["x"].to_list() == ["one", None]


def test_a_number_with_a_mark_is_named(tmp_path):
    path = written(tmp_path / "a.csv", x=["1", "T"])
    with pytest.raises(DataError, match="x must be a number, got 'T' in row 2"):
        read(path, {"rain_mm_h": {"column": "x", "kind": "number"}})


@pytest.mark.parametrize(
    ("columns", "timezone", "message"),
    [
        pytest.param({"x": {"colum": "x"}}, None, "no entry 'colum', did you mean 'column'", id="entry"),
        pytest.param({"x": {"unit": "min"}}, None, "column x needs an entry 'column'", id="no column"),
        pytest.param(
            {"x": {"column": "x", "unit": "mins"}}, None, "unit cannot be 'mins', did you mean 'min'", id="unit"
        ),
        pytest.param({"x": {"column": "x", "delay_s": 3}}, None, "names end in _at", id="delay of no time"),
        pytest.param({"x": 3}, None, "must be a name in the table .* got 3", id="number"),
        pytest.param({"x_at": "x"}, None, "so say its unit: s, ms, us", id="number without unit"),
        pytest.param({"x_at": "wall"}, None, "is wall time, so give the timezone", id="wall time"),
        pytest.param({"x_at": "wall"}, "New York", "timezone must be a name such as", id="zone"),
    ],
)
def test_a_wrong_setting_says_what_exists(tmp_path, columns, timezone, message):
    path = written(tmp_path / "trips.parquet", x=[1], wall=[datetime(2014, 1, 1)])
    with pytest.raises(ConfigError, match=message):
        read(path, columns, timezone=timezone)


def test_the_template_prepares_a_table(tmp_path):
    settings = source_settings_of("my_table")
    asked = [datetime(2026, 1, 5) + timedelta(minutes=10 * i) for i in range(1_000)]
    written(
        tmp_path / "trips.csv",
        id=[f"r{i}" for i in range(1_000)],
        created=asked,
        arrived=[time + timedelta(minutes=5) for time in asked],
        lat=[40.7] * 1_000,
        lon=[-74.0] * 1_000,
        distance=[1.5] * 1_000,
        zone=["00501"] * 1_000,
    )
    written(tmp_path / "weather.csv", hour=asked[::6], rain=[0.5] * 167)
    load_settings = {k: v for k, v in settings["load"].items() if k != "_target_"}
    prepared = prepare(load(**load_settings | {"folder": tmp_path}), settings, tmp_path / "prepared")
    row = prepared.part("test").row(0, named=True)
    assert (row["pickup_time_s"], row["distance_m"], row["rain_mm_h"], row["pickup_zone"]) == (300, 1500, 0.5, "00501")
