"""The embedded Triton as a process, and what its backend does with good and with bad requests."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from hailtime.errors import ServerError
from hailtime.serving.deploy import deploy
from hailtime.serving.triton import TritonServer
from tests.tiny_run import tiny_answers, tiny_rows, write_tiny_run
from tests.triton.asking import KINDS, ask, key_of, one_row

pytestmark = pytest.mark.triton

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def live(installation, tmp_path_factory):
    """A server with one version that only answers; no test of this file changes it."""
    folder = tmp_path_factory.mktemp("live")
    with TritonServer(folder / "models", grpc_port=0, http_port=0, metrics_port=0, installation=installation) as server:
        deploy(write_tiny_run(folder / "run"), folder / "models", server.url)
        yield server


def processes_of(server):
    """Ids of the processes whose command names this server's id: the server and its backend's stubs."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if server._id.encode() in command:
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize("n", [1, 2, 64, 4096])
def test_answers_are_those_of_the_formula(live, n):
    rows = tiny_rows(n, seed=n)
    np.testing.assert_allclose(ask(live.url, rows), tiny_answers(**rows), rtol=1e-5)


def test_requests_that_wait_together_each_get_their_own_answer(live):
    sizes = [1, 3, 7, 2] * 25
    batches = [tiny_rows(n, seed=i) for i, n in enumerate(sizes)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda rows: ask(live.url, rows), batches))
    for rows, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer, tiny_answers(**rows), rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 3.4e38], ids=str)
def test_extreme_numbers_do_not_end_the_server(live, value):
    ask(live.url, one_row(numeric=np.full((1, 3), value, np.float32)))
    assert ask(live.url, one_row()).shape == (1, 3)


@pytest.mark.parametrize(
    "category", [b"\xff\xfe", b"nor\xc3", b"a\0b", b"\0", b"x" * 100_000, "Łódź ☃".encode()], ids=range(6)
)
def test_category_in_no_vocabulary_is_answered_as_unknown(live, category):
    rows = one_row(categorical=np.array([[category, b"standard"]], dtype=np.object_))
    unknown = one_row(categorical=np.array([["", "standard"]]))
    np.testing.assert_allclose(ask(live.url, rows), tiny_answers(**unknown), rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "kinds", "version", "message"),
    [
        pytest.param({"numeric": np.zeros((1, 4), np.float32)}, {}, "", r"Expected \[-1,3\], got \[1,4\]", id="width"),
        pytest.param({"numeric": np.zeros((1, 3, 1), np.float32)}, {}, "", r"got \[1,3,1\]", id="shape"),
        pytest.param(
            {"numeric": np.zeros((1, 3), np.float64)}, {"numeric": "FP64"}, "", "expects 'FP32'|FP64", id="type"
        ),
        pytest.param({"numeric": np.zeros((2, 3), np.float32)}, {}, "", "batch", id="rows that do not match"),
        pytest.param({}, {}, "7", "version 7", id="version"),
        pytest.param(tiny_rows(4097), {}, "", "4096", id="too many rows"),
    ],
)
def test_wrong_request_is_refused_with_a_message(live, rows, kinds, version, message):
    with pytest.raises(InferenceServerException, match=message):
        ask(live.url, one_row(**rows), version, {**KINDS, **kinds})
    assert ask(live.url, one_row()).shape == (1, 3)


def test_stop_leaves_no_process_and_no_shared_memory(serve, tmp_path):
    server = serve(tmp_path / "models")
    deploy(write_tiny_run(tmp_path / "run"), tmp_path / "models", server.url)
    give_up_at = time.monotonic() + 10
    while len(processes_of(server)) > 2 and time.monotonic() < give_up_at:
        time.sleep(0.05)  # the process that was loaded for the gates is still ending
    assert len(processes_of(server)) == 2
    assert list(Path("/dev/shm").glob(f"{server._id}*"))
    server.stop()
    assert not server.is_running
    assert not processes_of(server)
    assert not list(Path("/dev/shm").glob(f"{server._id}*"))


def test_stop_after_the_server_was_killed_ends_its_stubs(serve, tmp_path):
    server = serve(tmp_path / "models")
    deploy(write_tiny_run(tmp_path / "run"), tmp_path / "models", server.url)
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    time.sleep(0.1)
    assert not processes_of(server)


def test_taken_port_is_named_with_the_way_out(live, installation, tmp_path):
    port = int(live.url.rpartition(":")[2])
    second = TritonServer(tmp_path, grpc_port=port, http_port=0, metrics_port=0, installation=installation)
    with pytest.raises(ServerError, match=rf"grpc port {port} .* --grpc-port"):
        second.start()
    assert not second.is_running


def test_server_that_cannot_start_shows_the_end_of_its_log(serve, tmp_path):
    folder = tmp_path / "pickup_eta"
    folder.mkdir()
    (folder / "config.pbtxt").write_text("this is no config")
    with pytest.raises(ServerError, match=r"(?s)ended with status 1 .*pickup_eta"):
        serve(tmp_path)


def test_health_and_metrics_are_served(live):
    with urllib.request.urlopen(f"http://{live.http_url}/v2/health/ready") as answer:
        assert answer.status == 200
    with urllib.request.urlopen(live.metrics_url) as answer:
        assert b"nv_inference_request_success" in answer.read()


def test_strangers_model_in_the_repository_is_not_loaded_by_itself(live):
    with InferenceServerClient(live.url) as client:
        states = {
            model.name: model.state
            for model in client.get_model_repository_index(headers=key_of(live.repository)).models
        }
    assert states == {"pickup_eta": "READY"}


def test_scripts_serve_deploy_and_stop_on_sigterm(installation, tmp_path):
    ports = ["--grpc-port=0", "--metrics-port=0"]
    write_tiny_run(tmp_path / "run")
    serving = subprocess.Popen(
        [sys.executable, SCRIPTS / "serve.py", f"--repository={tmp_path / 'models'}", *ports],
        stdout=subprocess.PIPE,
        text=True,
    )
    told = dict(line.split(None, 1) for line in iter(serving.stdout.readline, "Ctrl-C stops it\n"))
    url = told["gRPC:"].strip()
    command = [
        sys.executable,
        SCRIPTS / "deploy.py",
        tmp_path / "run",
        "--repository",
        tmp_path / "models",
        "--url",
        url,
    ]
    deployed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert deployed.stdout.startswith(f"version 1 answers at {url}\n")
    serving.terminate()
    assert serving.communicate(timeout=20)[0].endswith("stopped\n")
    assert serving.returncode == 0
    refused = subprocess.run(command, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.fullmatch(r"DeployError: a deployment needs a running server, .*\n", refused.stderr)
