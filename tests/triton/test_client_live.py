"""The client against a real Triton: answers, threads, versions that come and go, a server that dies and comes back."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pytest
from tritonclient.grpc import InferenceServerClient

from hailtime.client import EtaClient
from hailtime.errors import ModelUnavailable, PredictionError, RequestError, ServerUnavailable
from hailtime.serving.deploy import deploy
from hailtime.serving.triton import TritonServer
from tests.tiny_run import TINY_SCHEMA, tiny_answers, tiny_rows, write_tiny_run
from tests.triton.asking import key_of

pytestmark = pytest.mark.triton

DEADLINE_S = 20  # these tests are not about time, and the machine may be busy


@pytest.fixture(scope="module")
def url(installation, tmp_path_factory):
    """A server with version 1 of the tiny run, for the tests that change nothing."""
    folder = tmp_path_factory.mktemp("served")
    with TritonServer(folder / "models", grpc_port=0, http_port=0, metrics_port=0, installation=installation) as server:
        deploy(write_tiny_run(folder / "run"), folder / "models", server.url)
        yield server.url


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


def rows_and_answers(n, seed=1, base_s=100.0):
    """n request rows as dicts, and what the tiny formula says to them."""
    arrays = tiny_rows(n, seed)
    names = (*TINY_SCHEMA.numeric_names, *TINY_SCHEMA.categorical_names, TINY_SCHEMA.requested_at)
    parts = (arrays["numeric"].tolist(), arrays["categorical"].tolist(), arrays["requested_at"].tolist())
    rows = [dict(zip(names, numbers + texts + at, strict=True)) for numbers, texts, at in zip(*parts, strict=True)]
    return rows, tiny_answers(**arrays, base_s=base_s)


def deploy_tiny(models, url, base_s):
    return deploy(write_tiny_run(models.parent / f"run{base_s}", base_s=base_s), models, url)


@pytest.mark.parametrize("of", [list, pd.DataFrame, pl.DataFrame], ids=["dicts", "pandas", "polars"])
def test_answers_are_the_models(url, of):
    rows, answers = rows_and_answers(64)
    with EtaClient(url, DEADLINE_S) as client:
        predictions = client.predict(of(rows))
    np.testing.assert_allclose(predictions.quantiles_s, answers, rtol=1e-5)
    assert (predictions.version, predictions.path) == ("1", "triton")


def test_one_row_alone_and_with_nothing_known(url):
    rows, answers = rows_and_answers(1)
    unknown = dict.fromkeys(rows[0]) | {"requested_at": "2026-01-12T06:00:00+00:00"}  # a quarter of the UTC day
    with EtaClient(url, DEADLINE_S) as client:
        assert client.predict(rows[0]).p50_s == pytest.approx(answers[0, 1], rel=1e-5)
        assert client.predict(unknown).p50_s == 100.25


def test_more_rows_than_one_call_takes(url):
    rows, answers = rows_and_answers(9_000)
    with EtaClient(url, DEADLINE_S) as client:
        np.testing.assert_allclose(client.predict(rows).quantiles_s, answers, rtol=1e-5)


def test_eight_threads_get_their_own_answers(url):
    rows, answers = rows_and_answers(8 * 50)
    with EtaClient(url, DEADLINE_S, plan_refresh_s=0.01) as client, ThreadPoolExecutor(8) as threads:
        medians_s = list(threads.map(lambda row: client.predict(row).p50_s, rows))
    np.testing.assert_allclose(medians_s, answers[:, 1], rtol=1e-5)


def test_infinite_answer_is_an_error(url):
    rows, _ = rows_and_answers(1)
    too_far = {**rows[0], "distance_m": 3e38, "idle_drivers": 3e38}  # each is a float32, their sum is not
    with EtaClient(url, DEADLINE_S) as client, pytest.raises(PredictionError, match="must be finite") as raised:
        client.predict(too_far)
    assert not isinstance(raised.value, RequestError)


def test_requests_go_on_while_versions_come_and_go(serve, models):
    server = serve(models)
    deploy_tiny(models, server.url, base_s=100)
    stop, answers = threading.Event(), []

    def ask():
        while not stop.is_set():
            answers.append(client.predict({**rows[0], "requested_at": 86_400 * 20_000}))

    rows = [dict.fromkeys(TINY_SCHEMA.input_names)]
    with EtaClient(server.url, DEADLINE_S, plan_refresh_s=0.1) as client, ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        for base_s in (200, 300):
            deploy_tiny(models, server.url, base_s)
        threading.Event().wait(0.5)
        stop.set()
    assert [thread.exception() for thread in asking] == [None] * 4
    assert {(answer.version, answer.p50_s) for answer in answers} == {("1", 100), ("2", 200), ("3", 300)}


def test_version_unloaded_since_the_plan_was_read_is_followed_by_the_next(serve, models):
    server = serve(models)
    deploy_tiny(models, server.url, base_s=100)
    rows, _ = rows_and_answers(8)
    with EtaClient(server.url, DEADLINE_S, plan_refresh_s=3600) as client:
        assert client.predict(rows).version == "1"
        for base_s in (200, 300):  # only one version before the stable one stays loaded
            deploy_tiny(models, server.url, base_s)
        assert client.predict(rows).version == "3"


def test_client_waits_for_a_model_and_tells_when_it_is_gone(serve, models):
    server, (rows, _) = serve(models), rows_and_answers(1)
    with EtaClient(server.url, DEADLINE_S) as client:
        with pytest.raises(ModelUnavailable, match="does not serve the model"):
            client.wait_ready(timeout_s=0)
        deploy_tiny(models, server.url, base_s=100)
        client.wait_ready(timeout_s=DEADLINE_S)
        with InferenceServerClient(server.url) as administrator:
            administrator.unload_model("pickup_eta", headers=key_of(models))
        with pytest.raises(ModelUnavailable, match=r"does not serve the model: .*pickup_eta"):
            client.predict(rows[0])


def test_client_answers_again_when_its_server_is_back(serve, models):
    server, (rows, _) = serve(models), rows_and_answers(1)
    deploy_tiny(models, server.url, base_s=100)
    with EtaClient(server.url, DEADLINE_S) as client:
        before = client.predict(rows[0])
        server.stop()
        with pytest.raises(ServerUnavailable, match=f"no answer from {server.url}: .*is it running"):
            client.predict(rows[0])
        serve(models, grpc_port=int(server.url.rpartition(":")[2]))
        client.wait_ready(timeout_s=DEADLINE_S)
        assert client.predict(rows[0]) == before
