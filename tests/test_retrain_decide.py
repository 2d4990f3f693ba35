"""When retraining is due: the schedule, an alert, new rows, being told to; and what speaks against it."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hailtime import clock
from hailtime.errors import ConfigError
from hailtime.monitoring.store import MonitorStore
from hailtime.retraining.decide import blamed, decide
from hailtime.retraining.retrain import retrain
from hailtime.retraining.settings import RetrainSettings
from hailtime.retraining.state import Retraining, prune, retrainings
from hailtime.rollout import Rollout
from hailtime.serving.history import new_change, write_down
from tests.retrained_city import CONFIGS, make_town, offline_place, town_settings

HOUR_S = 3600


@pytest.fixture(scope="module")
def town(small_run):
    return make_town(small_run.folder)


@pytest.fixture(scope="module")
def place(town, tmp_path_factory):
    return offline_place(tmp_path_factory.mktemp("place"), town)


@pytest.fixture
def settings(place, tmp_path):
    def make(*changes):
        return town_settings(place, "127.0.0.1:1", f"folder={tmp_path / 'retrain'}", "due.every_h=24", *changes)

    return make


def one_before(settings, ago_s, town):
    """A retraining that began and ended so long ago."""
    Path(settings.folder).mkdir(exist_ok=True)
    one = Retraining.begin(settings, "a test", {})
    one.state["began_at_s"] = town.now_s - ago_s
    one.state["outcome"] = {"kind": "live", "why": "", "at_s": town.now_s - ago_s}
    one.save()


def alert(path, town, name="late", is_firing=True, at_s=None):
    message = {"kind": "firing", "at_s": at_s or town.now_s - 5 * HOUR_S, "alerts": [name]}
    MonitorStore(path).set_state(alerts={name: {"is_firing": is_firing}}, messages=[message])


def test_the_first_one_is_due_by_the_schedule(settings, town):
    decision = decide(settings(), town.now_s)
    assert (decision.is_due, decision.why) == (True, "the schedule, every 24 h, never before")
    assert decision.to_s == town.now_s - 3600
    assert decision.rows == 3000


@pytest.mark.parametrize(("ago_h", "is_due"), [(23, False), (25, True)])
def test_the_schedule_counts_from_the_last_one(settings, town, ago_h, is_due):
    one_before(settings(), ago_h * HOUR_S, town)
    decision = decide(settings(), town.now_s)
    assert decision.is_due == is_due
    expected = "the last one 25.0 h ago" if is_due else "nothing is due (every 24 h; alerts late, off"
    assert expected in decision.why


def test_an_alert_that_fires_is_a_reason_and_says_when_the_world_changed(settings, town, tmp_path):
    one_before(settings(), 3 * HOUR_S, town)
    alert(tmp_path / "monitor.sqlite", town, at_s=town.now_s - 20 * HOUR_S)
    decision = decide(settings(f"store={tmp_path / 'monitor.sqlite'}"), town.now_s)
    assert (decision.is_due, decision.why) == (True, "the monitor's alert late is firing")
    assert decision.since_s == town.now_s - 21 * HOUR_S
    since_us = decision.since_s * 1e6
    assert decision.new_rows == town.rows.filter(town.rows["requested_at"] >= since_us).height


RELEASED_S = 1_775_000_000


@pytest.fixture
def released(settings, tmp_path):
    """history(*actions): version 1 was deployed, then what the actions say; an alert fires, which `cause` says why."""

    def history(*actions, cause="release", at_s=RELEASED_S + 900, is_firing=True):
        repository, plan = tmp_path / "models", Rollout(1)
        (repository / "pickup_eta").mkdir(parents=True, exist_ok=True)
        write_down(repository, change("deploy", plan, RELEASED_S - 86_400))
        for number, action in enumerate(actions):
            plan = Rollout(1) if action == "rollback" else Rollout(2 + number)
            write_down(repository, change(action, plan, RELEASED_S + number))
        message = {"kind": "firing", "at_s": at_s, "alerts": ["late"], "cause": cause}
        store = MonitorStore(tmp_path / "monitor.sqlite")
        store.set_state(alerts={"late": {"is_firing": is_firing}}, messages=[message])
        return settings(f"store={tmp_path / 'monitor.sqlite'}", f"repository={repository}")

    return history


def change(action, plan, at_s):
    made = new_change(action, plan.stable, plan, "revision", {}, "")
    return replace(made, at=datetime.fromtimestamp(at_s, UTC).isoformat())


def test_an_alert_that_began_with_a_release_takes_that_version_back(released):
    after = released("deploy")
    assert blamed(after) == "alert late: the error began with version 2, the one before answers again"
    assert retrain(after, dry_run=True).why == f"to roll back: {blamed(after)}"


@pytest.mark.parametrize(
    ("actions", "how"),
    [
        ((), {}),
        (("deploy",), {"cause": "changed world"}),
        (("deploy",), {"is_firing": False}),
        (("deploy",), {"at_s": RELEASED_S - 60}),
        (("deploy", "rollback"), {"at_s": RELEASED_S + 900}),
    ],
    ids=["first version", "another cause", "over", "before the release", "just gone back"],
)
def test_no_version_is_blamed_for_what_it_did_not_begin(released, actions, how):
    assert blamed(released(*actions, **how)) is None


def test_undo_can_be_switched_off(released):
    assert blamed(replace_due(released("deploy"), undo=False)) is None


def replace_due(settings, **how):
    return replace(settings, due=replace(settings.due, **how))


def test_a_broken_feed_is_no_reason(settings, town, tmp_path):
    one_before(settings(), 3 * HOUR_S, town)
    alert(tmp_path / "monitor.sqlite", town, name="missing")
    assert not decide(settings(f"store={tmp_path / 'monitor.sqlite'}"), town.now_s).is_due


def test_few_rows_since_the_change_are_waited_for_unless_told_to_go(settings, town, tmp_path):
    alert(tmp_path / "monitor.sqlite", town, at_s=town.now_s - 3 * HOUR_S)
    young = settings(f"store={tmp_path / 'monitor.sqlite'}")
    waits = decide(young, town.now_s)
    assert not waits.is_due
    assert "since the world changed have their end, 500 are needed: later" in waits.why
    told = decide(young, town.now_s, "a test")
    assert (told.is_due, told.since_s, told.new_rows) == (True, None, 3000)


def test_new_rows_are_a_reason_of_their_own(settings, town):
    enough = settings("due.every_h=null", "due.new_rows=1000")
    assert decide(enough, town.now_s).why == "3,000 new rows since the last one, 1,000 are enough"
    assert not decide(settings("due.every_h=null", "due.new_rows=4000"), town.now_s).is_due


def test_too_few_rows_teach_nothing_even_when_told_to(settings, town):
    decision = decide(settings("window.min_rows=5000"), town.now_s, "a test")
    assert (decision.is_due, decision.why) == (False, "3,000 requests of the window have their end, 5,000 are needed")


def test_a_pause_lies_between_two_unless_told_otherwise(settings, town, tmp_path):
    alert(tmp_path / "monitor.sqlite", town, at_s=town.now_s - 20 * HOUR_S)
    fires = settings(f"store={tmp_path / 'monitor.sqlite'}", "due.pause_h=2")
    one_before(fires, HOUR_S, town)
    assert decide(fires, town.now_s).why == "the last one ended 60 min ago, 2 h are between"
    assert decide(fires, town.now_s, "a test").is_due


def test_nothing_due_and_a_dry_run_leave_nothing(settings, town, monkeypatch):
    monkeypatch.setenv(clock.VARIABLE, str(clock.Played(town.now_s, 1, time.time())))
    told = retrain(settings(), because="a test", dry_run=True)
    assert (told.kind, told.exit_code) == ("due", 0)
    assert not Path(settings().folder).exists()
    nothing = retrain(settings("due.every_h=null", "due.alerts=[]"))
    assert (nothing.kind, nothing.exit_code) == ("nothing", 0)
    assert nothing.why == "nothing is due (no reason is set)"
    assert retrainings(Path(settings().folder)) == []


def test_without_a_live_model_there_is_nothing_to_go_on_from(settings, tmp_path):
    with pytest.raises(ConfigError, match="retraining goes on from a live model"):
        retrain(settings(f"repository={tmp_path}"))


def test_old_folders_go_and_those_of_versions_stay(settings, town):
    for hours in (5, 4, 3, 2):
        one_before(settings(), hours * HOUR_S, town)
    folder = Path(settings().folder)
    (folder / "killed-before-its-first-word").mkdir()
    first = sorted(folder.iterdir())[0]
    prune(folder, 2, {first.resolve()})
    left = [one.folder for one in retrainings(folder)]
    assert len(left) == 3
    assert first in left
    assert not (folder / "killed-before-its-first-word").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("gates.margn=1", r"no setting 'gates\.margn', did you mean 'margin'"),
        ("keep=many", "keep must be a whole number, got 'many'"),
        ("start=cold", "start must be one of warm, fresh"),
        ("rollout=slowly", "rollout is a group of settings"),
        ("rollout.stages=[shadow, party]", r"rollout\.stages must be one of shadow, canary, watch, got 'party'"),
        ("parts.test=0.9", "parts must be shares above 0 that leave some rows"),
        ("due.every_h=-1", r"due\.every_h must be 0 or more"),
        ("gates", "a change is KEY=VALUE"),
    ],
)
def test_a_wrong_setting_is_told_with_the_way_out(change, message):
    with pytest.raises(ConfigError, match=message):
        RetrainSettings.read(CONFIGS / "retrain.yaml", [change])


def test_settings_come_back_from_the_state_as_they_were():
    settings = RetrainSettings.read(CONFIGS / "retrain.yaml", ["rollout=direct", "gates.margin=0"])
    assert RetrainSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert settings.rollout.stages == []
    assert "off" in settings.due.alerts
