"""A real PostgreSQL: one snapshot whatever is inserted, no row twice or lost after a cut, clear words for faults."""

import os
import socket
import subprocess
import sys
import traceback
from datetime import datetime, timedelta

import polars as pl
import pytest

from hailtime.config import CONFIGS
from hailtime.errors import ConfigError, DataError
from hailtime.preparation.dataset import prepare
from hailtime.preparation.prepared import load_prepared
from hailtime.sources.columns import TableColumns
from hailtime.sources.database import load, read_pages
from hailtime.sources.files import load as load_files
from hailtime.sources.queries import Query
from hailtime.sources.sql_database import PAGE_ROWS, postgresql
from tests.postgres.conftest import PASSWORD
from tests.test_config import source_settings_of

pytestmark = pytest.mark.postgres
COLUMNS = {
    "request_id": "id",
    "requested_at": "created",
    "wall_at": "wall",
    "wait_s": {"column": "wait", "unit": "min"},
    "exact": {"column": "wait", "kind": "text"},
    "zone": "Zone",
    "product": "product",
    "driver": "driver",
}
N_ROWS = 200_000
MAKE = f"""
DROP TABLE IF EXISTS rides;
DROP TYPE IF EXISTS product;
CREATE TYPE product AS ENUM ('standard', 'xl');
CREATE TABLE rides (id bigint PRIMARY KEY, created timestamptz, wall timestamp, wait numeric(10, 2), "Zone" text,
                    product product, driver uuid);
INSERT INTO rides SELECT i, timestamptz '2026-07-01 12:00:00Z' + i * interval '1 second',
    timestamp '2026-07-01 08:00' + i * interval '1 second', CASE WHEN i % 3 > 0 THEN 2.50 END, 'zone ' || i % 7,
    CASE WHEN i % 2 = 0 THEN 'xl'::product END, '00000000-0000-0000-0000-000000000007'
FROM generate_series(1, {N_ROWS}) i;
"""


@pytest.fixture
def rides(server):
    server.ask(MAKE)
    return server


def reading(server, password, **settings):
    settings = {
        "trips": "rides",
        "columns": COLUMNS,
        "timezone": "America/New_York",
        "password_env": password,
    } | settings
    return load(server.url, **settings)


def pages_of(server, password, order_by=("id",), columns=COLUMNS):
    """What blocks are made of, so that something can happen between two pages."""
    read = TableColumns.read(columns, "America/New_York")
    return read_pages(postgresql(server.url, os.environ[password]), Query.of("trips", "rides", read, order_by), read)


def test_every_type_arrives_as_the_package_keeps_it(rides, password):
    rows = reading(rides, password).table().sort("request_id")
    asked_us = 1_782_907_201_000_000  # date -u -d '2026-07-01 12:00:01' +%s
    driver = "00000000-0000-0000-0000-000000000007"
    assert rows.row(0) == (1, asked_us, asked_us, 150.0, "2.50", "zone 1", None, driver)
    assert rows.row(2)[3:7] == (None, None, "zone 3", None)
    assert rows.row(1)[6] == "xl"


@pytest.mark.parametrize(
    "trips", ["public.rides", """SELECT * FROM rides WHERE "Zone" LIKE 'zone%' AND id::text <> ':x';""", "seen"]
)
def test_schemas_selects_and_views_can_be_read(rides, password, trips):
    rides.ask("CREATE MATERIALIZED VIEW seen AS SELECT * FROM rides")
    assert reading(rides, password, trips=trips).table().height == N_ROWS
    rides.ask("DROP MATERIALIZED VIEW seen")


def test_rows_inserted_while_reading_are_not_seen(rides, password):
    pages = pages_of(rides, password, ("id",))
    found = [next(pages)]
    rides.ask("INSERT INTO rides (id) SELECT i FROM generate_series(-5, 0) i UNION ALL SELECT 1e9::bigint")
    rides.ask("DELETE FROM rides WHERE id % 1000 = 0")
    assert sorted(pl.concat([*found, *pages], how="vertical_relaxed")["request_id"]) == list(range(1, N_ROWS + 1))


@pytest.mark.parametrize(
    "order_by",
    [("id",), ("created",), ("Zone", "id"), ("product", "id"), ("driver", "id"), ("Zone",)],
    ids=["number", "time", "text", "enum", "uuid", "not unique"],
)
def test_after_a_cut_no_row_is_twice_and_none_lost(rides, password, caplog, order_by):
    rides.ask("UPDATE rides SET product = 'standard' WHERE product IS NULL")
    found = []
    for page in pages_of(rides, password, order_by):
        found.append(page)
        if len(found) in (1, 2):
            rides.cut()
    assert sorted(pl.concat(found)["request_id"]) == list(range(1, N_ROWS + 1))
    assert [record.getMessage().startswith("reading table rides was cut") for record in caplog.records] == [True] * 2


def test_after_a_cut_a_missing_key_is_told_and_not_lost(rides, password):
    pages = pages_of(rides, password, ("wait",))
    rides.ask("UPDATE rides SET wait = id WHERE wait IS NOT NULL")
    next(pages)
    rides.cut()
    with pytest.raises(DataError, match="order_by needs columns without a missing value, wait of table rides has one"):
        list(pages)


def test_the_server_gone_for_good_is_told_after_half_a_minute_of_tries(rides, password, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    pages = pages_of(rides, password)
    next(pages)
    rides.ask("ALTER ROLE reader NOLOGIN")  # the owner's connection stays
    rides.cut()
    try:
        with pytest.raises(DataError, match=r"table rides cannot be read from .*: .*not permitted to log in"):
            list(pages)
    finally:
        rides.ask("ALTER ROLE reader LOGIN")
    assert sum(waited) == 31.5


def test_a_column_whose_type_changed_is_told(rides, password):
    rides.ask("ALTER TABLE rides ALTER wait TYPE text")
    rides.ask("UPDATE rides SET wait = 'soon' WHERE id = 3")
    with pytest.raises(DataError, match="table rides: wait must be a number, got 'soon' in row 3; rows like it: 1"):
        reading(rides, password).table()


def test_a_type_that_changes_during_a_reading_is_told(rides, password):
    pages = pages_of(rides, password, columns={"request_id": "id", "wait": "wait"})
    next(pages)
    rides.cut()
    rides.ask("ALTER TABLE rides ALTER wait TYPE text")
    with pytest.raises(
        DataError, match=r"wait is text in table rides, rows from [\d,]+ on, a number in table rides, rows"
    ):
        list(pages)


def test_a_time_without_a_zone_needs_one(rides, password):
    rides.ask("ALTER TABLE rides ALTER created TYPE timestamp")
    with pytest.raises(ConfigError, match="table rides: created is wall time, so give the timezone it is in"):
        reading(rides, password, timezone=None).table()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"trips": "ride"}, "has no table ride, did you mean 'rides'", id="table"),
        pytest.param({"trips": "city.rides"}, "has no table city.rides", id="schema"),
        pytest.param(
            {"columns": {"request_id": "idd"}}, "table rides has no column 'idd', did you mean 'id'", id="column"
        ),
        pytest.param(
            {"trips": "SELECT id FROM rides WHERE"}, "the SELECT of trips cannot be read .*syntax", id="SELECT"
        ),
        pytest.param({"trips": "SELECT * FROM rides LIMIT 0"}, "the SELECT of trips has no rows", id="empty"),
        pytest.param({"password_env": None}, "no password supplied", id="no password"),
    ],
)
def test_what_is_not_there_is_named(rides, password, monkeypatch, settings, message):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    with pytest.raises(DataError, match=message):
        reading(rides, password, **settings).table()


def test_a_wrong_password_is_told_and_not_repeated(rides, monkeypatch):
    monkeypatch.setenv("WRONG", "wr0ng-one")
    with pytest.raises(DataError, match='password authentication failed for user "reader"') as told:
        reading(rides, "WRONG")
    assert "wr0ng-one" not in "".join(traceback.format_exception(told.value))


def test_a_server_that_is_not_there_is_told(server, password):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"postgresql://reader@127.0.0.1:{free.getsockname()[1]}/postgres"
        with pytest.raises(DataError, match=r"table rides cannot be read from postgresql://.*: .*Connection refused"):
            load(url, "rides", COLUMNS, password_env=password)


def test_memory_holds_a_page_and_not_the_table(server, password):
    server.ask(f"DROP TABLE IF EXISTS wide; CREATE TABLE wide AS SELECT id, repeat('x', 2000) AS x "
               f"FROM generate_series(1, {N_ROWS}) id")  # fmt: skip
    code = f"""
import os, resource
from hailtime.sources.columns import TableColumns
from hailtime.sources.database import read_pages
from hailtime.sources.queries import Query
from hailtime.sources.sql_database import postgresql
columns = TableColumns.read({{"request_id": "id", "x": "x"}})
database, query = postgresql({server.url!r}, os.environ[{password!r}]), Query.of("trips", "wide", columns, ("id",))
database.columns(query)
before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
heights = [page.height for page in read_pages(database, query, columns)]
print(sum(heights), max(heights), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) // 1000)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    n_rows, largest, grown_mb = map(int, said.split())
    assert (n_rows, largest <= PAGE_ROWS) == (N_ROWS, True)
    assert grown_mb < 300  # the table's text is 400 MB; a page's is 100 MB, twice while it becomes a frame


def city():
    """Rides and weather as the template has them, with what is hard to keep equal: gaps, decimals, odd texts."""
    asked = [datetime(2026, 1, 5) + timedelta(minutes=10 * i) for i in range(1_000)]
    rides = pl.DataFrame({"id": range(1_000), "created": asked, "lat": [40.7, None] * 500}).with_columns(
        arrived=pl.col("created") + pl.duration(seconds=300 + pl.col("id") % 97),
        lon=-74.0,
        distance=pl.col("id") % 13 + 0.1,
        zone=pl.when(pl.col("id") % 5 > 0).then(pl.format("Zürich {} 'x'", pl.col("id") % 4)),
    )
    return rides, pl.DataFrame({"hour": asked[::6], "rain": [0.25] * 167})


def fill(server, rides, weather):
    server.ask("DROP TABLE IF EXISTS rides, weather; CREATE TABLE weather (hour timestamp, rain numeric)")
    server.ask("""CREATE TABLE rides (id int PRIMARY KEY, created timestamptz, arrived timestamptz, lat float8,
        lon float8, distance numeric(5, 2), zone text)""")
    with server.owner.cursor() as cursor:
        cursor.execute("SET timezone = 'America/New_York'")  # of the times below: wall time
        named = rides.select("id", "created", "arrived", "lat", "lon", "distance", "zone")
        cursor.executemany("INSERT INTO rides VALUES (%s, %s, %s, %s, %s, %s, %s)", named.rows())
        cursor.executemany("INSERT INTO weather VALUES (%s, %s)", weather.rows())


def test_the_script_prepares_the_same_data_as_from_parquet(server, password, tmp_path):
    rides, weather = city()
    fill(server, rides, weather)
    command = [
        sys.executable,
        CONFIGS.parent / "scripts" / "prepare.py",
        "source=my_database",
        "prepared=from_database",
    ]
    settings = [f"source.load.url={server.url}", f"source.load.password_env={password}"]
    said = subprocess.run([*command, *settings], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    found = load_prepared(tmp_path / "from_database")

    rides.write_parquet(tmp_path / "rides.parquet")
    weather.write_parquet(tmp_path / "weather.parquet")
    settings = source_settings_of("my_database")
    own = settings["load"]
    conditions = {"weather": {"path": "weather.parquet", "columns": own["conditions"]["weather"]["columns"]}}
    raw = load_files("rides.parquet", own["columns"], conditions, own["timezone"], tmp_path)
    assert prepare(raw, settings, tmp_path / "from_files").fingerprint == found.fingerprint
    assert found.report["conditions"]["weather"] > 0.99
    for text in (said.stdout, said.stderr, (tmp_path / "from_database" / "report.json").read_text()):
        assert PASSWORD not in text
