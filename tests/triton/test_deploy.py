"""Deploying to a real Triton: what is live afterwards, and that nobody notices a failure."""

import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from hailtime.client import EtaClient
from hailtime.errors import DeployError
from hailtime.serving.deploy import activate, deploy, publish
from tests.tiny_run import store_model, tiny_answers, tiny_model, tiny_rows, write_tiny_run
from tests.triton.asking import ask, base_s, served_plan

pytestmark = pytest.mark.triton

STABLE_1 = {"stable": 1, "canary": None, "canary_percent": 0.0, "shadow": None}


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


def test_deployed_run_is_live_and_says_so(serve, models, tmp_path):
    server = serve(models)
    release = deploy(write_tiny_run(tmp_path / "run"), models, server.url)
    assert served_plan(server.url) == ([1], STABLE_1)
    rows = tiny_rows(16, seed=3)
    np.testing.assert_allclose(ask(server.url, rows, 1), tiny_answers(**rows), rtol=1e-5)
    assert release.version == 1
    assert release.parity_max_abs_s <= 0.001
    assert json.loads((models / "pickup_eta/1/release.json").read_text())["sha256"] == release.sha256


def test_each_deployment_keeps_one_version_before_it(serve, models, tmp_path):
    server = serve(models)
    for seconds in (100, 200, 300):
        deploy(write_tiny_run(tmp_path / f"run{seconds}", base_s=seconds), models, server.url)
    assert served_plan(server.url) == ([2, 3], {**STABLE_1, "stable": 3})
    assert (base_s(server.url, 2), base_s(server.url, 3)) == (200, 300)


def test_earlier_version_can_be_made_stable_again(serve, models, tmp_path):
    server = serve(models)
    for seconds in (100, 200):
        deploy(write_tiny_run(tmp_path / f"run{seconds}", base_s=seconds), models, server.url)
    assert activate(models, 1, server.url).previous == 2
    assert served_plan(server.url) == ([1, 2], STABLE_1)


def other_answers(run):
    store_model(run, tiny_model(base_s=101).SerializeToString())


def nan_answers(run):
    store_model(run, tiny_model(base_s=np.nan).SerializeToString())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(other_answers, "off those in probe.npz, they are 2.000 s off", id="other answers"),
        pytest.param(nan_answers, "they are nan s off", id="NaN answers"),
    ],
)
def test_model_that_answers_otherwise_is_refused_and_quarantined(serve, models, tmp_path, spoil, reason):
    server = serve(models)
    deploy(write_tiny_run(tmp_path / "good"), models, server.url)
    spoil(write_tiny_run(tmp_path / "bad"))
    with pytest.raises(DeployError, match=f"{reason}; version 1 still answers"):
        deploy(tmp_path / "bad", models, server.url)
    assert served_plan(server.url) == ([1], STABLE_1)
    assert base_s(server.url) == 100
    assert reason in (models / ".quarantine/pickup_eta-2/reason.txt").read_text()
    assert not (models / "pickup_eta/2").exists()


def test_truncated_model_is_refused_before_it_is_published(serve, models, tmp_path):
    server = serve(models)
    deploy(write_tiny_run(tmp_path / "good"), models, server.url)
    run = write_tiny_run(tmp_path / "bad")
    store_model(run, (run / "model.onnx").read_bytes()[:-100])
    with pytest.raises(DeployError, match="not a whole ONNX file"):
        deploy(run, models, server.url)
    assert base_s(server.url) == 100
    assert not (models / "pickup_eta/2").exists()


def test_file_that_breaks_after_publishing_is_refused_and_quarantined(serve, models, tmp_path):
    server = serve(models)
    deploy(write_tiny_run(tmp_path / "good"), models, server.url)
    version = publish(write_tiny_run(tmp_path / "bad"), models)
    model = models / f"pickup_eta/{version}/model.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(DeployError, match=r"changed since: model.onnx; version 1 still answers"):
        activate(models, version, server.url)
    assert base_s(server.url) == 100
    assert (models / f".quarantine/pickup_eta-{version}/reason.txt").exists()


def test_model_the_server_cannot_load_leaves_the_old_one_answering(serve, models, tmp_path):
    """The manifest agrees with the broken file, so that it is Triton who refuses it."""
    server = serve(models)
    deploy(write_tiny_run(tmp_path / "good"), models, server.url)
    version = publish(write_tiny_run(tmp_path / "bad"), models)
    folder = models / f"pickup_eta/{version}"
    (folder / "model.onnx").write_bytes(b"no model")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["model.onnx"] = hashlib.sha256(b"no model").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DeployError, match=r"Triton did not load it: .*model\.onnx"):
        activate(models, version, server.url)
    assert served_plan(server.url) == ([1], STABLE_1)
    assert base_s(server.url, 1) == 100


def test_first_deployment_that_fails_leaves_nothing_served(serve, models, tmp_path):
    server = serve(models)
    other_answers(write_tiny_run(tmp_path / "bad"))
    with pytest.raises(DeployError, match="nothing is served, as before"):
        deploy(tmp_path / "bad", models, server.url)
    assert not (models / "pickup_eta/config.pbtxt").exists()
    assert deploy(write_tiny_run(tmp_path / "good"), models, server.url).version == 2


def test_no_request_fails_while_versions_change(serve, models, tmp_path):
    server = serve(models)
    deploy(write_tiny_run(tmp_path / "run0", base_s=100), models, server.url)
    row = {"requested_at": 1_765_000_000, "distance_m": 1.0, "idle_drivers": None, "rain_mm_h": 0.0}
    row |= {"pickup_zone": "north", "product": "xl"}
    seen, failures, done = set(), [], threading.Event()

    def call():
        with EtaClient(server.url, deadline_s=5.0, plan_refresh_s=0.2) as client:
            while not done.is_set():
                try:
                    seen.add(client.predict(row).version)
                except Exception as error:
                    failures.append(error)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for i in range(1, 4):
        deploy(write_tiny_run(tmp_path / f"run{i}", base_s=100 + i), models, server.url)
        time.sleep(0.5)
    done.set()
    for caller in callers:
        caller.join()
    assert not failures
    assert seen == {"1", "2", "3", "4"}


def test_restarted_server_serves_the_same_stable_version(serve, models, tmp_path):
    server = serve(models)
    for seconds in (100, 200):
        deploy(write_tiny_run(tmp_path / f"run{seconds}", base_s=seconds), models, server.url)
    server.stop()
    server.start()
    assert served_plan(server.url) == ([1, 2], {**STABLE_1, "stable": 2})
    assert base_s(server.url, 2) == 200


def test_server_of_another_repository_is_noticed(serve, models, tmp_path):
    server = serve(models)
    deploy(write_tiny_run(tmp_path / "run"), models, server.url)
    other = tmp_path / "other"
    other.mkdir()
    (other / "pickup_eta").mkdir()
    with pytest.raises(DeployError, match="serves another repository"):
        deploy(write_tiny_run(tmp_path / "second"), other, server.url)


def test_deploying_without_a_server_says_how_to_start_one(models, tmp_path):
    models.mkdir()
    with pytest.raises(DeployError, match=r"127.0.0.1:9 does not answer .* python scripts/serve.py"):
        deploy(write_tiny_run(tmp_path / "run"), models, "127.0.0.1:9")
    assert not list(models.iterdir())


def test_deployments_at_the_same_time_happen_one_after_the_other(serve, models, tmp_path):
    server = serve(models)
    runs = [write_tiny_run(tmp_path / f"run{seconds}", base_s=seconds) for seconds in (100, 200, 300)]
    with ThreadPoolExecutor(3) as pool:
        releases = list(pool.map(lambda run: deploy(run, models, server.url), runs))
    assert sorted((r.version, r.previous) for r in releases) == [(1, None), (2, 1), (3, 2)]
    assert served_plan(server.url) == ([2, 3], {**STABLE_1, "stable": 3})


def test_operators_tuning_survives_a_deployment(serve, models, tmp_path):
    server = serve(models)
    deploy(write_tiny_run(tmp_path / "run"), models, server.url)
    config = models / "pickup_eta/config.pbtxt"
    config.write_text(config.read_text().replace("count: 1", "count: 2"))
    deploy(write_tiny_run(tmp_path / "next"), models, server.url)
    assert "count: 2" in config.read_text()


def test_metadata_of_the_tiny_model_is_as_the_contract_says():
    names = [value.name for value in (*tiny_model().graph.input, *tiny_model().graph.output)]
    assert names == ["numeric", "categorical", "requested_at", "pickup_time_s"]
    onnx.checker.check_model(tiny_model(), full_check=True)
