"""Canary, shadow, promote, abort and rollback on a real Triton: what is live afterwards, and what refuses."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hailtime.errors import DeployError
from hailtime.rollout import Rollout
from hailtime.serving.deploy import FOR_ALL, Aim, abort, aim_candidate, deploy, promote
from hailtime.serving.history import read_history
from hailtime.serving.releases import standings
from hailtime.serving.rollback import rollback
from tests.tiny_run import tiny_model, write_tiny_run
from tests.triton.asking import base_s, served_plan

pytestmark = pytest.mark.triton

SCRIPTS = Path(__file__).parents[2] / "scripts"
CANARY, SHADOW = Aim("canary", 5), Aim("shadow")


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def release(serve, models, tmp_path):
    """release(base_s, aim) deploys a run that answers base_s to a row of which nothing is known."""
    server = serve(models)

    def start(seconds, aim=FOR_ALL, **options):
        run = write_tiny_run(tmp_path / f"run{seconds}", base_s=seconds)
        return deploy(run, models, server.url, aim, **options)

    start.url = server.url
    return start


def plan_of(url):
    return Rollout.from_json(json.dumps(served_plan(url)[1]))


def test_canary_is_promoted_and_the_version_before_stays_loaded(release, models):
    release(100)
    release(200, CANARY)
    assert plan_of(release.url) == Rollout(1, canary=2, canary_percent=5)
    assert promote(models, release.url, why="a day without a complaint") == Rollout(2)
    assert served_plan(release.url)[0] == [1, 2]
    assert (base_s(release.url, 1), base_s(release.url, 2)) == (100, 200)
    assert [change.action for change in read_history(models)] == ["deploy", "canary", "promote"]
    assert read_history(models)[-1].why == "a day without a complaint"


def test_candidate_changes_its_share_and_becomes_a_shadow_and_is_aborted(release, models):
    release(100)
    release(200, SHADOW)
    assert aim_candidate(models, Aim("canary", 25), release.url) == Rollout(1, canary=2, canary_percent=25)
    assert aim_candidate(models, SHADOW, release.url) == Rollout(1, shadow=2)
    assert abort(models, release.url) == Rollout(1)
    assert plan_of(release.url) == Rollout(1)
    assert [(s.version, s.state) for s in standings(models)] == [(2, "retired"), (1, "stable")]


def test_first_version_can_be_no_canary(release, models):
    with pytest.raises(DeployError, match="a canary needs a stable version beside it"):
        release(100, CANARY)
    assert not (models / "pickup_eta/1").exists()


def test_rollback_goes_back_and_further_back_and_to_a_named_version(release, models):
    for seconds in (100, 200, 300):
        release(seconds)
    assert [rollback(models, release.url).stable for _ in range(2)] == [2, 1]
    assert (plan_of(release.url), base_s(release.url, 1)) == (Rollout(1), 100)
    assert rollback(models, release.url, 3, why="it was not the model").stable == 3
    assert base_s(release.url, 3) == 300


def test_rollback_ends_a_canary(release, models):
    release(100)
    release(200)
    release(300, CANARY)
    assert rollback(models, release.url) == Rollout(1)
    assert plan_of(release.url) == Rollout(1)


def test_rollback_works_while_the_newest_version_does_not_load(release, models):
    release(100)
    release(200)
    # rewritten with its manifest, so that it is Triton who finds out
    break_version(models / "pickup_eta/2")
    assert rollback(models, release.url) == Rollout(1)
    assert served_plan(release.url)[0] == [1]
    assert base_s(release.url, 1) == 100


def test_rollback_for_a_server_that_does_not_start(serve, models, tmp_path):
    server = serve(models)
    for seconds in (100, 200):
        deploy(write_tiny_run(tmp_path / f"run{seconds}", base_s=seconds), models, server.url)
    server.kill()
    break_version(models / "pickup_eta/2")
    with pytest.raises(Exception, match="ended with status"):
        serve(models)
    with pytest.raises(DeployError, match="does not answer"):
        rollback(models, server.url)
    assert rollback(models, offline=True) == Rollout(1)
    assert base_s(serve(models).url, 1) == 100


def test_rolled_back_to_version_that_answers_wrongly_is_refused(release, models):
    release(100)
    release(200)
    folder = models / "pickup_eta/1"
    swap_model(folder, tiny_model(base_s=105).SerializeToString())
    with pytest.raises(DeployError, match=r"going back to version 1 failed: .* version 2 still answers"):
        rollback(models, release.url)
    assert (plan_of(release.url), base_s(release.url, 2)) == (Rollout(2), 200)


def break_version(folder):
    swap_model(folder, b"no model")


def swap_model(folder, content):
    (folder / "model.onnx").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["model.onnx"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def slow_model():
    """The tiny formula, and a product of two large matrices that adds nothing."""
    model = tiny_model(base_s=200.0)
    graph, node = model.graph, helper.make_node
    graph.output[0].name, last = "pickup_time_s", next(n for n in graph.node if "pickup_time_s" in n.output)
    last.output[0] = "fast_s"
    graph.node.extend(
        [
            node("ReduceMax", ["day_share"], ["a_number"], keepdims=0),
            node("ConstantOfShape", ["size"], ["zeros"]),
            node("Add", ["zeros", "a_number"], ["matrix"]),
            node("MatMul", ["matrix", "matrix"], ["product"]),
            node("ReduceMean", ["product"], ["mean"], keepdims=0),
            node("Mul", ["mean", "nothing"], ["added"]),
            node("Add", ["fast_s", "added"], ["pickup_time_s"]),
        ]
    )
    graph.initializer.append(numpy_helper.from_array(np.array([400, 400]), "size"))
    graph.initializer.append(numpy_helper.from_array(np.float32(0), "nothing"))
    return model


def test_slow_version_is_refused_with_the_reason_kept(release, models, tmp_path):
    release(100)
    run = write_tiny_run(tmp_path / "slow", base_s=200, model=slow_model())
    with pytest.raises(DeployError, match=r"one row takes it .* the live version .* version 1 still answers"):
        deploy(run, models, release.url)
    assert "one row takes it" in (models / ".quarantine/pickup_eta-2/reason.txt").read_text()
    refused = standings(models)[0]
    assert (refused.version, refused.state, refused.run) == (2, "refused", "slow")
    assert [(gate.name, gate.passed) for gate in refused.gates][-1] == ("latency", False)
    assert plan_of(release.url) == Rollout(1)


def test_what_is_refused_before_it_is_a_version_is_in_the_history_too(release, models, tmp_path):
    release(100)
    run = write_tiny_run(tmp_path / "torn")
    (run / "model.onnx").write_bytes(b"")
    with pytest.raises(DeployError, match="cannot be used"):
        deploy(run, models, release.url)
    assert [(s.version, s.state, s.run) for s in standings(models)][-1] == (None, "refused", "torn")


def test_damaged_stable_version_is_named_with_the_way_out(release, models, tmp_path):
    release(100)
    (models / "pickup_eta/1/model.onnx").write_bytes(b"damaged")
    with pytest.raises(DeployError, match=r"files of version 1 are not .*rollback\.py, or copy"):
        release(200)
    assert base_s(release.url, 1) == 100
    assert not (models / ".quarantine").exists()


def changed_run(small_run, folder, factor):
    """The small run with all its answers multiplied, exported as itself."""
    shutil.copytree(small_run.folder, folder)
    model = onnx.load(folder / "model.onnx")
    (last,) = (node for node in model.graph.node if "pickup_time_s" in node.output)
    last.output[list(last.output).index("pickup_time_s")] = "before_s"
    model.graph.node.append(helper.make_node("Mul", ["before_s", "factor"], ["pickup_time_s"]))
    model.graph.initializer.append(helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]))
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    report = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(report | {"sha256": hashlib.sha256(content).hexdigest()}))
    with np.load(folder / "probe.npz") as probe:
        rows = dict(probe)
    del rows["pickup_time_s"]
    runtime = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    answers = runtime.run(None, {name: a.astype(object) if a.dtype.kind == "U" else a for name, a in rows.items()})[0]
    np.savez(folder / "probe.npz", **rows, pickup_time_s=answers)
    return folder


def test_version_with_a_larger_error_on_later_trips_is_refused_unless_that_is_said(serve, models, small_run, tmp_path):
    server = serve(models)
    deploy(small_run.folder, models, server.url)
    worse = changed_run(small_run, tmp_path / "worse", 1.3)
    with pytest.raises(DeployError, match=r"later trips its mean error is .*--allow-worse lets it through"):
        deploy(worse, models, server.url)
    error = standings(models)[0].gates[-1]
    # the live version's error, as the run's own metrics.json tells it for the same trips
    told_s = json.loads((small_run.folder / "metrics.json").read_text())["network"]["mae_s"]
    assert error.limit == pytest.approx(told_s * 1.01, rel=1e-4)
    assert error.value > error.limit
    assert deploy(worse, models, server.url, allow_worse=True).version == 3
    assert standings(models)[0].gates[-1].text.endswith("let through by --allow-worse")


def test_run_whose_later_trips_are_gone_is_refused(serve, models, small_run, tmp_path):
    server = serve(models)
    deploy(small_run.folder, models, server.url)
    shutil.copytree(small_run.folder, tmp_path / "next")
    (tmp_path / "next/data.json").write_text(json.dumps({"fingerprint": "of other data"}))
    with pytest.raises(DeployError, match=r"must be at hand to compare .*must hold the data of .*--allow-worse"):
        deploy(tmp_path / "next", models, server.url)


def test_scripts_take_a_version_through_its_life(release, models, tmp_path):
    release(100)
    run = write_tiny_run(tmp_path / "next", base_s=200)
    where = ["--repository", models, "--url", release.url]

    def say(script, *words):
        done = subprocess.run([sys.executable, SCRIPTS / script, *words, *where], capture_output=True, text=True)
        return done.stdout or done.stderr

    assert "version 2 answers its share" in say("deploy.py", run, "--canary", "10")
    assert say("deploy.py", "--canary", "50").endswith("version 2 answers 50 %\n")
    assert say("deploy.py", "--promote", "--why", "no complaints") == "version 2 is stable\n"
    assert say("rollback.py", "--why", "complaints") == f"version 1 answers at {release.url}\n"
    assert "must be a canary or a shadow to abort" in say("deploy.py", "--abort")
    assert "there is none" in say("rollback.py") or "there is: 2" in say("rollback.py")
    assert plan_of(release.url) == Rollout(1)
