"""A whole retraining on a real Triton: it wins and goes live, it is refused, it is rolled back, another one waits."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hailtime import clock
from hailtime.errors import DeployError
from hailtime.locking import locked
from hailtime.monitoring.store import MonitorStore
from hailtime.retraining.retrain import Busy, retrain
from hailtime.retraining.settings import RetrainSettings
from hailtime.retraining.state import retrainings
from hailtime.rollout import Rollout
from hailtime.serving.config_file import read_served
from hailtime.serving.deploy import deploy
from hailtime.serving.history import read_history
from tests.retrained_city import CONFIGS, longer, make_town, offline_place, town_settings, write_log
from tests.triton.asking import served_plan

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]
HOURS_A_SECOND = 0.25
STAGES = ("rollout.shadow_h=9", "rollout.canary_h=9", "rollout.watch_h=9", "rollout.rows=200", "rollout.min_rows=50")


@pytest.fixture(scope="session")
def town(small_run):
    return make_town(small_run.folder)


@pytest.fixture(scope="session")
def judged(town, tmp_path_factory):
    """A retraining that has passed its gates, and found no server to roll out to."""
    folder = offline_place(tmp_path_factory.mktemp("judged"), town)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(clock.VARIABLE, str(clock.Played(town.now_s, 1, time.time())))
        with pytest.raises(DeployError, match="needs a running server"):
            retrain(town_settings(folder), because="a test")
    (one,) = retrainings(folder / "retrain")
    assert list(one.state["steps"]) == ["data", "train", "judge", "gates"]
    return one


def goes_on(judged, settings):
    """What becomes of that retraining in another place, from its rollout on."""
    folder = shutil.copytree(judged.folder, Path(settings.folder) / judged.id)
    state = {**judged.state, "settings": settings.to_dict(), "began_at_s": clock.now()}
    (folder / "state.json").write_text(json.dumps(state))
    return retrain(settings)


@pytest.fixture
def at(town, monkeypatch):
    """Has the city's clock show the moment after the log, and go a quarter of an hour a second."""
    monkeypatch.setenv(clock.VARIABLE, str(clock.Played(town.now_s, 3600 * HOURS_A_SECOND, time.time())))


@pytest.fixture
def live(at, serve, town, tmp_path):
    """A server that answers by the town's first model, and what was asked of it so far."""
    (tmp_path / "models").mkdir()
    server = serve(tmp_path / "models")
    deploy(town.run, tmp_path / "models", server.url)
    write_log(tmp_path / "log.sqlite", town, town.rows)
    return server


class Riders:
    """A backend of its own that asks on and on, and tells its log at once what happened.

    Another process, as it would be: two SQLite libraries in one (Python's, and ADBC's that retraining reads with) undo
    each other's locks.
    """

    def __init__(self, url, log, rows, schema):
        self._rows = log.with_name("riders.json")
        names = [*schema.numeric_names, *schema.categorical_names, schema.target]
        self._rows.write_text(json.dumps(rows.sample(500, seed=1).select(names).to_dicts()))
        self._command = [sys.executable, "-c", RIDERS, url, str(log), str(self._rows)]

    def __enter__(self):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout.readline() == "riding\n"
        return self

    def __exit__(self, *_):
        told, _ = self._process.communicate("")
        self.asked, self.failed = map(int, told.split())


RIDERS = """
import json, select, sys, time
from hailtime import clock
from hailtime.client import EtaClient
from hailtime.client.prediction_log import PredictionLog

rows, asked, failed = json.load(open(sys.argv[3])), 0, 0
with (
    PredictionLog(sys.argv[2], features="all") as log,
    EtaClient(sys.argv[1], deadline_s=5.0, log=log, plan_refresh_s=0.2) as client,
):
    print("riding", flush=True)
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        row = dict(rows[asked % len(rows)])
        seconds = row.pop("pickup_time_s")
        said = client.predict({**row, "requested_at": int(clock.now())})
        asked, failed = asked + 1, failed + (said.path != "triton")
        log.report_actual(said.request_id, seconds)
print(asked, failed)
"""


def test_the_better_challenger_goes_live_by_shadow_and_canary(live, judged, town, tmp_path):
    settings = town_settings(tmp_path, live.url, "rollout.stages=[shadow, canary, watch]", *STAGES)
    riders = Riders(live.url, tmp_path / "log.sqlite", town.rows, town.schema)
    with riders:
        outcome = goes_on(judged, settings)
    assert (outcome.kind, outcome.exit_code) == ("live", 0), outcome.why
    assert riders.failed == 0
    assert served_plan(live.url)[1]["stable"] == 2
    history = read_history(tmp_path / "models")
    assert [change.action for change in history] == ["deploy", "shadow", "canary", "promote"]
    assert all(f"retrain {outcome.folder.name}" in change.why for change in history[1:])
    told = json.loads((outcome.folder / "report.json").read_text())
    assert [told["steps"][f"{name}"]["verdict"] for name in ("shadow_look", "canary_look", "watch")] == ["good"] * 3
    overall = told["steps"]["judge"]["overall"]
    assert overall["high_s"] < 0
    page = (outcome.folder / "report.html").read_text()
    assert "The new version is live" in page
    assert f"{overall['challenger_mae_s']:.2f} s against" in page
    assert not (outcome.folder / "scratch").exists()
    assert retrain(settings).kind == "nothing"


def test_a_challenger_that_learnt_nothing_is_refused_and_the_reason_kept(live, town, tmp_path):
    outcome = retrain(town_settings(tmp_path, live.url, "train.optimizer.lr=1e-9"), because="a test")
    assert (outcome.kind, outcome.exit_code) == ("refused", 10)
    assert "surely below 0" in outcome.why
    assert read_served(tmp_path / "models").rollout == Rollout(1)
    last = read_history(tmp_path / "models")[-1]
    assert (last.action, last.version, last.run) == ("refuse", None, outcome.folder.name)
    assert [gate.name for gate in last.gates if not gate.passed] == ["better"]
    assert "Refused" in (outcome.folder / "report.html").read_text()


def test_a_promoted_version_that_fares_worse_live_is_rolled_back(live, judged, town, tmp_path):
    """It learnt that pickups take longer; as soon as it is live, they do not any more."""
    settings = town_settings(tmp_path, live.url, "rollout.stages=[watch]", *STAGES)
    riders = Riders(live.url, tmp_path / "log.sqlite", longer(town.rows, -150.0), town.schema)
    with riders:
        outcome = goes_on(judged, settings)
    assert (outcome.kind, outcome.exit_code) == ("rolled_back", 11)
    assert "live error is too large" in outcome.why
    assert riders.failed == 0
    assert served_plan(live.url)[1] == {"stable": 1, "canary": None, "canary_percent": 0.0, "shadow": None}
    assert [change.action for change in read_history(tmp_path / "models")] == ["deploy", "deploy", "rollback"]


def test_a_shadow_that_fares_worse_is_heard_by_nobody(live, judged, town, tmp_path):
    settings = town_settings(tmp_path, live.url, "rollout.stages=[shadow, canary]", *STAGES)
    with Riders(live.url, tmp_path / "log.sqlite", longer(town.rows, -150.0), town.schema):
        outcome = goes_on(judged, settings)
    assert outcome.exit_code == 10
    assert [change.action for change in read_history(tmp_path / "models")] == ["deploy", "shadow", "abort"]


def test_a_version_that_an_alert_blames_goes_whoever_deployed_it(live, town, tmp_path):
    deploy(town.run, tmp_path / "models", live.url, why="by hand")
    store = tmp_path / "monitor.sqlite"
    message = {"kind": "firing", "at_s": clock.now() + 600, "alerts": ["late"], "cause": "release"}
    MonitorStore(store).set_state(alerts={"late": {"is_firing": True}}, messages=[message])
    settings = town_settings(tmp_path, live.url, f"store={store}", "due.every_h=null")
    outcome = retrain(settings)
    assert (outcome.kind, outcome.exit_code) == ("rolled_back", 11)
    assert served_plan(live.url)[1]["stable"] == 1
    last = read_history(tmp_path / "models")[-1]
    assert (last.action, last.why) == ("rollback", f"retrain: {outcome.why}")
    again = retrain(settings)
    assert (again.kind, again.why) == ("nothing", "nothing is due (alerts late, off, inputs_moved, new_values)")


def test_another_retraining_that_is_running_is_waited_for_by_the_scheduler(live, town, tmp_path):
    settings = town_settings(tmp_path, live.url)
    Path(settings.folder).mkdir()
    changes = [f"{name}={value}" for name, value in settings.to_dict().items() if isinstance(value, str)]
    command = [sys.executable, ROOT / "scripts/retrain.py", "--because", "a test", *changes]
    with locked(Path(settings.folder) / ".lock", Busy):
        said = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True
        )
    assert said.returncode == 75, said.stderr
    assert "another process has held" in said.stderr
    assert [*Path(settings.folder).iterdir()] == [Path(settings.folder) / ".lock"]


def test_a_dry_run_tells_and_changes_nothing(live, town, tmp_path):
    settings = RetrainSettings.read(
        CONFIGS / "retrain.yaml",
        [f"log={tmp_path / 'log.sqlite'}", f"repository={tmp_path / 'models'}", f"folder={tmp_path / 'retrain'}"],
    )
    outcome = retrain(settings, because="a test", dry_run=True)
    assert (outcome.kind, outcome.why) == ("due", "told to: a test")
    assert not (tmp_path / "retrain").exists()
    assert [change.action for change in read_history(tmp_path / "models")] == ["deploy"]
