"""SQLite and DuckDB files, and what is refused before any server is asked; PostgreSQL itself is in tests/postgres."""

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pytest

from hailtime.errors import ConfigError, DataError
from hailtime.preparation.dataset import prepare
from hailtime.sources import BLOCK_ROWS
from hailtime.sources.database import load
from hailtime.sources.sql_database import PAGE_ROWS
from tests.test_config import source_settings_of

FIRST = datetime(2026, 1, 5, 12)
FIRST_US = int(FIRST.replace(tzinfo=UTC).timestamp() * 1_000_000)
COLUMNS = {"request_id": "id", "requested_at": "created", "wait_s": {"column": "wait", "unit": "min"}, "zone": "zone"}
ROWS = [(1, "2026-01-05 12:00:00", 2.5, "a"), (2, "2026-01-05 12:00:10", None, None)]


def sqlite_url(folder, rows=ROWS, types="id INTEGER, created TEXT, wait NUMERIC, zone TEXT"):
    with sqlite3.connect(folder / "city.db") as connection:
        connection.execute(f"CREATE TABLE rides ({types})")
        connection.executemany("INSERT INTO rides VALUES (?, ?, ?, ?)", rows)
    connection.close()
    return f"sqlite:///{folder / 'city.db'}"


def duckdb_url(folder, rows=ROWS, types="id BIGINT, created TIMESTAMP, wait DECIMAL(9, 2), zone VARCHAR"):
    with duckdb.connect(str(folder / "city.duckdb")) as connection:
        connection.execute(f"CREATE TABLE rides ({types})")
        for row in rows:
            connection.execute("INSERT INTO rides VALUES (?, ?, ?, ?)", row)
    return f"duckdb:///{folder / 'city.duckdb'}"


@pytest.fixture(params=[sqlite_url, duckdb_url], ids=["sqlite", "duckdb"])
def url_of(request):
    return request.param


@pytest.mark.parametrize(
    "trips", ["rides", "main.rides", "SELECT *, 'a:b' AS other FROM rides WHERE zone LIKE '%' OR 1;"]
)
def test_a_table_or_select_is_read_like_a_file(tmp_path, url_of, trips):
    trips = trips.replace("OR 1", "OR TRUE")
    rows = load(url_of(tmp_path), trips, COLUMNS, timezone="UTC").table().rows()
    assert sorted(rows) == [(1, FIRST_US, 150.0, "a"), (2, FIRST_US + 10_000_000, None, None)]


def test_conditions_are_read_the_same_way(tmp_path, url_of):
    columns = {"observed_at": "created", "known_at": {"column": "created", "delay_s": 300}, "rain_mm_h": "wait"}
    raw = load(url_of(tmp_path), "rides", COLUMNS, {"weather": {"table": "rides", "columns": columns}}, "UTC")
    assert raw.conditions["weather"].sort("observed_at").row(0) == (FIRST_US, FIRST_US + 300_000_000, 2.5)


def test_a_large_table_comes_in_blocks_at_every_use(tmp_path):
    with duckdb.connect(str(tmp_path / "city.duckdb")) as connection:
        connection.execute(f"CREATE TABLE rides AS SELECT range AS id FROM range({BLOCK_ROWS + 1})")
    raw = load(f"duckdb:///{tmp_path / 'city.duckdb'}", "rides", {"request_id": "id"})
    for _ in range(2):
        blocks = list(raw.blocks())
        assert 1 < len(blocks) < 4
        assert max(block.height for block in blocks) <= BLOCK_ROWS
        assert pl.concat(blocks)["request_id"].sort().to_list() == list(range(BLOCK_ROWS + 1))


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [1, PAGE_ROWS, PAGE_ROWS + 1])
def test_rows_with_equal_keys_are_all_there(tmp_path, n_rows):
    url = sqlite_url(tmp_path, ((i, "", i, "a" if i < 10 else "b") for i in range(n_rows)))
    found = load(url, "rides", {"request_id": "id", "zone": "zone"}, order_by=["zone"]).table()
    assert sorted(found["request_id"]) == list(range(n_rows))


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        pytest.param({"x": "wat"}, {}, "table rides has no column 'wat', did you mean 'wait'", id="column"),
        pytest.param({"x": "wait"}, {"trips": "ride"}, r"has no table ride, did you mean '.*rides'", id="table"),
        pytest.param({}, {"trips": "SELECT id FORM rides"}, "the SELECT of trips.* cannot be read", id="sql"),
        pytest.param({}, {"trips": "SELECT * FROM rides WHERE id < 0"}, "the SELECT of trips has no rows", id="empty"),
        pytest.param({"x": {"column": "zone", "kind": "number"}}, {}, "must be a number, got 'a' in row 1", id="text"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, url_of, columns, settings, message):
    with pytest.raises(DataError, match=message):
        load(url_of(tmp_path), **{"trips": "rides", "columns": {"request_id": "id"} | columns} | settings).table()


@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
def test_a_missing_or_wrong_file_is_told(tmp_path, scheme):
    with pytest.raises(DataError, match=rf"{scheme}:/// must name a file, there is none at .*nowhere"):
        load(f"{scheme}:///{tmp_path}/nowhere", "rides", COLUMNS)
    (tmp_path / "text").write_text("a,b\n" * 1_000)
    with pytest.raises(DataError, match="cannot be read"):
        load(f"{scheme}:///{tmp_path}/text", "rides", COLUMNS)


def test_a_file_is_never_written_to(tmp_path, url_of):
    url = url_of(tmp_path)
    with pytest.raises(DataError, match=r"the SELECT of trips|cannot be read"):
        load(url, "WITH x AS (SELECT 1) INSERT INTO rides SELECT * FROM rides", COLUMNS)
    assert load(url, "rides", COLUMNS, timezone="UTC").table().height == 2


def test_numbers_and_texts_in_one_sqlite_column_are_told_or_read_as_text(tmp_path):
    url = sqlite_url(tmp_path, [(1, "", 2.5, "a"), (2, "", "T", "a"), (3, "", 1, "a")])
    with pytest.raises(DataError, match="table rides: wait must be all numbers, texts or times, got float, str"):
        load(url, "rides", {"request_id": "id", "x": "wait"}).table()
    texts = load(url, "rides", {"request_id": "id", "x": {"column": "wait", "kind": "text"}}).table()["x"]
    assert texts.to_list() == ["2.5", "T", "1"]


def test_a_missing_key_is_told(tmp_path):
    with pytest.raises(DataError, match="order_by needs columns without a missing value, zone of table rides has one"):
        load(sqlite_url(tmp_path), "rides", COLUMNS, timezone="UTC", order_by="zone").table()


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("postgresql://ann:s3cret@localhost/city", id="user"),
        pytest.param("postgresql://ann:s3#cret@localhost/city", id="odd sign"),
        pytest.param("postgresql://ann@localhost/city?password=s3cret", id="query"),
        pytest.param("postgresql://ann:s3cret@localhost:port/city", id="port"),
        pytest.param("mysql://ann:s3cret@localhost/city", id="other database"),
        pytest.param("ann:s3cret@localhost/city", id="no url"),
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigError, match="url must") as told:
        load(url, "rides", COLUMNS)
    assert "cret" not in str(told.value)


def test_a_password_in_place_of_its_variable_is_not_repeated():
    with pytest.raises(ConfigError, match="password_env must be the name") as told:
        load("postgresql://ann@localhost/city", "rides", COLUMNS, password_env="s3cret")
    assert "cret" not in str(told.value)


@pytest.mark.parametrize(
    ("package", "scheme", "extra"),
    [("sqlalchemy", "sqlite", "postgres"), ("psycopg", "postgresql", "postgres"), ("duckdb", "duckdb", "duckdb")],
)
def test_a_missing_package_says_what_to_install(tmp_path, package, scheme, extra):
    (tmp_path / "x.db").write_text("")
    code = (
        f"import sys; sys.modules[{package!r}] = None\nfrom hailtime.sources.database import load\n"
        f"load({f'{scheme}:///{tmp_path}/x.db'!r}, 'rides', {{'request_id': 'id'}})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    told = said.splitlines()[-1]
    assert "ConfigError: reading" in told
    assert package in told
    assert f"pip install 'hailtime[{extra}]'" in told


def test_the_template_prepares_a_database(tmp_path):
    settings = source_settings_of("my_database")
    path = write_city(tmp_path)
    load_settings = {k: v for k, v in settings["load"].items() if k != "_target_"}
    prepared = prepare(load(**load_settings | {"url": f"duckdb:///{path}"}), settings, tmp_path / "prepared")
    row = prepared.part("test").row(0, named=True)
    assert (row["pickup_time_s"], row["distance_m"], row["rain_mm_h"], row["pickup_zone"]) == (300, 1500, 0.5, "501")


def write_city(folder):
    """A DuckDB file as the template has it: 1,000 rides and their weather."""
    asked = [FIRST + timedelta(minutes=10 * i) for i in range(1_000)]
    arrived = [time + timedelta(minutes=5) for time in asked]
    rides = pl.DataFrame(
        {"id": range(1_000), "created": asked, "arrived": arrived, "zone": [501] * 1_000}
    ).with_columns(lat=40.7, lon=-74.0, distance=1.5)
    weather = pl.DataFrame({"hour": asked[::6], "rain": [0.5] * 167})
    with duckdb.connect(str(folder / "city.duckdb")) as connection:
        connection.register("frame", rides.to_arrow())
        connection.execute("CREATE TABLE rides AS FROM frame")
        connection.register("frame", weather.to_arrow())
        connection.execute("CREATE TABLE weather AS FROM frame")
    return folder / "city.duckdb"
