"""kill -9 in the middle of a retraining, on a real Triton: the live model answers on, the next run finishes it."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from hailtime import clock
from hailtime.retraining.champion import INPUTS, Champion
from hailtime.retraining.settings import RetrainSettings
from hailtime.retraining.state import retrainings
from hailtime.rollout import Rollout
from hailtime.serving.config_file import read_served
from hailtime.serving.control import TritonControl
from hailtime.serving.deploy import deploy
from hailtime.serving.places import present_versions
from hailtime.serving.releases import is_settled
from hailtime.training.features import raw_inputs
from tests.killing import Killer
from tests.retrained_city import make_town, town_settings, write_log
from tests.triton.asking import served_plan

pytestmark = pytest.mark.triton

IMPORTS = """
import hailtime.evaluate, hailtime.export, hailtime.preparation.from_config, hailtime.retraining.rollout
import hailtime.retraining.gates, hailtime.retraining.scratch, hailtime.training.warm_start, hailtime.training.train
from hailtime.retraining.retrain import retrain
from hailtime.retraining.champion import INPUTS, Champion
from hailtime.retraining.settings import RetrainSettings
"""
# About how many changes to the folder each step makes, and the steps in whose middle a try is killed, so many changes
# after it began. A try goes on where the one before was.
CHANGES = {"data": 20, "train": 41, "judge": 2, "gates": 42, "shadow": 34, "shadow_look": 2, "canary": 16}
CHANGES |= {"canary_look": 2, "promote": 16, "watch": 2}
POINTS = [("data", 4), ("data", 15), ("train", 10), ("train", 20), ("gates", 9), ("gates", 25), ("shadow", 12)]
POINTS += [("shadow", 18), ("canary", 12), ("canary", 14), ("promote", 14), ("promote", 8)]
NO_WAIT = ("rollout.stages=[shadow, canary, watch]", "rollout.shadow_h=0", "rollout.canary_h=0", "rollout.watch_h=0")


def test_killed_at_twelve_points_it_goes_on_and_leaves_nothing_behind(small_run, serve, tmp_path, monkeypatch):
    town = make_town(small_run.folder)
    monkeypatch.setenv(clock.VARIABLE, str(clock.Played(town.now_s, 1, time.time())))
    models = tmp_path / "models"
    models.mkdir()
    server = serve(models)
    deploy(town.run, models, server.url)
    write_log(tmp_path / "log.sqlite", town, town.rows)
    settings = town_settings(tmp_path, server.url, *NO_WAIT)
    code = f"retrain(RetrainSettings.from_dict({settings.to_dict()!r}), because='a test')"
    killed_in = []
    with Killer(IMPORTS) as killer:
        for step, n in POINTS:
            before = steps_done(settings)
            missing = [name for name in list(CHANGES)[: list(CHANGES).index(step)] if name not in before]
            assert killer.kill_at(sum(CHANGES[name] for name in missing) + n, tmp_path, code), (
                f"ended after {killed_in}"
            )
            killed_in.append(len(steps_done(settings)))
            check_live(server.url, models, town, "canary_look" in steps_done(settings))
        assert not killer.kill_at(10**9, tmp_path, code)
    (one,) = retrainings(Path(settings.folder))
    assert len(set(killed_in)) >= 6, killed_in
    print(killed_in, len(present_versions(models)))
    assert one.outcome["kind"] == "live"
    assert read_served(models).rollout == Rollout(present_versions(models)[-1])
    check_nothing_left(settings, models)


def check_live(url, models, town, may_be_new):
    """The stable version answers as its file does, and is the first one until it may be another."""
    told, held = served_plan(url)[1]["stable"], read_served(models).rollout.stable
    assert {told, held} == {1} or may_be_new
    some = town.rows.head(20)
    with TritonControl(url, models) as control:
        said = control.ask(told, dict(zip(INPUTS, raw_inputs(town.schema, some), strict=True)))
    assert said == pytest.approx(Champion.of(models, told).answers(some), abs=0.01)


def steps_done(settings: RetrainSettings):
    found = retrainings(Path(settings.folder))
    return list(found[-1].state["steps"]) if found else []


def check_nothing_left(settings: RetrainSettings, models: Path):
    """No candidate, no half-written files, no scratch server."""
    assert is_settled(models), [*(models / "pickup_eta").iterdir()]
    folder = Path(settings.folder)
    (one,) = (path for path in folder.iterdir() if path.is_dir())
    hidden = [path for path in one.rglob(".*") if path.name != ".data.lock"]
    assert [str(path.relative_to(one)) for path in hidden] == []
    assert not (one / "scratch").exists()
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(one) not in processes
    assert json.loads((one / "report.json").read_text())["outcome"]["kind"] == "live"
    assert not [*models.glob(".quarantine/*")]
