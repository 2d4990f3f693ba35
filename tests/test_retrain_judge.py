"""Judge and gates: the interval against independent figures, each gate refuses what it must, live verdicts."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hailtime.retraining.gates import data_gates, error_gates, sanity_gate
from hailtime.retraining.judge import Difference, compare, compare_each, judge
from hailtime.retraining.live import Look, verdict
from hailtime.retraining.settings import RetrainSettings
from hailtime.schema import Schema
from tests.retrained_city import CONFIGS

SETTINGS = RetrainSettings.read(CONFIGS / "retrain.yaml")
HOUR_S = 3600
SCHEMA = Schema.from_dict(
    {
        "source": "strip",
        "timezone": "UTC",
        "zone": "zone",
        "journey": ["driver_lat", "driver_lon", "lat", "lon"],
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            **{
                name: {"role": "numeric", "unit": "deg", "range": [-10, 10]}
                for name in ("lat", "lon", "driver_lat", "driver_lon")
            },
            "zone": {"role": "categorical"},
            "pickup_time_s": {"role": "target", "unit": "s", "range": [0, 7200], "out_of_range": "reject"},
        },
    }
)


def rows(n=4000, seed=1):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "request_id": [f"r{i}" for i in range(n)],
            "requested_at": np.sort(rng.integers(0, 48 * HOUR_S, n)) * 1_000_000,
            **{name: rng.uniform(-1, 1, n) for name in ("lat", "lon", "driver_lat", "driver_lon")},
            "zone": rng.choice(["north", "south"], n),
            "pickup_time_s": rng.uniform(100, 900, n),
        }
    )


def test_the_interval_of_independent_rows_is_the_paired_t_interval():
    rng = np.random.default_rng(3)
    at_s = np.sort(rng.uniform(0, 200 * HOUR_S, 20_000))
    old, new = rng.exponential(60, 20_000), rng.exponential(59, 20_000)
    found = compare(old, new, at_s)
    low, high = stats.ttest_rel(new, old).confidence_interval(0.95)
    assert found.difference_s == pytest.approx((new - old).mean())
    assert (found.low_s, found.high_s) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_errors_that_come_in_hours_make_the_interval_as_wide_as_the_hours_do():
    rng = np.random.default_rng(4)
    at_s = np.arange(20_000) * 36.0  # 100 rows an hour
    of_hour = np.repeat(rng.normal(0, 10, 200), 100)
    found = compare(np.zeros(20_000), of_hour, at_s)
    half = 1.96 * of_hour[::100].std() / np.sqrt(200)  # as 200 independent values, not 20,000
    assert (found.high_s - found.low_s) / 2 == pytest.approx(half, rel=0.1)
    assert found.blocks == 200


def test_rows_of_a_few_hours_are_cut_into_shorter_blocks():
    found = compare(np.ones(500), np.zeros(500), np.linspace(0, 3 * HOUR_S, 500))
    assert 24 <= found.blocks <= 26
    assert found.high_s == found.low_s == -1.0


def test_a_slice_counts_its_own_rows_only():
    old, new = np.array([10.0, 10, 10, 10]), np.array([20.0, 20, 5, 5])
    masks = {"a": np.array([True, True, False, False]), "b": np.array([False, False, True, True])}
    found = compare_each(old, new, np.arange(4) * 4000.0, masks, 0.95)
    assert [found[name].difference_s for name in "ab"] == [10.0, -5.0]
    assert [found[name].rows for name in "ab"] == [2, 2]


def judged(old_s, new_s, frame=None):
    """Both say a median that is so far off, with bands of 4 of 5 rows."""
    frame = rows() if frame is None else frame
    actual = frame["pickup_time_s"].to_numpy()
    wide = np.where(np.arange(len(actual)) % 5 < 4, 400.0, 0.0)

    def said(off):
        middle = actual + off
        low = np.where(wide > 0, middle - wide, middle - off / 2)
        return np.stack([low, middle, middle + wide], axis=1).astype(np.float32)

    return judge(frame, SCHEMA, said(old_s), said(new_s), 0.95, 100)


def refused(found):
    return [gate.name for gate in found if not gate.passed]


def test_a_better_challenger_passes():
    found = [*error_gates(judged(60.0, 50.0), SETTINGS.gates)]
    assert refused(found) == []
    assert "its mean error is 50.00 s, the live model's 60.00 s" in found[0].text


@pytest.mark.parametrize("new_s", [60.0, 59.9, 70.0], ids=["equal", "less than the margin", "worse"])
def test_one_that_is_not_better_by_the_margin_is_refused(new_s):
    assert refused(error_gates(judged(60.0, new_s), SETTINGS.gates))[0] == "better"


def test_one_that_is_better_by_chance_is_refused():
    frame = rows(200)
    new_s = np.random.default_rng(5).normal(0, 74, 200)  # mean 59, as likely above as below
    assert "better" in refused(error_gates(judged(60.0, np.abs(new_s), frame), SETTINGS.gates))


def test_one_zone_that_pays_for_all_others_is_refused_by_name():
    frame = rows()
    new_s = np.where(frame["zone"] == "north", 68.0, 30.0)
    found = [*error_gates(judged(60.0, new_s, frame), SETTINGS.gates)]
    assert refused(found) == ["slices"]
    assert "zone=north fares worst" in found[1].text


def test_intervals_that_do_not_hold_are_refused():
    frame = rows()
    actual = frame["pickup_time_s"].to_numpy()
    narrow = np.stack([actual + 1, actual + 2, actual + 3], axis=1).astype(np.float32)
    old = np.stack([actual - 100, actual + 60, actual + 100], axis=1).astype(np.float32)
    found = judge(frame, SCHEMA, old, narrow, 0.95, 100)
    assert refused(error_gates(found, SETTINGS.gates)) == ["coverage"]


@pytest.mark.parametrize(
    ("rows_out", "missing", "expected"),
    [(1000, 0.03, []), (900, 0.0, ["kept"]), (1000, 0.2, ["missing"])],
    ids=["as before", "many rows dropped", "a feed broke"],
)
def test_what_the_data_report_must_say(rows_out, missing, expected):
    report = {
        "clean": {"rows_in": 1000, "rows_out": rows_out},
        "profile": {"missing": {"lat": {"train": 0.0, "test": missing}}},
    }
    found = [*data_gates(report, {"lat": {"missing": 10, "rows": 1000}}, SETTINGS.gates)]
    assert refused(found) == expected


def by_distance(sign):
    def ask(frame):
        away = ((frame["lat"] - frame["driver_lat"]) ** 2 + (frame["lon"] - frame["driver_lon"]) ** 2).sqrt()
        middle = 500 + sign * 100 * away.fill_null(0).clip(0, 4).to_numpy()
        return np.stack([middle - 50, middle, middle + 50], axis=1)

    return ask


def test_a_driver_twice_as_far_must_not_be_sooner():
    assert sanity_gate(by_distance(1), SCHEMA, rows(), SETTINGS.gates).passed
    result = sanity_gate(by_distance(-1), SCHEMA, rows(), SETTINGS.gates)
    assert not result.passed
    assert "of the rows take longer" in result.text


@pytest.mark.parametrize("value", [np.nan, -1.0, 8000.0], ids=["nan", "negative", "longer than any"])
def test_answers_that_no_rider_should_see_are_refused(value):
    def ask(frame):
        said = by_distance(1)(frame)
        return np.where(frame["lat"].is_null().to_numpy()[:, None], value, said)

    result = sanity_gate(ask, SCHEMA, rows(), SETTINGS.gates)
    assert not result.passed
    assert "rows that know nothing" in result.text


def look(n=1000, answered=1000, expected=1000.0, low_s=-5.0, latency_ms=1.0):
    difference = Difference(n, 30, 60.0, 58.0, low_s + 3, low_s, low_s + 6) if n else None
    return Look(answered, expected, n, difference, latency_ms, 1.0)


@pytest.mark.parametrize(
    ("seen", "is_over", "kind"),
    [
        pytest.param(look(), False, "good", id="enough rows"),
        pytest.param(look(n=300), False, "wait", id="not enough yet"),
        pytest.param(look(n=300), True, "good", id="neutral at the end"),
        pytest.param(look(n=50, answered=60, expected=60), True, "little", id="little traffic"),
        pytest.param(look(n=0, answered=0, expected=0), False, "wait", id="nobody asks"),
        pytest.param(look(n=300, low_s=3.5), False, "bad", id="surely worse"),
        pytest.param(look(n=50, low_s=30.0), False, "wait", id="worse on too few to say"),
        pytest.param(look(answered=400), False, "bad", id="it does not answer"),
        pytest.param(look(latency_ms=4.5), False, "bad", id="slow"),
        pytest.param(look(latency_ms=3.5), False, "good", id="slow within the noise"),
    ],
)
def test_the_verdict_on_a_trial(seen, is_over, kind):
    assert verdict(seen, SETTINGS.rollout, "canary", is_over).kind == kind


def test_when_watched_a_few_fallbacks_are_too_many():
    seen = look(answered=900)
    assert verdict(seen, SETTINGS.rollout, "canary", False).kind == "good"
    assert verdict(seen, SETTINGS.rollout, "watch", False).kind == "bad"
