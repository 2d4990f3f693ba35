"""Asking as docs/protocol.md says, without our client: its blocks of code as they stand, what it claims, and Java."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from hailtime.rollout import Rollout
from hailtime.serving.deploy import Aim, deploy
from hailtime.serving.triton import TritonServer
from tests.tiny_run import write_tiny_run
from tests.triton.asking import ask, one_row

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
ROW = {"distance_m": 12.5, "rain_mm_h": 2, "pickup_zone": 'north "\\☃', "product": "xl", "requested_at": 1_775_133_000}


@pytest.fixture(scope="module")
def city(installation, small_run, tmp_path_factory):
    """A server of the simulated city, as the examples ask it."""
    models = tmp_path_factory.mktemp("city") / "models"
    with TritonServer(models, grpc_port=0, http_port=0, metrics_port=0, installation=installation) as server:
        deploy(small_run.folder, models, server.url)
        yield server


@pytest.fixture(scope="module")
def with_canary(installation, tmp_path_factory):
    """A server of the tiny model: version 1 starts at 100 s, version 2, the canary of half the requests, at 200 s."""
    folder = tmp_path_factory.mktemp("canary")
    models = folder / "models"
    with TritonServer(models, grpc_port=0, http_port=0, metrics_port=0, installation=installation) as server:
        deploy(write_tiny_run(folder / "stable"), models, server.url)
        deploy(write_tiny_run(folder / "canary", base_s=200), models, server.url, Aim("canary", 50))
        yield server


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PROTOCOL, re.DOTALL)


def curl(command, server):
    command = command.replace("127.0.0.1:8000", server.http_url).replace("--max-time 0.5", "--max-time 20")
    return json.loads(subprocess.run(["bash", "-euc", command], capture_output=True, check=True, text=True).stdout)


def post(server, numbers, version=1, path="infer", texts='["Old Town", "centre", "standard", "street", "ios"]'):
    """(status, answer) to the row of the example, of which `numbers` is the JSON text."""
    body = re.search(r"--data '(.*?)'", PROTOCOL, re.DOTALL)[1]
    body = re.sub(r"\[43\.61.*?\]", numbers, body).replace('["Old Town", "centre", "standard", "street", "ios"]', texts)
    url = f"http://{server.http_url}/v2/models/pickup_eta/versions/{version}/{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body.encode(), method="POST")) as response:
            return response.status, json.load(response)["outputs"][0]["data"]
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)["error"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_curl_examples_run_as_they_stand_and_say_what_grpc_says(city, small_run):
    config, answer = (curl(command, city) for command in blocks("bash"))
    schema, rollout = (json.loads(config["parameters"][name]["string_value"]) for name in ("schema", "rollout"))
    columns = [column["name"] for column in schema["columns"] if column["role"] == "numeric"]
    assert columns == list(small_run.schema.numeric_names)
    assert rollout == {"stable": 1, "canary": None, "canary_percent": 0.0, "shadow": None}
    (output,) = answer["outputs"]
    assert (answer["id"], answer["model_version"], output["shape"]) == ("trip-1", "1", [1, 3])
    numbers = [43.61, -70.93, 43.63, -70.95, 7.5, 140.0, 0.0, 3, 1, 0.0, 8.0, 0.7, np.nan]
    rows = {
        "numeric": np.array([numbers], np.float32),
        "categorical": np.array([["Old Town", "centre", "standard", "street", "ios"]]),
        "requested_at": np.array([[1_775_133_000]]),
    }
    np.testing.assert_allclose(output["data"], ask(city.url, rows)[0], rtol=1e-6)


def test_the_grpc_example_runs_as_it_stands_and_says_what_curl_says(city):
    (example,) = blocks("python")
    example = example.replace("127.0.0.1:8001", city.url).replace("timeout=0.5", "timeout=20")
    said = subprocess.run([sys.executable, "-c", example], capture_output=True, check=True, text=True).stdout
    same = "[43.61, -70.93, 43.63, -70.95, 7.5, 140.0, 0.0, 3, 1, 0.0, 8.0, 0.7, NaN]"
    np.testing.assert_allclose([float(text) for text in said.strip("()\n").split(",")], post(city, same)[1], rtol=1e-6)


def test_a_number_no_float_can_hold_is_missing_but_where_the_column_clips(city, small_run):
    """Of the city's columns only `incidents_active` clips."""
    known = ["43.61", "-70.93", "43.63", "-70.95", "7.5", "140.0", "0.0", "3", "1", "0.0", "8.0", "0.7", "2"]
    clips = []
    for place, column in enumerate(small_run.schema.numeric):
        as_nan, as_huge = (
            post(city, f"[{', '.join([*known[:place], text, *known[place + 1 :]])}]")[1] for text in ("NaN", "1e39")
        )
        if column.out_of_range == "clip":
            clips.append((column.name, as_nan != as_huge))
        else:
            assert as_nan == as_huge, column.name
    assert clips == [("incidents_active", True)]


@pytest.mark.parametrize("text", ["null", '"NaN"', "nan"])
def test_other_ways_to_say_missing_are_refused(city, text):
    status, error = post(city, f"[43.61, -70.93, 43.63, -70.95, 7.5, 140.0, 0.0, 3, 1, 0.0, 8.0, 0.7, {text}]")
    assert (status, bool(error)) == (500, True)


def test_errors_have_the_status_that_is_told(city):
    assert post(city, "[1, 2]")[0] == 500  # not as many values as the shape says
    assert post(city, "[1]", version=7)[0] == 404
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{city.http_url}/v2/repository/models/pickup_eta/load", data=b"{}")
    refused.value.close()
    assert refused.value.code == 403
    (wrong_width,) = re.findall(r"--data '(.*?)'", PROTOCOL, re.DOTALL)
    body = wrong_width.replace('"shape": [1, 13]', '"shape": [13, 1]').encode()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{city.http_url}/v2/models/pickup_eta/versions/1/infer", data=body)
    refused.value.close()
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("changed", "version", "status"),
    [
        pytest.param({"numeric": np.zeros((1, 4), np.float32)}, 1, "INVALID_ARGUMENT", id="width"),
        pytest.param({}, 7, "NOT_FOUND", id="version"),
    ],
)
def test_grpc_has_the_status_that_is_told(with_canary, changed, version, status):
    with pytest.raises(InferenceServerException) as refused:
        ask(with_canary.url, one_row(**changed), version)
    assert refused.value.status() == f"StatusCode.{status}"


def test_nesting_of_the_size_a_proxy_should_let_through_ends_no_server(city):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{city.http_url}/v2/models/pickup_eta/infer", data=b"[" * 64_000)
    refused.value.close()
    assert city.is_running
    assert post(city, "[43.61, -70.93, 43.63, -70.95, 7.5, 140.0, 0.0, 3, 1, 0.0, 8.0, 0.7, NaN]")[0] == 200


@pytest.fixture(scope="module")
def java(tmp_path_factory):
    """Asks with the compiled example: java(server, request id, row) gives what it printed."""
    if shutil.which("javac") is None or shutil.which("java") is None:
        pytest.skip("no javac here: the Java example needs a JDK of 17 or later")
    build = tmp_path_factory.mktemp("build")
    compiled = subprocess.run(
        ["javac", "-Xlint:all", "-Werror", "-d", build, ROOT / "examples/java/EtaClient.java"],
        capture_output=True,
        text=True,
    )
    assert compiled.returncode == 0, compiled.stderr

    def run(server, request_id, row):
        command = ["java", "-Dfile.encoding=UTF-8", "-Dsun.jnu.encoding=UTF-8", "-cp", build, "EtaClient"]
        command += [f"http://{server.http_url}", request_id, *(f"{name}={value}" for name, value in row.items())]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})

    return run


def test_java_follows_the_plan_and_packs_as_python_does(with_canary, java):
    rows = {
        "numeric": np.array([[12.5, np.nan, 2]], np.float32),
        "categorical": np.array([[ROW["pickup_zone"], "xl"]]),
        "requested_at": np.array([[ROW["requested_at"]]]),
    }
    plan = Rollout(1, canary=2, canary_percent=50)
    versions = {request_id: plan.version_for(request_id) for request_id in ("order-1", "order-2", "Łódź-7")}
    assert set(versions.values()) == {1, 2}
    for request_id, version in versions.items():
        said = java(with_canary, request_id, ROW)
        assert said.returncode == 0, said.stderr
        number, *seconds = said.stdout.split()
        assert int(number) == version
        np.testing.assert_allclose(np.float64(seconds), ask(with_canary.url, rows, version)[0], rtol=1e-6)


def test_java_refuses_a_column_the_model_does_not_have(with_canary, java):
    assert "no column rain_mm" in java(with_canary, "trip-1", ROW | {"rain_mm": 3}).stderr
