"""The competitors: the rule by hand, the trees against what they must beat."""

import numpy as np
import pytest

from hailtime.baselines import LightGBM, Rule, Table, table
from hailtime.schema import Schema
from tests.tiny_run import TINY_SCHEMA


def zones(codes, target_s):
    codes = np.array(codes)[:, None]
    return Table(("pickup_zone",), np.zeros((len(codes), 0), np.float32), codes, np.array(target_s, float))


def test_without_a_journey_the_rule_is_the_zones_median():
    train = zones([1, 1, 1, 2, 2, 2], [100, 110, 900, 300, 310, 320])
    rule = Rule(TINY_SCHEMA).fit(train, train)
    assert rule.predict(zones([1, 2], [0, 0])).tolist() == [110, 310]


def test_a_zone_never_seen_gets_the_median_of_all():
    train = zones([1, 1, 2], [100, 200, 600])
    assert Rule(TINY_SCHEMA).fit(train, train).predict(zones([7], [0])).tolist() == [200]


def drives(distance_m, hour, target_s):
    x_num = np.stack([np.array(distance_m, np.float32), np.array(hour, np.float32)], axis=1)
    x_cat = np.zeros((len(x_num), 0), np.int64)
    return Table(("distance_m", "hour_local"), x_num, x_cat, np.array(target_s, float))


@pytest.fixture
def with_journey(prepared):
    assert prepared.schema.journey
    return prepared.schema


def test_with_a_journey_the_rule_is_distance_over_the_hours_speed(with_journey):
    distance = np.linspace(100, 5000, 200)
    morning = drives(distance, np.full(200, 8.0), 60 + distance / 5)  # 5 m/s, a minute to get going
    rule = Rule(with_journey).fit(morning, morning)
    assert rule.predict(drives([1000, 3000], [8.5, 8.5], [0, 0])) == pytest.approx([260, 660], rel=1e-3)


def test_an_unknown_distance_gets_the_median(with_journey):
    distance = np.linspace(100, 5000, 201)
    train = drives(distance, np.full(201, 8.0), 60 + distance / 5)
    answer = Rule(with_journey).fit(train, train).predict(drives([np.nan], [8.0], [0]))
    assert answer == pytest.approx([60 + 2550 / 5])


def test_the_trees_beat_the_rule_and_read_the_same_features(small_run, prepared):
    parts = [table(prepared, small_run.spec, name) for name in ("train", "validation", "test")]
    test = parts[2]
    errors = [
        np.abs(fitted.predict(test) - test.target_s).mean()
        for fitted in (Rule(prepared.schema).fit(*parts[:2]), LightGBM(learning_rate=0.1).fit(*parts[:2]))
    ]
    assert errors[1] < 0.8 * errors[0]
    assert {"distance_m", "hour_local", "weekday_local", *prepared.schema.input_names[1:]} <= set(test.names)


def test_a_schema_without_a_zone_still_has_a_rule():
    schema = Schema.from_dict({**TINY_SCHEMA.to_dict(), "zone": None})
    train = drives([1, 2, 3], [8, 8, 9], [100, 120, 500])
    assert Rule(schema).fit(train, train).predict(drives([1, 1], [8, 9], [0, 0])).tolist() == [110, 500]
