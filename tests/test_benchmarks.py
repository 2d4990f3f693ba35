"""What the benchmarks judge by: a wrong answer, a row that is missing, memory that grows, a goal that is missed."""

from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks.traffic import Asked

from benchmarks import faults, soak
from hailtime.client import EtaClient, PredictionLog
from tests.small_town import ROW, StandIn

SAID_S = {"first": np.float32([[100, 200, 300], [10, 20, 30]]), "second": np.float32([[101, 202, 303], [11, 22, 33]])}


def asked(said_s, **changed):
    said = Asked(0.0, 0.0, 0.001, 0, 1, "triton", "a:1", "2", said_s, "id", "")
    return said._replace(**changed)


@pytest.fixture
def world(tmp_path):
    models = SimpleNamespace(said_s=SAID_S, rule_s=np.float32([[50, 60, 70]]))
    return SimpleNamespace(models=models, models_of={("a:1", "2"): "second"}, logs=[tmp_path / "log.sqlite"])


@pytest.mark.parametrize(
    ("one", "is_wrong"),
    [
        pytest.param(asked([[101, 202, 303]] * 2), False, id="as its version's file says"),
        pytest.param(asked([[101, 202.1, 303]] * 2), True, id="a tenth of a second off"),
        pytest.param(asked([[100, 200, 300]] * 2), True, id="another version's answer"),
        pytest.param(asked([[101, 202, 303]] * 2, version="3"), True, id="a version nobody deployed"),
        pytest.param(asked([[101, 202, 303], [11, 22, 33]], n_rows=2), False, id="the rows in their order"),
        pytest.param(asked([[101, 202, 303], [101, 202, 303]], n_rows=2), True, id="a row answered twice"),
        pytest.param(asked([[100, 200, 300]] * 2, path="local"), False, id="the local file is the first model"),
        pytest.param(asked([[100, 200, 300]] * 2, path="rule"), True, id="not what the rule says"),
    ],
)
def test_answer_is_held_against_the_file_of_whoever_gave_it(world, one, is_wrong):
    assert faults.is_wrong(one, world) is is_wrong


def test_answers_are_found_in_all_logs(world, tmp_path):
    world.logs += [tmp_path / "moved.sqlite", tmp_path / "never_made.sqlite"]
    for path, request_id in zip(world.logs, ("one", "two"), strict=False):
        with PredictionLog(path) as log, EtaClient(transport=StandIn(), log=log) as client:
            client.predict(ROW, request_id)
    assert faults.logged(world) == {"one", "two"}


def test_every_goal_that_is_missed_is_told():
    said = {"sent": 1000, "answered": 999, "in_time": 998, "wrong": 2, "unlogged": 3, "note": "NOT refused"}
    told = faults.missed({"deadline_ms": 50.0, "faults": {"deploy": said}})
    assert told == [
        "deploy: 1 not answered",
        "deploy: 2 wrong",
        "deploy: 3 not in the log",
        "deploy: 99.80 % within 55 ms",
        "deploy: NOT refused",
    ]
    good = {"sent": 1000, "answered": 1000, "in_time": 999, "wrong": 0, "unlogged": 0, "note": "refused"}
    assert faults.missed({"deadline_ms": 50.0, "faults": {"deploy": good}}) == []


def test_slope_is_that_of_the_quiet_and_warm_samples():
    rng = np.random.default_rng(3)
    minutes = np.arange(0, 30, 1 / 60)
    held = np.where(minutes < 6, 50.0, 100 + 12 * minutes / 60 + rng.normal(0, 0.5, len(minutes)))
    is_quiet = rng.random(len(minutes)) < 0.8
    each = zip(minutes, held, is_quiet, strict=True)
    samples = [soak.Sample(minute, mb if quiet else 1000.0, 0.0, 0.0, bool(quiet)) for minute, mb, quiet in each]
    fitted = is_quiet & (minutes >= samples[-1].minute * soak.WARM_SHARE)
    expected, _ = np.polyfit(minutes[fitted] / 60, held[fitted], 1)
    found = soak.slope(samples, "client")
    assert found["slope_mb_h"] == pytest.approx(expected, abs=0.06)
    assert abs(found["slope_mb_h"] - 12) < found["two_errors_mb_h"] < 1
