"""MLflow, the real one on a real SQLite file: runs compare, aliases follow the plan, and its failure fails nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hailtime.errors import ConfigError
from hailtime.rollout import Rollout
from hailtime.serving.config_file import Served, store_config, write_config
from hailtime.serving.repository import publish
from hailtime.tracking import follow, track

pytest.importorskip("mlflow", reason="needs MLflow: pip install 'hailtime[mlflow]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

ROOT = Path(__file__).parents[1]
NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture(scope="module")
def runs(small_run, tmp_path_factory):
    """A run, and another one that began later and came out one second better."""
    home = tmp_path_factory.mktemp("tracked")
    first, second = (shutil.copytree(small_run.folder, home / name) for name in ("first", "second"))
    origin, metrics = (json.loads((second / name).read_text()) for name in ("origin.json", "metrics.json"))
    (second / "origin.json").write_text(json.dumps({**origin, "began_at": "2026-05-01T00:00:00+00:00"}))
    metrics["network"]["mae_s"] -= 1.0
    (second / "metrics.json").write_text(json.dumps(metrics))
    return first, second


@pytest.fixture(scope="module")
def store(runs, tmp_path_factory):
    """A database that both runs were brought into, twice."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    track(uri, runs)
    track(uri, runs)
    return uri


@pytest.fixture
def client(store):
    from mlflow.tracking import MlflowClient

    return MlflowClient(store, store)


def tracked(client):
    experiment = client.get_experiment_by_name("hailtime").experiment_id
    return {run.info.run_name: run for run in client.search_runs([experiment])}


def test_two_runs_compare_and_are_there_once(client, runs, small_run):
    found = tracked(client)
    assert sorted(found) == ["first", "second"]
    first, second = found["first"].data, found["second"].data
    assert first.metrics["test/mae_s"] - second.metrics["test/mae_s"] == pytest.approx(1.0)
    assert first.metrics["test_rule/mae_s"] > 0
    assert first.params["network.width"] == second.params["network.width"] == "64"
    assert first.tags["hailtime.data"] == small_run.prepared.fingerprint


def test_every_epoch_and_the_files_are_there(client, runs):
    run = tracked(client)["first"].info
    history = (runs[0] / "history.csv").read_text().splitlines()[1:]
    assert len(client.get_metric_history(run.run_id, "val/mae_s")) == len(history)
    assert run.status == "FINISHED"
    names = {entry.path for entry in client.list_artifacts(run.run_id)}
    assert {"model.onnx", "config.yaml", "plots"} <= names
    copied = Path(run.artifact_uri.removeprefix("file://")) / "model.onnx"
    assert copied.read_bytes() == (runs[0] / "model.onnx").read_bytes()


def test_aliases_follow_the_plan(client, store, runs, small_run, tmp_path):
    versions = [publish(run, tmp_path) for run in runs]
    assert versions == [1, 2]

    def aliases(plan):
        store_config(tmp_path, Served.from_text(write_config(small_run.schema, (1, 2), plan)))
        track(store, repository=tmp_path)
        named = client.get_registered_model("pickup_eta").aliases
        tags = {name: client.get_model_version("pickup_eta", version).tags for name, version in named.items()}
        return {name: found["hailtime.version"] for name, found in tags.items()}

    assert aliases(Rollout(1)) == {"champion": "1"}
    assert aliases(Rollout(1, canary=2, canary_percent=5.0)) == {"champion": "1", "challenger": "2"}
    assert aliases(Rollout(2)) == {"champion": "2"}
    assert aliases(Rollout(1)) == {"champion": "1"}
    registered = client.search_model_versions("name = 'pickup_eta'")
    assert len(registered) == 2
    assert registered[0].run_id in {run.info.run_id for run in tracked(client).values()}


def test_two_first_starts_at_once_make_one_experiment(runs, tmp_path):
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'new.db'}"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    words = [sys.executable, "-W", "ignore", ROOT / "scripts/track.py"]
    both = [subprocess.Popen([*words, run], env=environment, stderr=subprocess.PIPE, text=True) for run in runs]
    for process in both:
        _, told = process.communicate()
        assert process.returncode == 0, told


def test_an_mlflow_that_is_not_there_is_a_warning_with_the_way_out(runs, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    follow([runs[0]])
    assert "not tracked in MLflow" in caplog.text
    assert f"later: python scripts/track.py {runs[0]}" in caplog.text


def test_a_training_does_not_fail_with_it(small_run, tmp_path):
    environment = {**os.environ, "MLFLOW_TRACKING_URI": NOBODY, "PYTHONPATH": str(ROOT / "src")}
    words = ["experiment=smoke", "run_name=x", "trainer.max_epochs=1", f"prepared={small_run.prepared.folder}"]
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "not tracked in MLflow" in done.stdout + done.stderr


def test_without_the_variable_nothing_is_loaded(runs, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = """import sys; from pathlib import Path; from hailtime.tracking import follow
follow([Path('.')]); print('mlflow' in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_to_install_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(ConfigError, match=r"pip install 'hailtime\[mlflow\]'"):
        track("sqlite:///x.db")
