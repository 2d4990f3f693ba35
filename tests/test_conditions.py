"""Conditions at serving time: history replayed row by row gives exactly the columns that preparation joined."""

import logging
import threading
import time
from copy import deepcopy
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
import yaml
from omegaconf import OmegaConf

from hailtime.conditions import Conditions
from hailtime.config import CONFIGS
from hailtime.errors import ConfigError, DataError, RequestError, SchemaError
from hailtime.preparation.clean import clean
from hailtime.preparation.dataset import prepare
from hailtime.preparation.join import join_conditions
from hailtime.schema import Schema
from hailtime.sources import RawData
from hailtime.sources.simulated_city import load
from tests.joining import MINUTE, T0, at, schema_of, table, trips
from tests.test_join_settings import SCHEMA, SETTINGS, all_tables
from tests.test_join_trailing import DEMAND, DEMAND_SETTINGS

CITY = yaml.safe_load((CONFIGS / "source" / "simulated_city.yaml").read_text())
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEW_ENTRIES = {
    "incidents_near": {
        "join": "nearby",
        "table": "incident_reports",
        "id": "event_id",
        "place": ["lat", "lon"],
        "at": ["pickup_lat", "pickup_lon"],
        "radius_m": 4000,
        "freshness_h": 12,
        "columns": {"incidents_within_4_km": "count", "nearest_incident_m": "distance"},
    },
    "supply": {
        "join": "trailing",
        "table": "driver_supply",
        "key": "pickup_zone",
        "window_min": 15,
        "columns": {"mean_idle_drivers": {"mean": "idle_drivers"}},
    },
    "recent_pickups": {
        "join": "trailing",
        "table": "trips",
        "key": "pickup_zone",
        "window_min": 60,
        "columns": {"recent_requests": {"count": "requested_at"}, "recent_pickup_time_s": {"mean": "pickup_time_s"}},
    },
}


def city_with_all_kinds():
    """The city's settings and tables with the three new entries beside weather, traffic and incidents."""
    settings = deepcopy(CITY)
    settings["conditions"] |= NEW_ENTRIES
    for entry, rest in NEW_ENTRIES.items():
        for column in rest["columns"]:
            settings["schema"]["columns"][column] = {"role": "numeric", "unit": "1", "condition": entry}
    raw = load(n_requests=1500, days=1, dirt=0)
    trips = raw.table()
    first, last = trips["requested_at"].min(), trips["requested_at"].max()
    names = trips["pickup_zone"].unique().sort().to_list()
    return settings, trips, {**raw.conditions, **made_tables(np.random.default_rng(3), first, last, names)}


def made_tables(rng, first, last, zones):
    began = rng.integers(first - 600 * MINUTE, last, 300)
    ends = pl.Series(began + rng.integers(10, 300, 300) * MINUTE).set(pl.Series(rng.random(300) < 0.3), None)
    reports = pl.DataFrame(
        {
            "event_id": [f"e{i % 200}" for i in range(300)],  # every other one corrects another
            "lat": rng.uniform(43.5, 43.7, 300),
            "lon": rng.uniform(-71.1, -70.8, 300),
            "observed_at": began,
            "ends_at": ends,
            "known_at": began + rng.integers(-20, 60, 300) * MINUTE,
        }
    )
    seen = rng.integers(first - 30 * MINUTE, last, 4000)
    supply = pl.DataFrame(
        {
            "pickup_zone": rng.choice(zones, 4000),
            "observed_at": seen,
            "known_at": seen + rng.integers(0, 4, 4000) * MINUTE,
            "idle_drivers": rng.integers(0, 30, 4000).astype(float),
        }
    )
    return {"incident_reports": reports, "driver_supply": supply}


@pytest.fixture(scope="module")
def city():
    """Schema, conditions, tables, and the trips joined offline, in time order."""
    settings, trips, tables = city_with_all_kinds()
    schema = Schema.from_dict(settings["schema"])
    trips, _ = clean(trips, schema, {}, [])
    joined = join_conditions(trips, tables, schema, settings["conditions"]).sort("requested_at")
    return schema, settings["conditions"], tables, joined


def replay(conditions, schema, rows, before=lambda place, now: None):
    """Requests in time order, each asked for before it is reported; pickups are reported when they are over."""
    names = [column.name for column in schema.columns if column.condition is not None]
    under_way, got = [], []
    for place, row in enumerate(rows):
        now = row["requested_at"]
        for trip in [trip for trip in under_way if trip[0] <= now]:
            conditions.report_arrival(*trip[1:])
            under_way.remove(trip)
        before(place, now)
        request = {name: value for name, value in row.items() if name not in (*names, "pickup_time_s")}
        request["requested_at"] = EPOCH + timedelta(microseconds=now)
        answer = conditions.add_to(request)
        got.append({name: answer[name] for name in names})
        conditions.report_request(request)
        under_way.append((now + round(row["pickup_time_s"] * 1e6), row["request_id"], row["pickup_time_s"]))
    return got, [{name: row[name] for name in names} for row in rows]


class Clock:
    def __init__(self, now_us=0):
        self.now_us = now_us

    def __call__(self):
        return self.now_us / 1e6


@pytest.mark.slow
def test_day_replayed_while_the_tables_grow_gives_exactly_the_offline_columns(city):
    """Read anew for every 75th request, for which a table holds what was known by then and not long over."""
    schema, settings, tables, joined = city
    clock, rows = Clock(), joined.to_dicts()

    def known_by_now(since_us):
        is_known = pl.col("known_at") <= clock.now_us
        is_needed = (pl.col("observed_at") >= since_us) | (pl.col("known_at") >= since_us)
        return {
            name: rows.filter(is_known if name == "incident_reports" else is_known & is_needed)
            for name, rows in tables.items()
        }

    def read(place, now):
        clock.now_us = now
        assert place % 75 or conditions.refresh()

    clock.now_us = rows[0]["requested_at"]
    conditions = Conditions(schema, settings, known_by_now, clock=clock)
    got, expected = replay(conditions, schema, rows, read)
    assert got[::75] == expected[::75]
    assert len(got[::75]) == 20


def test_all_requests_of_a_day_get_exactly_the_offline_columns(city):
    """From tables that hold the whole day and are read once, for which everything stays fresh for longer."""
    schema, settings, tables, joined = city
    day = {"freshness_h": 30, "window_min": 1800}
    long = {name: {key: day.get(key, value) for key, value in entry.items()} for name, entry in settings.items()}
    trips = joined.drop([column.name for column in schema.columns if column.condition is not None])
    rows = join_conditions(trips, tables, schema, long).to_dicts()
    conditions = Conditions(schema, long, lambda since_us: tables, clock=Clock(rows[0]["requested_at"]))
    got, expected = replay(conditions, schema, rows)
    assert got == expected


REQUEST = {"request_id": "r", "lat": 43.6, "lon": -70.0, "zone": "north"}
WEATHER = schema_of(rain="weather")
WEATHER_SETTINGS = {"weather": {"key": None, "freshness_h": 3}}


def request(minute, **values):
    return {**REQUEST, "requested_at": at(minute) / 1e6, **values}


class Feed:
    """Tables that can fail, and how often they were read."""

    def __init__(self, tables):
        self.tables, self.fails, self.reads = tables, False, 0

    def __call__(self, since_us):
        self.reads += 1
        if self.fails:
            raise ConnectionError("the database is away")
        return self.tables


@pytest.fixture
def town():
    """Conditions of the town with every kind of join at 12:06, their feed and their clock."""
    clock, feed = Clock(at(6)), Feed(all_tables())
    return Conditions(SCHEMA, SETTINGS, feed, clock=clock), feed, clock


def test_request_keeps_its_columns_and_gets_those_joined(town):
    got = town[0].add_to(request(6))
    assert got.items() >= request(6).items()
    assert (got["rain"], got["speed"]) == (0.5, 8)
    assert (got["incidents"], got["nearest_m"]) == (1, pytest.approx(500, abs=0.1))
    assert [got[name] for name in ("mean_idle", "reports", "requests", "mean_s")] == [8, 1, 0, None]


@pytest.mark.parametrize(
    "time", [at(6) / 1e6, at(6) // 1_000_000, "2026-01-12T13:06:00+01:00", EPOCH + timedelta(microseconds=at(6))]
)
def test_time_of_a_request_is_read_as_the_client_reads_it(town, time):
    assert town[0].add_to({**REQUEST, "requested_at": time})["rain"] == 0.5


def test_unknown_place_and_zone_are_missing(town):
    got = town[0].add_to(request(6, lat=None, zone=""))
    assert [got[name] for name in ("incidents", "nearest_m", "speed", "reports", "requests")] == [None] * 5
    assert got["rain"] == 0.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"zone": 1.5}, "zone must be text or an int, or None for missing, got 1.5"),
        ({"lat": "north"}, "lat must be a number, or None for missing, got 'north'"),
        ({"requested_at": "noon"}, "requested_at must be an aware datetime, .* got 'noon'"),
        ({"requested_at": None}, "requested_at must be an aware datetime, .* got None"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_value_that_cannot_be_read_is_told(town, wrong, message):
    with pytest.raises(RequestError, match=message):
        town[0].add_to(request(6, **wrong))


def test_request_without_a_column_of_a_join_is_told(town):
    without = {("zones" if name == "zone" else name): value for name, value in request(6).items()}
    with pytest.raises(RequestError, match="a request needs 'zone' for its conditions, did you mean 'zones'"):
        town[0].add_to(without)


def test_reading_that_fails_keeps_the_last_and_values_go_missing_as_they_get_stale(town, caplog):
    conditions, feed, clock = town
    feed.fails = True
    for minute in (16, 40, 187):
        clock.now_us = at(minute)
        assert not conditions.refresh()
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert [conditions.add_to(request(minute))["speed"] for minute in (16, 120, 121)] == [8, 8, None]
    assert [conditions.add_to(request(minute))["reports"] for minute in (16, 21, 22)] == [
        0,
        0,
        None,
    ]  # 15 min, read at 6
    assert [conditions.add_to(request(minute))["incidents"] for minute in (16, 186, 187)] == [1, 1, None]


def test_reading_that_works_again_is_used_and_told(town, caplog):
    conditions, feed, clock = town
    caplog.set_level(logging.INFO)
    feed.fails = True
    conditions.refresh()
    feed.fails = False
    clock.now_us = at(62)
    assert conditions.refresh()
    assert conditions.add_to(request(62))["rain"] == 1.5
    assert "conditions can be read again" in caplog.text


def test_backend_starts_while_the_tables_cannot_be_read(caplog):
    feed = Feed({})
    feed.fails = True
    conditions = Conditions(WEATHER, WEATHER_SETTINGS, feed, clock=Clock(at(6)))
    assert conditions.add_to(request(6))["rain"] is None
    assert conditions.freshness()["weather"].is_stale
    assert "the database is away" in caplog.text


def test_table_that_does_not_fit_is_told_at_once():
    with pytest.raises(SchemaError, match="rows of weather have no column 'rain'"):
        Conditions(WEATHER, WEATHER_SETTINGS, lambda since_us: {"weather": table({})}, clock=Clock(at(6)))


def test_freshness_says_how_old_the_newest_row_is():
    rows = {"weather": table({"rain": pl.Float64}, (0, 1, 0.5), (60, 61, 1.5))}
    conditions = Conditions(WEATHER, WEATHER_SETTINGS, lambda since_us: rows, clock=Clock(at(70)))
    fresh, stale = conditions.freshness()["weather"], conditions.freshness(now_s=at(241) / 1e6)["weather"]
    assert (fresh.observed_at, fresh.known_at, fresh.age_s, fresh.is_stale) == (at(60), at(61), 600, False)
    assert (stale.age_s, stale.is_stale) == (181 * 60, True)


def test_rows_are_asked_for_as_far_back_as_anything_reaches():
    asked_since = []
    Conditions(
        WEATHER, WEATHER_SETTINGS, lambda since_us: asked_since.append(since_us) or all_tables(), clock=Clock(T0)
    )
    assert asked_since == [at(-190)]  # three hours of freshness, and ten minutes for late requests


def test_thread_reads_again_until_it_is_closed():
    feed = Feed(all_tables())
    with Conditions(WEATHER, WEATHER_SETTINGS, feed, refresh_s=0.01, clock=Clock(at(6))):
        deadline = time.monotonic() + 10
        while feed.reads < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    reads = feed.reads
    assert reads >= 3
    assert not any(thread.name == "hailtime-conditions" for thread in threading.enumerate())


def demand(clock, read_tables=None):
    return Conditions(DEMAND, DEMAND_SETTINGS, read_tables, clock=clock)


def test_reported_requests_and_pickups_are_counted_once():
    conditions = demand(Clock(at(0)))
    for _ in range(2):
        conditions.report_request(request(0))
        conditions.report_arrival("r", 240.0)
    got = [conditions.add_to(request(minute)) for minute in (0, 3.9, 4, 30, 34)]
    assert [(row["requests"], row["pickups"], row["mean_s"]) for row in got] == [
        (0, 0, None),
        (1, 0, None),
        (1, 1, 240),
        (0, 1, 240),
        (0, 0, None),
    ]


def test_pickup_of_an_unknown_request_is_told():
    with pytest.raises(RequestError, match="a pickup needs its request reported before, 'r9' was not"):
        demand(Clock(at(0))).report_arrival("r9", 240.0)


def test_trips_of_other_processes_come_from_their_log():
    log_of_trips = trips(
        {"minute": 0, "zone": "north", "pickup_time_s": 120.0}, {"minute": 1, "zone": "north"}, {"minute": 1}
    )
    conditions = demand(Clock(at(5)), lambda since_us: {"trips": log_of_trips})
    conditions.report_request(request(1, request_id="r001"))  # in the log already
    conditions.refresh()
    got = conditions.add_to(request(5))
    assert (got["requests"], got["pickups"], got["mean_s"]) == (2, 1, 120)


def test_old_trips_are_forgotten():
    clock = Clock()
    conditions = demand(clock)
    for number in range(2000):  # one a minute, every third is never picked up
        clock.now_us = at(number)
        conditions.report_request(request(number, request_id=f"r{number}"))
        if number % 3:
            conditions.report_arrival(f"r{number}", 300.0)
        if number % 100 == 99:
            conditions.refresh()
    assert len(conditions._trips) < 250  # 6 hours of open ones: 120 and half an hour and more of the others
    assert conditions.add_to(request(2000))["requests"] == 29


def test_threads_may_report_and_ask_at_once():
    conditions = demand(Clock(at(0)))

    def work(first):
        for number in range(first, first + 200):
            conditions.report_request(request(number / 1000, request_id=f"r{number}"))
            conditions.report_arrival(f"r{number}", 60.0)
            conditions.add_to(request(10))

    threads = [threading.Thread(target=work, args=(200 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = conditions.add_to(request(10))
    assert (got["requests"], got["pickups"], got["mean_s"]) == (800, 800, 60)


@pytest.mark.slow
def test_prepared_folder_and_run_say_what_to_join_and_engines_prepare_the_same(tmp_path):
    settings, all_trips, tables = city_with_all_kinds()
    raw, settings["split"]["gap_s"] = RawData(all_trips, tables), 600
    prepared = prepare(raw, settings, tmp_path / "prepared")
    assert prepare(raw, settings, tmp_path / "pandas", "pandas").fingerprint == prepared.fingerprint
    (tmp_path / "run").mkdir()
    OmegaConf.save(
        OmegaConf.create({"source": prepared.report["settings"], "seed": 1}),
        tmp_path / "run" / "config.yaml",
        resolve=True,
    )
    row = prepared.part("train").row(0, named=True)
    asked = {**row, "requested_at": EPOCH + timedelta(microseconds=row["requested_at"])}
    for folder in ("prepared", "run"):
        clock = Clock(row["requested_at"])
        conditions = Conditions.of_folder(tmp_path / folder, lambda since_us: tables, clock=clock)
        got = conditions.add_to(asked)
        assert [got[name] for name in ("traffic_speed_ratio", "incidents_within_4_km", "mean_idle_drivers")] == [
            row[name] for name in ("traffic_speed_ratio", "incidents_within_4_km", "mean_idle_drivers")
        ]
    with pytest.raises(DataError, match=r"a prepared folder's report.json or a run's config.yaml, .* has none"):
        Conditions.of_folder(tmp_path, None)


def test_conditions_without_a_way_to_their_tables_are_told():
    with pytest.raises(ConfigError, match="conditions need read_tables to give weather, got None"):
        Conditions(WEATHER, WEATHER_SETTINGS, None)
    with pytest.raises(ConfigError, match="refresh_s must be seconds above 0, got 0"):
        Conditions(WEATHER, WEATHER_SETTINGS, lambda since_us: {}, refresh_s=0)
