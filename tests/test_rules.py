"""Declared rules: every kind drops, mends or flags what it says on every engine, and wrong settings are told."""

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml

from hailtime.config import CONFIGS
from hailtime.errors import ConfigError, DataError
from hailtime.preparation.budget import check_budget, read_budget
from hailtime.preparation.clean import clean
from hailtime.preparation.clock_changes import HALF_HOUR_US, clock_changes, doubtful_half_hours
from hailtime.preparation.declared_rules import read_rules
from hailtime.preparation.findings import CleaningReport, Finding
from hailtime.schema import Schema
from hailtime.sources.clock_times import utc_us
from hailtime.sources.simulated_city import load
from tests.test_clean import COLUMNS, NOON_US, SCHEMA, cleaned, ids, trips
from tests.test_nyc_hvfhv import NEEDS_REAL, REAL

HOUR_US, SECOND_US = 3_600_000_000, 1_000_000
NEW_YORK = Schema.from_dict({"source": "town", "timezone": "America/New_York", "columns": COLUMNS})


def of(rule, **settings):
    return {"mine": {"rule": rule, **settings}}


def test_flag_counts_and_changes_nothing(engine):
    frame = trips(queue=[3, 40, 41, None])
    rows, findings = cleaned(engine(frame), of("range", column="queue", max=39, severity="flag"))
    assert rows["queue"].to_list() == [3, 40, 41, None]
    assert (findings["mine"].severity, findings["mine"].rows, findings["mine"].share) == ("flag", 2, 0.5)
    assert findings["mine"].example == {"request_id": "r1", "queue": 40}


@pytest.mark.parametrize(
    ("severity", "fares"), [("drop", [5, None]), ("mend", [5, None, None, None]), ("flag", [5, -1, 900, None])]
)
def test_range_of_a_raw_column_that_the_schema_lacks(engine, severity, fares):
    rule = {
        **of("range", column="fare", min=0, max=500, severity=severity),
        "twice": {"rule": "duplicate", "by": ["fare"]},
    }
    _, report = clean(engine(trips(fare=[5, -1, 900, None])), SCHEMA, rule)
    found = {finding.name: finding.rows for finding in report.findings}
    assert found["mine"] == 2
    assert report.rows_out == len(fares) - found["twice"]
    assert "fare" not in cleaned(engine(trips(fare=[5, -1, 900, None])), rule)[0].columns


def test_range_may_flag_long_waits_though_the_target_is_computed(engine):
    arrived = [NOON_US + i * 60 * SECOND_US + wait * SECOND_US for i, wait in enumerate([300, 4000, 301, 302])]
    frame = trips(arrived_at=arrived).drop("pickup_time_s")
    _, findings = cleaned(engine(frame), of("range", column="pickup_time_s", max=3600, severity="flag"))
    assert findings["mine"].example == {"request_id": "r1", "pickup_time_s": 4000}


@pytest.mark.parametrize(
    ("settings", "caught"),
    [
        ({"prefix": "test_"}, ["r0"]),
        ({"value": "qa"}, ["r1"]),
        ({"values": ["qa", "test_7"]}, ["r0", "r1"]),
        ({"pattern": "^(?:test_[0-9]+|qa)$"}, ["r0", "r1"]),
    ],
    ids=["prefix", "value", "values", "pattern"],
)
def test_test_accounts_are_excluded(engine, settings, caught):
    frame = trips(5, rider=["test_7", "qa", None, "atest_7", "Ann"])
    rows, _ = cleaned(engine(frame), of("exclude", column="rider", **settings))
    assert sorted({f"r{i}" for i in range(5)} - set(ids(rows))) == caught


def test_missing_value_can_be_flagged_after_null_island_is_none(engine):
    _, findings = cleaned(
        engine(trips(from_lat=[0, 43.5, None, 43.5])), of("missing", column="from_lat", severity="flag")
    )
    assert findings["mine"].rows == 2


def test_driver_who_was_too_fast_is_somewhere_else_when_mended(engine):
    rule = of("speed", max_mps=45, severity="mend")
    rows, findings = cleaned(engine(trips(from_lat=[43.9, 43.5, 43.5, None], pickup_time_s=[60.0] * 4)), rule)
    assert rows["from_lat"].to_list() == [None, 43.5, 43.5, None]
    assert rows["from_lon"].to_list() == [None, -70.5, -70.5, -70.5]
    assert rows["to_lat"].to_list() == [43.51] * 4
    assert (findings["mine"].rows, findings["mine"].example["request_id"]) == (1, "r0")


def skewed():
    """r1's device is 10 minutes ahead, r2's 5 minutes and a second behind; r3 was never received."""
    sent = [NOON_US + i * 60 * SECOND_US for i in range(4)]
    received = [sent[0] + 300 * SECOND_US, sent[1] - 600 * SECOND_US, sent[2] + 301 * SECOND_US, None]
    return trips(requested_at=sent, received_at=received)


@pytest.mark.parametrize("severity", ["drop", "flag"])
def test_clock_skew_is_the_distance_of_two_times_of_one_event(engine, severity):
    rule = of("skew", device="requested_at", server="received_at", max_s=300, severity=severity)
    rows, findings = cleaned(engine(skewed()), rule)
    assert ids(rows) == (["r0", "r3"] if severity == "drop" else ["r0", "r1", "r2", "r3"])
    assert findings["mine"].rows == 2


def test_mended_skew_moves_the_named_times_and_the_target_with_them(engine):
    arrived = [NOON_US + (i * 60 + 500) * SECOND_US for i in range(4)]
    frame = skewed().with_columns(arrived_at=pl.Series(arrived)).drop("pickup_time_s")
    rule = of("skew", device="requested_at", server="received_at", max_s=300, severity="mend", shift=["requested_at"])
    rows, findings = cleaned(engine(frame), rule)
    asked = [NOON_US, NOON_US - 540 * SECOND_US, NOON_US + 421 * SECOND_US, NOON_US + 180 * SECOND_US]
    assert rows["requested_at"].to_list() == asked
    assert rows["pickup_time_s"].to_list() == [500, 1100, 199, 500]
    assert findings["mine"].rows == 2


def hours_off():
    """Waits of 300 s; r1's arrival is written five hours late, r2's four hours early; r3 truly waited 59 minutes."""
    waits = [300, 300 + 5 * 3600, 300 - 4 * 3600, 3540]
    arrived = [NOON_US + (i * 60 + wait) * SECOND_US for i, wait in enumerate(waits)]
    return trips(arrived_at=arrived).drop("pickup_time_s")


@pytest.mark.parametrize(
    ("severity", "waits"), [("drop", [300, 3540]), ("mend", [300, 300, 300, 3540]), ("flag", [300, 3540])]
)
def test_time_that_is_whole_hours_off_is_moved_back_before_the_target_is_computed(engine, severity, waits):
    rule = of("offset", first="requested_at", then="arrived_at", hours=[-4, 5], severity=severity)
    rows, findings = cleaned(engine(hours_off()), rule)
    assert rows["pickup_time_s"].to_list() == waits
    assert findings["mine"].rows == 2
    assert findings["range_pickup_time_s"].rows == (2 if severity == "flag" else 0)


def test_mends_act_one_after_the_other():
    """An arrival an hour off as the device's clock was set wrong, on a device that is ten minutes ahead on top."""
    arrived = NOON_US + (300 + 3600 + 600) * SECOND_US
    frame = trips(1, arrived_at=[arrived], sent_at=[NOON_US + 600 * SECOND_US], got_at=[NOON_US]).drop("pickup_time_s")
    skew = {"rule": "skew", "device": "sent_at", "server": "got_at", "max_s": 60, "shift": ["arrived_at"]}
    rules = {
        "clock": {**skew, "severity": "mend"},
        "hour": {"rule": "offset", "first": "requested_at", "then": "arrived_at", "hours": [1], "max_s": 900},
    }
    rules["hour"]["severity"] = "mend"
    assert cleaned(frame, rules)[0]["pickup_time_s"].to_list() == [300]


def test_speeds_above_what_roads_allow_are_in_another_unit_before_their_range_is_judged(engine):
    column = {"role": "numeric", "unit": "m/s", "range": [0, 45]}
    schema = Schema.from_dict({"source": "t", "timezone": "Europe/Berlin", "columns": {**COLUMNS, "speed_mps": column}})
    rule = {"rule": "unit", "column": "speed_mps", "above": 45, "severity": "mend"}
    frame = trips(speed_mps=[10.0, 72.0, None, 300.0])
    for factor in ({"is": "km/h"}, {"factor": 1 / 3.6}):
        rows, findings = cleaned(engine(frame), {"mine": {**rule, **factor}}, schema)
        assert rows["speed_mps"].to_list() == [10, pytest.approx(20), None, None]  # 300 km/h are still too many
        assert (findings["mine"].rows, findings["range_speed_mps"].rows) == (2, 1)


def test_rows_that_a_selection_leaves_out_are_not_mended_or_flagged(engine):
    rules = {"done": {"rule": "keep", "column": "state", "value": "done"}}
    rules |= of("exclude", column="zone", value="north", severity="flag")
    _, findings = cleaned(engine(trips(state=["done", "held", None, "done"])), rules)
    assert (findings["done"].rows, findings["mine"].rows) == (2, 2)


def test_row_that_two_rules_would_drop_is_counted_once(engine):
    frame = trips(3, zone=["north", "north", "south"], pickup_time_s=[None, 300, 300])
    _, findings = cleaned(engine(frame), of("exclude", column="zone", value="north"))
    assert {name: f.rows for name, f in findings.items() if f.rows} == {"mine": 2}


# tzdata's rules, written down: New York's clocks change at 2:00 local, Berlin's at 1:00 UTC
CHANGES_2026 = {
    "America/New_York": [("2026-03-08T07:00", 1), ("2026-11-01T06:00", -1)],
    "Europe/Berlin": [("2026-03-29T01:00", 1), ("2026-10-25T01:00", -1)],
    "Australia/Lord_Howe": [("2026-04-04T15:00", -0.5), ("2026-10-03T15:30", 0.5)],
    "Asia/Tokyo": [],
}


@pytest.mark.parametrize("timezone", CHANGES_2026)
def test_clock_changes_are_found_to_the_minute(timezone):
    found = [
        (f"{when:%Y-%m-%dT%H:%M}", gained / timedelta(hours=1)) for when, gained in clock_changes(timezone, 2026, 2027)
    ]
    assert found == CHANGES_2026[timezone]


@pytest.mark.parametrize("day", [datetime(2026, 3, 8), datetime(2026, 11, 1)], ids=["spring", "autumn"])
def test_every_doubtful_wall_time_is_read_into_a_doubtful_half_hour(day):
    zone, minutes = ZoneInfo("America/New_York"), [day + timedelta(minutes=m) for m in range(24 * 60)]
    is_doubtful = [m.replace(tzinfo=zone).utcoffset() != m.replace(tzinfo=zone, fold=1).utcoffset() for m in minutes]
    read = pl.DataFrame({"wall": minutes}).select(utc_us(pl.col("wall"), "America/New_York") // HALF_HOUR_US)
    doubtful = doubtful_half_hours("America/New_York", 2026, 2027)
    caught = read.to_series().is_in(list(doubtful)).to_list()
    assert sum(is_doubtful) == 60
    assert all(c for c, doubt in zip(caught, is_doubtful, strict=True) if doubt)
    # in spring the true hour after the change cannot be told from the skipped one
    assert sum(caught) == (120 if day.month == 3 else 60)


def test_times_around_a_clock_change_are_caught(engine):
    change_us = int(datetime(2026, 11, 1, 6, tzinfo=UTC).timestamp()) * SECOND_US
    asked = [change_us - HOUR_US - 1, change_us - HOUR_US, change_us - 1, change_us]
    rows, _ = cleaned(engine(trips(requested_at=asked)), of("clock_change", columns=["requested_at"]), NEW_YORK)
    assert ids(rows) == ["r0", "r3"]


def test_every_engine_agrees_on_all_kinds_at_once(engine):
    frame = hours_off().with_columns(
        speed=pl.Series([None, 90.0, 3.0, 5.0]), got_at=pl.Series([NOON_US, None, NOON_US, 0])
    )
    rules = {
        "test": {"rule": "exclude", "column": "zone", "pattern": "^south"},
        "gone": {"rule": "missing", "column": "speed", "severity": "flag"},
        "fast": {"rule": "unit", "column": "speed", "above": 60, "severity": "flag"},
        "late": {"rule": "offset", "first": "requested_at", "then": "arrived_at", "hours": [5], "severity": "mend"},
        "clock": {"rule": "skew", "device": "requested_at", "server": "got_at", "max_s": 100},
        "hour": {"rule": "clock_change", "columns": ["requested_at", "arrived_at"], "severity": "flag"},
        "dear": {"rule": "range", "column": "speed", "max": 4, "severity": "mend"},
    }
    _, findings = cleaned(engine(frame), rules)
    caught = {name: finding.rows for name, finding in findings.items() if name in rules}
    assert caught == {"test": 0, "gone": 1, "fast": 1, "late": 1, "clock": 2, "hour": 0, "dear": 1}


WRONG = {
    "severity": (
        of("order", first="a", then="b", severity="mend"),
        "the severity of order is drop or flag, got 'mend'",
    ),
    "same times": (of("order", first="a", then="a"), "must be two times, got a for both"),
    "no limit": (of("range", column="fare"), "range needs min or max"),
    "limits": (of("range", column="fare", min=3, max=3), "min below max"),
    "text limit": (of("range", column="fare", min="3"), "min must be a number, got '3'"),
    "kind": (of("range", column="zone", min=3), "reads zone as a number, and it is declared as a text"),
    "joined": (of("range", column="rain", min=3), "rain, which is joined from weather after cleaning"),
    "target": (of("range", column="pickup_time_s", max=9, severity="mend"), "without pickup_time_s a trip is nothing"),
    "skew 0": (of("skew", device="a", server="b", max_s=0), "above 0"),
    "no shift": (of("skew", device="a", server="b", max_s=9, severity="mend"), "shift names the times"),
    "shift": (of("skew", device="a", server="b", max_s=9, shift=["a"]), "shift names the times"),
    "0 h": (of("offset", first="a", then="b", hours=[0]), "none of them 0"),
    "near hours": (of("offset", first="a", then="b", hours=[1, 1.5]), "an hour or more apart"),
    "long wait": (of("offset", first="a", then="b", hours=[1], max_s=4000), "0 to 3600 s"),
    "one text": (of("clock_change", columns="a"), "columns must be a list of times"),
    "no unit limit": (of("unit", column="queue"), "either above or below"),
    "factor alone": (of("unit", column="queue", above=9, factor=2), "add severity: mend"),
    "no factor": (of("unit", column="queue", above=9, severity="mend"), "either 'is'"),
    "nothing to exclude": (of("exclude", column="rider"), "one of value, values, prefix and pattern"),
    "pattern": (of("exclude", column="rider", pattern="("), "must be a regular expression"),
    "group": (of("exclude", column="rider", pattern="(a|b)"), "engines agree only on"),
    "duplicate": (of("duplicate", by=["zone"], severity="flag"), "the severity of duplicate is drop"),
}
WRONG["quantity"] = (
    {"mine": {"rule": "unit", "column": "pickup_time_s", "below": 20, "is": "km", "severity": "mend"}},
    "pickup_time_s is in s, and 'km' cannot be converted",
)


@pytest.mark.parametrize(("rule", "message"), WRONG.values(), ids=WRONG)
def test_rule_that_cannot_work_is_told_before_any_data_is_there(rule, message):
    with pytest.raises(ConfigError, match=message):
        read_rules(rule, SCHEMA)


BUDGET = {"rules": of("order", first="requested_at", then="arrived_at"), "budget": {"default": 0.03, "mine": 0.1}}


def report_of(*findings, rows_in=1000):
    return CleaningReport.of(
        rows_in, [Finding(name, "order", severity, "it is so", rows) for name, severity, rows in findings]
    )


def test_rule_may_touch_as_much_as_its_budget():
    budget = read_budget(BUDGET, SCHEMA)
    check_budget(report_of(("mine", "drop", 100), ("range_queue", "mend", 30)), budget)
    check_budget(report_of(("mine", "drop", 900)), {})


@pytest.mark.parametrize(
    ("finding", "message"),
    [
        (
            ("mine", "drop", 101),
            r"mine dropped 10.10% of 1,000 raw trips, its budget is 10.00%.* source.budget.mine=0.12$",
        ),
        (
            ("range_queue", "mend", 31),
            r"range_queue mended 3.10%.*its budget is 3.00%.* \+source.budget.range_queue=0.04$",
        ),
    ],
    ids=["its own", "default"],
)
def test_rule_past_its_budget_stops_with_the_way_out(finding, message):
    with pytest.raises(DataError, match=message):
        check_budget(report_of(finding), read_budget(BUDGET, SCHEMA))


@pytest.mark.parametrize("severity", ["flag", "select"])
def test_flags_and_selections_have_a_budget_only_where_named(severity):
    check_budget(report_of(("range_queue", severity, 900)), read_budget(BUDGET, SCHEMA))
    with pytest.raises(DataError, match="mine"):
        check_budget(report_of(("mine", severity, 900)), read_budget(BUDGET, SCHEMA))


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"range_que": 0.1}, "no rule 'range_que', did you mean 'range_queue'"),
        ({"default": 3}, "budget.default must be a share of the raw rows from 0 to 1, got 3"),
        ({"default": "3 %"}, "from 0 to 1, got '3 %'"),
    ],
    ids=["unknown", "percent", "text"],
)
def test_budget_that_cannot_be_meant_is_told(budget, message):
    with pytest.raises(ConfigError, match=message):
        read_budget({"budget": budget}, SCHEMA)


def settings_of(source):
    return yaml.safe_load((CONFIGS / "source" / f"{source}.yaml").read_text())


@pytest.mark.parametrize("dirt", [1.0, 3.0, 10.0])
def test_city_as_dirty_as_real_feeds_is_within_its_budget_and_ten_times_as_dirty_is_not(dirt):
    settings = settings_of("simulated_city")
    schema = Schema.from_dict(settings["schema"])
    _, report = clean(load(n_requests=5000, days=10, dirt=dirt).table(), schema, settings["rules"])
    if dirt < 10:
        check_budget(report, read_budget(settings, schema))
    else:
        with pytest.raises(DataError, match=r"arrived_before_asked dropped 1[5-9].*its budget is 7.00%"):
            check_budget(report, read_budget(settings, schema))


@NEEDS_REAL
def test_budgets_of_nyc_hvfhv_hold_the_faults_of_a_whole_month():
    """July 2026: 44 waits over three hours, no exact duplicate; 0.1 % of the waits are over 29.68 minutes."""
    settings = settings_of("nyc_hvfhv")
    month = json.loads((REAL / "hvfhv_2026-07_population_stats.json").read_text())
    faults, rows = month["data_faults"], month["data_faults"]["rows"]
    budget = read_budget(settings, Schema.from_dict(settings["schema"]))
    found = {"same_trip_twice": faults["exact_duplicates"], "range_pickup_time_s": faults["wait_gt_180min"]}
    booked = faults["on_scene_before_request"] + faults["pickup_before_request_only"]  # a selection, no fault
    findings = [("not_there_before_asked", "select", booked), *((name, "drop", n) for name, n in found.items())]
    check_budget(report_of(*findings, rows_in=rows), budget)
    assert month["wait_min_pickup_minus_request"]["ALL"]["p99_9"] < 60  # so that at most 1 in 1,000 is over the range
    assert budget["default"] > 0.001
