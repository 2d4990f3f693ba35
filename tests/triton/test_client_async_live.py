"""The client of an event loop against a real Triton."""

import asyncio
import time

import numpy as np
import pytest

from hailtime.client import AsyncEtaClient
from hailtime.errors import ModelUnavailable, ServerUnavailable
from hailtime.serving.deploy import deploy
from hailtime.serving.triton import TritonServer
from tests.tiny_run import write_tiny_run
from tests.triton.test_client_faults import DEADLINE_S, ROW, run_with_rule
from tests.triton.test_client_live import rows_and_answers

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def url(installation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with TritonServer(folder / "models", grpc_port=0, http_port=0, metrics_port=0, installation=installation) as server:
        deploy(write_tiny_run(folder / "run"), folder / "models", server.url)
        yield server.url


@pytest.mark.parametrize("batch_wait_s", [0.0, 0.002], ids=["alone", "shared"])
def test_many_at_once_get_their_own_answers(url, batch_wait_s):
    rows, answers = rows_and_answers(400)

    async def ask():
        async with AsyncEtaClient(url, 20, batch_wait_s=batch_wait_s) as client:
            await client.wait_ready()
            return await asyncio.gather(*map(client.predict, rows)), await client.predict(rows)

    alone, together = asyncio.run(ask())
    np.testing.assert_allclose([answer.p50_s for answer in alone], answers[:, 1], rtol=1e-5)
    np.testing.assert_allclose(together.quantiles_s, answers, rtol=1e-5)
    assert {answer.path for answer in alone} == {"triton"}


def test_errors_are_those_of_the_other_client(serve, tmp_path):
    server = serve(tmp_path / "models")

    async def ask(message):
        async with AsyncEtaClient(server.url, 5) as client:
            with pytest.raises((ModelUnavailable, ServerUnavailable), match=message):
                await client.predict(ROW)

    asyncio.run(ask("does not serve the model"))
    server.kill()
    asyncio.run(ask("is it running"))


def test_every_request_is_answered_in_time_while_the_server_is_killed(serve, tmp_path):
    server = serve(tmp_path / "models")
    deploy(run_with_rule(tmp_path / "run"), tmp_path / "models", server.url)
    took_s, answers = [], []

    async def flow(client):
        for _ in range(60):
            started = time.monotonic()
            answers.append(await client.predict(ROW))
            took_s.append(time.monotonic() - started)
            await asyncio.sleep(0.02)

    async def ask():
        async with AsyncEtaClient(server.url, DEADLINE_S) as client:
            await client.wait_ready()
            flows = [asyncio.create_task(flow(client)) for _ in range(4)]
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.kill)
            await asyncio.gather(*flows)

    asyncio.run(ask())
    assert len(answers) == 240
    assert {answer.path for answer in answers} == {"triton", "rule"}
    assert np.quantile(took_s, 0.99) < DEADLINE_S + 0.005
