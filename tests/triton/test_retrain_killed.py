"""kill -9 in the middle of a retraining, on a real Triton: the live model is as it was, and the next run finishes it."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from hailtime import clock
from hailtime.retraining.settings import RetrainSettings
from hailtime.retraining.state import retrainings
from hailtime.rollout import Rollout
from hailtime.serving.config_file import read_served
from hailtime.serving.deploy import deploy
from hailtime.serving.places import present_versions
from hailtime.serving.releases import is_settled
from tests.killing import Killer
from tests.retrained_city import make_town, town_settings, write_log
from tests.triton.asking import served_plan

pytestmark = pytest.mark.triton

IMPORTS = """
import hailtime.evaluate, hailtime.export, hailtime.preparation.from_config, hailtime.retraining.rollout
import hailtime.retraining.gates, hailtime.retraining.scratch, hailtime.training.warm_start, hailtime.training.train
from hailtime.retraining.retrain import retrain
from hailtime.retraining.settings import RetrainSettings
"""
# How many changes each try may make to the folder until it is killed. They go on where the one before was, and the
# numbers are such that each gets a little further: into every step of a retraining.
TRIES = (3, 12, 40, 30, 14, 30, 24, 12, 24, 16, 16, 20)
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
        for n in TRIES:
            assert killer.kill_at(n, tmp_path, code), f"it ended after {killed_in}"
            killed_in.append(len(steps_done(settings)))
            assert served_plan(server.url)[1]["stable"] == read_served(models).rollout.stable
        assert not killer.kill_at(10**9, tmp_path, code)
    (one,) = retrainings(Path(settings.folder))
    print(killed_in, list(one.state["steps"]))
    assert one.outcome["kind"] == "live"
    assert read_served(models).rollout == Rollout(present_versions(models)[-1])
    check_nothing_left(settings, models)


def steps_done(settings: RetrainSettings):
    found = retrainings(Path(settings.folder))
    return list(found[-1].state["steps"]) if found else []


def check_nothing_left(settings: RetrainSettings, models: Path):
    """No candidate, no half-written files, no scratch server."""
    assert is_settled(models)
    folder = Path(settings.folder)
    (one,) = (path for path in folder.iterdir() if path.is_dir())
    hidden = [path for path in one.rglob(".*") if path.name != ".data.lock"]
    assert [str(path.relative_to(one)) for path in hidden] == []
    assert not (one / "scratch").exists()
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(one) not in processes
    assert json.loads((one / "report.json").read_text())["outcome"]["kind"] == "live"
    assert os.listdir(models / ".quarantine") == [] if (models / ".quarantine").exists() else True
