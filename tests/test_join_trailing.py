"""Trailing windows: what was observed in the last minutes and known, over a table and over the trips themselves."""

import math
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hailtime.errors import DataError
from hailtime.preparation.join import ConditionJoin
from tests.conftest import ENGINES
from tests.joining import MINUTE, as_polars, at, joined, schema_of, table, trips

SUPPLY = schema_of(mean_idle="supply", reports="supply", counted="supply")
SUPPLY_SETTINGS = {
    "supply": {
        "join": "trailing",
        "table": "driver_supply",
        "key": "zone",
        "window_min": 15,
        "columns": {"mean_idle": {"mean": "idle"}, "reports": {"count": "observed_at"}, "counted": {"count": "idle"}},
    }
}
TYPES = {"zone": pl.String, "idle": pl.Float64}
DEMAND = schema_of(requests="recent", pickups="recent", mean_s="recent")
DEMAND_SETTINGS = {
    "recent": {
        "join": "trailing",
        "table": "trips",
        "key": "zone",
        "window_min": 30,
        "columns": {
            "requests": {"count": "requested_at"},
            "pickups": {"count": "pickup_time_s"},
            "mean_s": {"mean": "pickup_time_s"},
        },
    }
}


def supply(*rows):
    """Rows (observed, known, zone, idle)."""
    return table(TYPES, *rows)


def asked(*minutes, zone="north"):
    return trips(*({"minute": minute, "zone": zone} for minute in minutes))


def around(requests, rows, make=ENGINES["polars"], **changes):
    changed = {"supply": {**SUPPLY_SETTINGS["supply"], **changes}}
    return joined(requests, {"driver_supply": rows}, SUPPLY, changed, make)


def recent(requests, make=ENGINES["polars"], **changes):
    return joined(requests, {}, DEMAND, {"recent": {**DEMAND_SETTINGS["recent"], **changes}}, make)


def rides(*rows):
    """Requests (minute, pickup time in seconds) in the north, or in the zone that comes third."""
    return trips(*({"minute": r[0], "pickup_time_s": r[1], "zone": r[2] if len(r) > 2 else "north"} for r in rows))


def mean(values):
    """In thousandths, halves up, as the definition says."""
    return sum(math.floor(value * 1000 + 0.5) for value in values) / (1000 * len(values)) if values else None


def test_row_counts_once_known_while_it_is_in_the_window(engine):
    got = around(asked(4, 5, 15 - 1 / MINUTE, 15), supply((0, 5, "north", 8)), engine)
    assert got["reports"].to_list() == [0, 1, 1, 0]
    assert got["mean_idle"].to_list() == [None, 8, 8, None]


def test_row_known_before_it_is_true_waits_until_it_is(engine):
    assert around(asked(9, 10), supply((10, 0, "north", 8)), engine)["reports"].to_list() == [0, 1]


def test_mean_is_of_all_rows_in_the_window(engine):
    rows = supply((0, 1, "north", 8), (5, 6, "north", 5), (6, 7, "south", 99))
    assert around(asked(3, 8, 16, 25), rows, engine)["mean_idle"].to_list() == [8, 6.5, 5, None]


def test_correction_counts_from_the_moment_it_is_known(engine):
    rows = supply((0, 1, "north", 8), (0, 5, "north", 3), (2, 2, "north", 4))
    got = around(asked(4, 5), rows, engine)
    assert got.select("mean_idle", "reports").rows() == [(6, 2), (3.5, 2)]


def test_row_that_comes_twice_counts_once(engine):
    rows = supply((0, 1, "north", 8), (0, 1, "north", 8), (0, 3, "north", 8))
    assert around(asked(2, 4), rows, engine).select("mean_idle", "reports").rows() == [(8, 1), (8, 1)]


def test_missing_value_is_a_row_without_a_value(engine):
    rows = supply((0, 1, "north", None), (1, 1, "north", float("nan")), (2, 2, "north", 4))
    got = around(asked(1, 3), rows, engine)
    assert got.select("mean_idle", "reports", "counted").rows() == [(None, 2, 0), (4, 3, 1)]


def test_missing_key_gives_nothing_and_an_unknown_one_counts_zero(engine):
    requests = trips({"minute": 5}, {"minute": 5, "zone": "nowhere"})
    got = around(requests, supply((0, 1, "north", 8), (0, 1, None, 8)), engine)
    assert got.select("mean_idle", "reports").rows() == [(None, None), (None, 0)]


def test_without_a_key_all_rows_are_in_one_window(engine):
    rows = table({"idle": pl.Float64}, (0, 1, 8), (2, 2, 4))
    got = around(trips({"minute": 5}, {"minute": 5, "zone": "north"}), rows, engine, key=None)
    assert got.select("mean_idle", "reports").rows() == [(6, 2), (6, 2)]


def test_rows_with_an_id_may_share_their_time_and_be_moved(engine):
    rows = table(
        {**TYPES, "report": pl.String}, (0, 1, "north", 8, "a"), (0, 1, "north", 4, "b"), (0, 5, "south", 4, "b")
    )
    assert around(asked(2, 6), rows, engine, id="report")["reports"].to_list() == [2, 1]
    assert around(asked(6, zone="south"), rows, engine, id="report")["mean_idle"].to_list() == [4]


def test_request_sees_those_of_its_zone_before_it_and_not_itself(engine):
    got = recent(rides((0, 60), (10, 60), (10, 60), (30, 60), (30, 60, "south"), (30, 60, None)), engine)
    assert got["requests"].to_list() == [0, 1, 1, 2, 0, None]


def test_pickup_counts_once_it_is_over(engine):
    got = recent(rides((0, 300), (1, 120), (4, 60), (5, 60), (33, 60), (35, 60)), engine)
    assert got["pickups"].to_list() == [0, 0, 1, 3, 3, 2]  # over at 5, 3, 5, 6, 34, 36
    assert got["mean_s"].to_list() == [None, None, 120, 160, 140, 60]


def test_pickup_counts_from_when_it_is_in_the_log(engine):
    got = recent(rides((0, 300), (5, 60), (14, 60), (15, 60)), engine, delay_s=600)
    assert got["pickups"].to_list() == [0, 0, 0, 1]


def test_pickup_that_took_no_time_is_not_seen_by_its_own_request(engine):
    assert recent(rides((0, 0.0), (1, 60)), engine)["pickups"].to_list() == [0, 1]


def test_block_that_does_not_follow_is_told():
    joins = ConditionJoin({}, DEMAND, DEMAND_SETTINGS)
    joins.join(rides((0, 60), (10, 60)))
    with pytest.raises(DataError, match="a block must begin after the last request of the one before"):
        joins.join(rides((10, 60)))


def test_second_block_of_lazy_trips_is_told():
    joins = ConditionJoin({}, DEMAND, DEMAND_SETTINGS)
    joins.join(rides((0, 60)).lazy())
    with pytest.raises(DataError, match="lazy trips must come in one block"):
        joins.join(rides((10, 60)).lazy())


minutes = st.integers(-40, 40)
zones = st.sampled_from(["north", "south", None])
idle = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 3.25, 0.0005, 1e8, 1e12]))
reports = st.lists(st.tuples(minutes, minutes, zones, idle), max_size=15, unique_by=lambda row: row[:3])
some_rides = st.lists(
    st.tuples(minutes, st.sampled_from([0.0, 60.0, 90.5005, 600.0, 1e4]), zones), min_size=1, max_size=15
)


def supply_reference(request, rows):
    """Of the rows of one zone and time the one known last; those in the window."""
    now, in_force = request["requested_at"], {}
    for row in sorted(rows, key=lambda row: row["known_at"]):
        if row["zone"] == request["zone"] and row["known_at"] <= now and now - 15 * MINUTE < row["observed_at"] <= now:
            in_force[row["observed_at"]] = row["idle"]
    values = [value for value in in_force.values() if value is not None and value <= 1e9]
    return None if request["zone"] is None else (mean(values), len(in_force), len(values))


def demand_reference(request, rows, delay_s):
    now, before = request["requested_at"], request["requested_at"] - 30 * MINUTE
    there = [row for row in rows if row["zone"] == request["zone"] and row["requested_at"] < now]
    arrived = [(row, row["requested_at"] + math.floor(row["pickup_time_s"] * 1e6 + 0.5)) for row in there]
    over = [row["pickup_time_s"] for row, us in arrived if before < us and us + delay_s * 1_000_000 <= now]
    asked_before = sum(row["requested_at"] > before for row in there)
    return None if request["zone"] is None else (asked_before, len(over), mean(over))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(minutes, zones), min_size=1, max_size=10), reports)
def test_window_over_a_table_equals_the_rule_told_in_plain_python(request_list, report_list):
    rows = supply(*report_list)
    for row in around(trips(*({"minute": m, "zone": z} for m, z in request_list)), rows).to_dicts():
        expected = supply_reference(row, rows.to_dicts()) or (None, None, None)
        assert (row["mean_idle"], row["reports"], row["counted"]) == expected


@settings(max_examples=50, deadline=None)
@given(some_rides, st.sampled_from([0, 60, 5000]))
def test_window_over_trips_equals_the_rule_told_in_plain_python(ride_list, delay_s):
    rows = recent(rides(*ride_list), delay_s=delay_s).to_dicts()
    for row in rows:
        expected = demand_reference(row, rows, delay_s) or (None, None, None)
        assert (row["requests"], row["pickups"], row["mean_s"]) == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(minutes, min_size=1, max_size=10), reports, minutes)
def test_rows_known_later_change_nothing(minute_list, report_list, now):
    past = asked(*(minute for minute in minute_list if minute <= now))
    rows = supply(*report_list)
    then = around(past, rows.filter(pl.col("known_at") <= at(now)))
    assert_frame_equal(around(past, rows), then, check_exact=True)


@settings(max_examples=30, deadline=None)
@given(some_rides, minutes)
def test_later_trips_and_arrivals_change_nothing(ride_list, now):
    rows = recent(rides(*ride_list))
    past = rides(*ride_list).filter(pl.col("requested_at") <= at(now))
    is_over = pl.col("requested_at") + pl.col("pickup_time_s") * 1e6 <= at(now)
    then = recent(past.with_columns(pl.when(is_over).then("pickup_time_s")))
    names = ["request_id", "requests", "pickups", "mean_s"]
    expected = rows.filter(pl.col("requested_at") <= at(now))
    assert_frame_equal(then.select(names), expected.select(names), check_exact=True)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(some_rides, reports, st.randoms(use_true_random=False))
def test_row_order_and_engine_change_nothing(ride_list, report_list, random):
    schema = schema_of(**{c.name: c.condition for s in (SUPPLY, DEMAND) for c in s.columns if c.condition})
    both = {**SUPPLY_SETTINGS, **DEMAND_SETTINGS}
    expected = joined(rides(*ride_list), {"driver_supply": supply(*report_list)}, schema, both)
    random.shuffle(report_list)
    shuffled = rides(*ride_list)
    shuffled = shuffled[random.sample(range(shuffled.height), shuffled.height)]
    for make in ENGINES.values():
        got = joined(shuffled, {"driver_supply": supply(*report_list)}, schema, both, make)
        assert_frame_equal(got, expected, check_exact=True, check_column_order=False)


@settings(max_examples=30, deadline=None)
@given(some_rides, st.lists(minutes, max_size=4, unique=True), st.sampled_from(["polars", "pandas"]))
def test_blocks_cut_anywhere_between_two_times_give_the_same_rows(ride_list, cuts, name):
    whole, make = rides(*ride_list), ENGINES[name]
    joins = ConditionJoin({}, DEMAND, DEMAND_SETTINGS)
    edges = [-math.inf, *map(at, sorted(cuts)), math.inf]
    blocks = [
        whole.filter(pl.col("requested_at") >= low, pl.col("requested_at") < high) for low, high in pairwise(edges)
    ]
    got = pl.concat([as_polars(joins.join(make(block)), DEMAND) for block in blocks])
    assert_frame_equal(got.sort("request_id"), recent(whole), check_exact=True)
