"""What a source's yaml says of its joins: all of it is checked before data loads, and one preparation may mix kinds."""

from itertools import pairwise

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hailtime.errors import ConfigError, DataError, SchemaError
from hailtime.preparation.join import ConditionJoin, join_conditions, keys_of, tables_of
from hailtime.schema import Schema
from tests.conftest import ENGINES
from tests.joining import OWN, at, joined, schema_of, table, trips
from tests.test_join_nearby import SETTINGS as NEARBY
from tests.test_join_nearby import incidents
from tests.test_join_trailing import DEMAND_SETTINGS, SUPPLY_SETTINGS, supply

COLUMNS = {
    "rain": "weather",
    "speed": "traffic",
    "incidents": "near",
    "nearest_m": "near",
    "mean_idle": "supply",
    "reports": "supply",
    "counted": "supply",
    "requests": "recent",
    "pickups": "recent",
    "mean_s": "recent",
}
SCHEMA = schema_of(**COLUMNS)
SETTINGS = {
    "weather": {"key": None, "freshness_h": 3},
    "traffic": {"join": "latest", "key": "zone", "freshness_h": 2},
    **NEARBY,
    **SUPPLY_SETTINGS,
    **DEMAND_SETTINGS,
}


def all_tables(make=ENGINES["polars"]):
    tables = {
        "weather": table({"rain": pl.Float64}, (0, 1, 0.5), (60, 61, 1.5)),
        "traffic": table({"zone": pl.String, "speed": pl.Float64}, (0, 0, "north", 8), (10, 12, "south", 5)),
        "incident_reports": incidents((0, 5, "a", 0.5, 60), (30, 33, "b", -1.0, None)),
        "driver_supply": supply((0, 1, "north", 8), (5, 6, "south", 5)),
    }
    return {name: make(rows) for name, rows in tables.items()}


def some_trips(n=40):
    zones = ["north", "south", None]
    return trips(
        *(
            {"minute": i * 37 % 100 // 2, "zone": zones[i % 3], "lat": 43.6, "lon": -70.0, "pickup_time_s": 60.0 + i}
            for i in range(n)
        )
    )


def changed(entry, **settings):
    merged = {**SETTINGS[entry], **settings}
    return {**SETTINGS, entry: {name: value for name, value in merged.items() if value != "left out"}}


def test_all_kinds_are_joined_at_once_and_are_the_same_on_every_engine(engine):
    got = joined(some_trips(), all_tables(), SCHEMA, SETTINGS, engine)
    assert_frame_equal(got, joined(some_trips(), all_tables(), SCHEMA, SETTINGS), check_column_order=False)
    assert all(0 < got[name].count() < 40 or name == "incidents" for name in COLUMNS)
    assert got.columns[-len(COLUMNS) :] == list(COLUMNS)


@pytest.mark.parametrize("name", ["polars", "pandas"])
def test_rows_stay_in_their_order(name):
    make = ENGINES[name]
    joins = ConditionJoin(all_tables(make), SCHEMA, SETTINGS)
    assert list(joins.join(make(some_trips()))["request_id"]) == some_trips()["request_id"].to_list()


@pytest.mark.parametrize("name", ["polars", "pandas"])
def test_blocks_give_the_same_rows_as_the_whole(name):
    make = ENGINES[name]
    whole = join_conditions(make(some_trips()), all_tables(make), SCHEMA, SETTINGS)
    joins = ConditionJoin(all_tables(make), SCHEMA, SETTINGS)
    when, edges = pl.col("requested_at"), [at(minute) for minute in (-1, 7, 7, 20, 50)]
    blocks = [some_trips().filter(when >= low, when < high) for low, high in pairwise(edges)]
    parts = [joins.join(make(block)) for block in blocks]
    parts = [part if isinstance(part, pl.DataFrame) else pl.from_pandas(part) for part in parts]
    whole = whole if isinstance(whole, pl.DataFrame) else pl.from_pandas(whole)
    parts = [part.cast(dict(whole.schema)) for part in parts]
    assert_frame_equal(pl.concat(parts).sort("request_id"), whole.sort("request_id"), check_exact=True)


def test_entries_and_keys_are_read_from_schema_and_settings():
    assert tables_of(SCHEMA) == ["weather", "traffic", "near", "supply", "recent"]
    assert keys_of(SCHEMA, SETTINGS) == ["zone"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (changed("near", join="nearbye"), "near: there is no join 'nearbye', did you mean 'nearby'"),
        (changed("near", radius=5), "near has no setting 'radius', did you mean 'radius_m'"),
        (changed("near", place="left out"), "near: nearby needs the setting 'place'"),
        (changed("near", radius_m="left out"), "near: radius_m must be a number, got None"),
        (changed("near", radius_m=5), "near: radius_m must be 10 to 100,000 m, got 5"),
        (changed("near", at=["lat", "lom"]), "near: at must name numbers of a request, got 'lom', did you mean 'lon'"),
        (changed("near", at=["rain", "lon"]), "near: at must name numbers of a request, got 'rain'"),
        (changed("near", place="lat"), r"near: place must be two columns \[latitude, longitude\], got 'lat'"),
        (changed("near", table="trips"), "near: nearby needs a table of events, and trips are none"),
        (changed("near", columns={"incidents": "count"}), "near: columns does not say what nearest_m holds"),
        (changed("near", columns={"incidents": "number", "nearest_m": "distance"}), "must be count or distance, got"),
        (changed("supply", window_min=0), "supply: window_min must be minutes above 0, got 0"),
        (changed("supply", window_min="left out"), "supply: window_min must be minutes above 0, got None"),
        (changed("supply", freshness_h=2), "supply has no setting 'freshness_h'"),
        (changed("supply", delay_s=60), "supply: delay_s is for the table trips"),
        (
            changed("supply", columns={"mean_idel": {"mean": "idle"}}),
            "declares no column 'mean_idel' .*did you mean 'mean_idle'",
        ),
        (changed("recent", delay_s=-1), "recent: delay_s must be seconds from 0 on, got -1"),
        (changed("recent", id="request_id"), "recent: id is for tables with corrections"),
        (changed("traffic", key=7), "traffic: key must be a name, got 7"),
        (changed("traffic", freshness_h=float("inf")), "traffic: freshness_h must be hours above 0, got inf"),
        ({**SETTINGS, "traffic": 3}, "traffic must be settings such as"),
    ],
)
def test_setting_that_cannot_work_is_told(settings, message):
    with pytest.raises(ConfigError, match=message):
        keys_of(SCHEMA, settings)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"median": "pickup_time_s"}, "mean_s cannot be a 'median'"),
        ("mean", r"mean_s must be \{count: COLUMN\} or \{mean: COLUMN\}, got 'mean'"),
        ({"mean": "requested_at"}, r"of the trips there is .*, mean_s asks for \{mean: requested_at\}"),
        ({"mean": "lat"}, r"of the trips there is .*, mean_s asks for \{mean: lat\}"),
    ],
)
def test_measure_that_cannot_work_is_told(what, message):
    columns = {**DEMAND_SETTINGS["recent"]["columns"], "mean_s": what}
    with pytest.raises(ConfigError, match=message):
        keys_of(SCHEMA, changed("recent", columns=columns))


def test_category_cannot_hold_a_count():
    columns = {**OWN, "requests": {"role": "categorical", "condition": "recent"}}
    schema = Schema.from_dict({"source": "town", "timezone": "UTC", "columns": columns})
    only = {"recent": {**DEMAND_SETTINGS["recent"], "columns": {"requests": {"count": "requested_at"}}}}
    with pytest.raises(ConfigError, match="requests is a number, the schema declares it categorical"):
        keys_of(schema, only)


def test_table_the_source_does_not_bring_is_told():
    tables = {name: rows for name, rows in all_tables().items() if name != "driver_supply"}
    with pytest.raises(DataError, match="the source brings no condition 'driver_supply'"):
        join_conditions(some_trips(), tables, SCHEMA, SETTINGS)


def test_table_without_a_column_of_its_kind_is_told():
    tables = {**all_tables(), "incident_reports": all_tables()["incident_reports"].drop("ends_at")}
    with pytest.raises(SchemaError, match="rows of incident_reports have no column 'ends_at'"):
        join_conditions(some_trips(), tables, SCHEMA, SETTINGS)


def test_trips_that_are_not_clean_are_told():
    with_zone = some_trips().with_columns(pl.from_epoch("requested_at", "us").dt.replace_time_zone("UTC"))
    with pytest.raises(SchemaError, match=r"requested_at of the trips must be int64 microseconds .*: clean them first"):
        join_conditions(with_zone, all_tables(), SCHEMA, SETTINGS)
