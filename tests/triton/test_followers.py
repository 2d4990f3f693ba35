"""Servers that follow the repository which the deployments of another change; and Triton as a process by itself."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import grpc
import pytest

from hailtime.client import EtaClient
from hailtime.serving.deploy import deploy
from hailtime.serving.rollback import rollback
from hailtime.serving.triton import pick_ports

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]


def row_of(run):
    rows = run.prepared.part("test").head(1).select(run.schema.input_names)
    return rows.with_columns(rows[run.schema.requested_at] // 1_000_000).to_dicts()[0]


def wait_for(true, wait_s=30.0):
    until = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < until, f"not within {wait_s:g} s"
        time.sleep(0.2)


def followed(repository, beside):
    """As a cluster mounts it: the model's folder alone, because a server that polls takes every folder for a model."""
    beside.mkdir()
    (repository / "pickup_eta").mkdir(parents=True, exist_ok=True)
    (beside / "pickup_eta").symlink_to(repository / "pickup_eta")
    return beside


def test_a_follower_starts_empty_and_takes_deployments_and_rollbacks_without_a_failed_request(
    serve, small_run, tmp_path
):
    models = tmp_path / "models"
    gate = serve(models)
    follower = serve(followed(models, tmp_path / "followed"), poll_s=1)
    deploy(small_run.folder, models, gate.url)
    row, versions, failures, stop = row_of(small_run), [], [], threading.Event()
    with EtaClient(follower.url, 10, plan_refresh_s=0.2, answer_by_rule=False) as client:
        client.wait_ready(30)

        def ask():
            while not stop.is_set():
                try:
                    versions.append(client.predict(row).version)
                except Exception as error:
                    failures.append(repr(error))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            deploy(small_run.folder, models, gate.url)
            wait_for(lambda: versions and versions[-1] == "2")
            rollback(models, gate.url)
            wait_for(lambda: versions[-1] == "1")
        finally:
            stop.set()
            asking.join()
    assert failures == []
    assert len(versions) > 100


def test_triton_speaks_the_health_service_that_kubernetes_probes(serve, tmp_path):
    server = serve(tmp_path / "models")
    with grpc.insecure_channel(server.url) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=10) == b"\x08\x01"  # HealthCheckResponse: status SERVING


def test_the_autoscalers_metrics_are_what_triton_exposes(serve, small_run, tmp_path):
    server = serve(tmp_path / "models")
    deploy(small_run.folder, server.repository, server.url)
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        exposed = answer.read().decode()
    wanted = set(re.findall(r"nv_\w+", (ROOT / "deploy" / "kubernetes" / "prometheus_adapter.yaml").read_text()))
    assert wanted == {"nv_inference_queue_duration_us", "nv_inference_request_success"}
    assert all(re.search(rf"^{name}\{{.*model=.pickup_eta", exposed, re.MULTILINE) for name in wanted)


def test_serve_exec_becomes_triton_itself_which_sigterm_ends_in_order(installation, small_run, tmp_path):
    ports = pick_ports("127.0.0.1", {"grpc": 0, "metrics": 0})
    command = [sys.executable, ROOT / "scripts" / "serve.py", "--exec", "--repository", tmp_path / "models"]
    command += ["--grpc-port", str(ports["grpc"]), "--metrics-port", str(ports["metrics"])]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        with EtaClient(f"127.0.0.1:{ports['grpc']}", 10, answer_by_rule=False) as client:
            wait_for(lambda: b"Started GRPCInferenceService" in (tmp_path / "log").read_bytes())
            assert Path(f"/proc/{process.pid}/exe").resolve().name == "tritonserver"
            deploy(small_run.folder, tmp_path / "models", f"127.0.0.1:{ports['grpc']}")
            client.wait_ready(30)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
