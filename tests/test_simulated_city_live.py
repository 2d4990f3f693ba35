"""The simulated city played live: the rows of `load`, however time is cut, at the pace of a clock."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hailtime.errors import ConfigError
from hailtime.sources.city_live import MOST_STEPS, LiveCity
from hailtime.sources.simulated_city import load, make_city

CITY = {"n_requests": 30_000, "start": "2026-02-23", "days": 3}  # two cells
START_S, END_S = make_city(**CITY).span_s
HOUR_S = 3600
cuts = st.lists(st.floats(START_S, END_S), max_size=6).map(lambda inner: [START_S, *sorted(inner), END_S])


@pytest.fixture(scope="module")
def live():
    return LiveCity(make_city(**CITY))


def test_it_plays_the_rows_of_load(live):
    trips = load(**CITY, dirt=0).table()
    asked = live.requests(START_S, END_S)
    assert_frame_equal(asked, trips.drop("arrived_at", "true_median_s"))
    arrived = live.outcomes(START_S, END_S + 7200)
    assert_frame_equal(
        arrived.drop("pickup_time_s"),
        trips.select([*arrived.columns[:3], "true_median_s"]).sort("arrived_at", "request_id"),
    )
    assert (arrived["pickup_time_s"] == (arrived["arrived_at"] - arrived["requested_at"]) / 1e6).all()


@settings(max_examples=15, deadline=None)
@given(cuts)
def test_it_plays_the_same_however_time_is_cut(live, edges):
    spans = list(pairwise(edges))
    assert pl.concat(live.requests(*span) for span in spans).equals(live.requests(START_S, END_S))
    assert pl.concat(live.outcomes(*span) for span in spans).equals(live.outcomes(START_S, END_S))
    whole = live.conditions_known(START_S, END_S)
    for name, rows in whole.items():
        assert pl.concat(live.conditions_known(*span)[name] for span in spans).equals(rows), name


def test_every_request_has_one_outcome_and_none_before_it_is_due(live):
    asked, arrived = live.requests(START_S, END_S), live.outcomes(START_S, END_S + 7200)
    assert sorted(arrived["request_id"]) == sorted(asked["request_id"])
    assert (arrived["arrived_at"] >= arrived["requested_at"] + 20e6).all()
    hour = live.outcomes(START_S + HOUR_S, START_S + 2 * HOUR_S)
    assert (hour["arrived_at"] / 1e6).is_between(START_S + HOUR_S, START_S + 2 * HOUR_S, closed="left").all()


def test_a_highway_closed_while_it_plays_changes_what_comes_and_nothing_that_was():
    live, at_s = LiveCity(make_city(**CITY)), START_S + 30 * HOUR_S
    before = (live.requests(START_S, at_s), live.outcomes(START_S, at_s), live.conditions_known(START_S, at_s))
    usual = live.outcomes(at_s, END_S)
    live.close_highway(at_s)
    assert live.requests(START_S, at_s).equals(before[0])
    assert live.outcomes(START_S, at_s).equals(before[1])
    assert all(rows.equals(before[2][name]) for name, rows in live.conditions_known(START_S, at_s).items())
    after = (
        live.outcomes(at_s, END_S)
        .join(usual, on="request_id", suffix="_usual")
        .filter(pl.col("requested_at") > at_s * 1e6)
    )
    assert (after["true_median_s"] / after["true_median_s_usual"]).mean() > 1.1
    assert len(live.conditions_known(at_s, at_s + 600)["road_closures"]) == 20


def test_switching_on_is_the_same_as_loading_with_it():
    live = LiveCity(make_city(**CITY))
    live.switch_on("snow_day", START_S + 24 * HOUR_S)
    trips = load(**CITY, dirt=0, scenarios=[{"kind": "snow_day", "from": "2026-02-24"}]).table()
    assert_frame_equal(live.requests(START_S, END_S), trips.drop("arrived_at", "true_median_s"))


class Clock:
    """Real time that passes when somebody sleeps."""

    def __init__(self):
        self.now_s, self.slept = 1000.0, []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now_s += seconds


def test_an_hour_is_played_in_a_minute(live):
    clock, from_s = Clock(), START_S + 8 * HOUR_S
    moments = list(live.play(from_s, from_s + HOUR_S, speed=60, step_s=30, now=lambda: clock.now_s, sleep=clock.sleep))
    assert clock.now_s - 1000 == pytest.approx(60)
    assert len(moments) == 120
    assert clock.slept == pytest.approx(np.full(120, 0.5))
    assert pl.concat(moment.requests for moment in moments).equals(live.requests(from_s, from_s + HOUR_S))
    assert [moment.to_s for moment in moments[:2]] == [from_s + 30, from_s + 60]


def test_who_is_slow_gets_all_that_is_over_at_once(live):
    clock, played = Clock(), []
    for moment in live.play(START_S, START_S + 600, speed=60, step_s=60, now=lambda: clock.now_s, sleep=clock.sleep):
        played.append(moment)
        clock.now_s += 3.5 if len(played) == 1 else 0  # three steps and a half
    assert clock.slept == pytest.approx([1, 0.5, 1, 1, 1, 1, 1])
    assert clock.now_s - 1000 == pytest.approx(10)
    assert [moment.to_s - moment.from_s for moment in played] == [60, 180, *[60] * 6]
    assert pl.concat(moment.requests for moment in played).equals(live.requests(START_S, START_S + 600))


def test_who_is_far_behind_gets_moments_of_a_bounded_length(live):
    clock, lengths = Clock(), []
    for moment in live.play(START_S, START_S + 1500, speed=60, step_s=60, now=lambda: clock.now_s, sleep=clock.sleep):
        lengths.append(round((moment.to_s - moment.from_s) / 60))
        clock.now_s += 14.2 if len(lengths) == 1 else 0
    assert lengths == [1, MOST_STEPS, MOST_STEPS, 2, *[1] * 10]


def test_what_happens_while_it_plays_can_be_switched_on():
    clock, live = Clock(), LiveCity(make_city(**CITY))
    closures = []
    for moment in live.play(START_S, START_S + 1800, speed=60, step_s=300, now=lambda: clock.now_s, sleep=clock.sleep):
        if moment.to_s == START_S + 600:
            live.close_highway(moment.to_s)
        closures.append(len(moment.conditions["road_closures"]))
    assert closures == [0, 0, 0, 20, 0, 0]


def test_a_span_outside_of_its_days_is_refused(live):
    with pytest.raises(ConfigError, match=r"this city is played from .* make one with another start or more days"):
        live.requests(END_S - 60, END_S + 60)
    with pytest.raises(ConfigError, match=r"a scenario is one of closure, .*, got 'flood'"):
        live.switch_on("flood", START_S)
