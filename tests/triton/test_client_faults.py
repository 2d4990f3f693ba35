"""The client while its servers fail: every request answered in time, by a path that is told, and in the log."""

import os
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import numpy as np
import pytest
from benchmarks.proxy import Proxy
from onnx import helper

from hailtime.client import EtaClient, PredictionLog
from hailtime.rule import FallbackRule
from hailtime.serving.deploy import Aim, deploy
from tests.tiny_run import TINY_SCHEMA, store_model, tiny_model, write_tiny_run

pytestmark = pytest.mark.triton

DEADLINE_S = 0.05
PER_S = 200
RULE = FallbackRule({"north": (240.0, 0.0)}, (300.0, 0.0), 300.0, (0.5, 2.0))
ROW = dict.fromkeys(TINY_SCHEMA.input_names) | {"requested_at": 86_400 * 20_000, "pickup_zone": "north"}
MEDIANS_S = {"triton": 160.0, "local": 160.0, "rule": 240.0}  # 100 + 60 for the north; its line of the rule


def run_with_rule(folder, base_s=100.0):
    """A tiny run whose model file carries schema and rule, as an exported one does."""
    write_tiny_run(folder, base_s=base_s)
    model = tiny_model(base_s)
    helper.set_model_props(model, {"hailtime.schema": TINY_SCHEMA.to_json(), "hailtime.rule": RULE.to_json()})
    store_model(folder, model.SerializeToString())
    return folder


@pytest.fixture
def run(tmp_path):
    return run_with_rule(tmp_path / "run")


@pytest.fixture
def server(serve, run, tmp_path):
    server = serve(tmp_path / "models")
    deploy(run, tmp_path / "models", server.url)
    return server


def port_of(server):
    return int(server.url.rpartition(":")[2])


class Traffic:
    """Requests at a steady pace from eight threads, each with its answer and how long it took."""

    def __init__(self, client):
        self.client, self.answers, self.took_s = client, [], []
        self._stop = threading.Event()

    @contextmanager
    def flowing(self):
        with ThreadPoolExecutor(8) as threads:
            flows = [threads.submit(self._flow, i) for i in range(8)]
            try:
                yield
            finally:
                self._stop.set()
        for flow in flows:
            flow.result()

    def _flow(self, i):
        due = time.monotonic() + i / PER_S
        while not self._stop.wait(max(due - time.monotonic(), 0)):
            started = time.monotonic()
            answer = self.client.predict(ROW)
            self.took_s.append(time.monotonic() - started)
            self.answers.append(answer)
            due = max(due + 8 / PER_S, time.monotonic())

    def wait_until_back(self, within_s=8.0):
        """Until twenty answers on end came from the server, on a machine that may be busy."""
        until = time.monotonic() + within_s
        while [answer.path for answer in self.answers[-20:]] != ["triton"] * 20:
            assert time.monotonic() < until, f"the last answers came by {self.answers[-1].path} for {within_s} s"
            time.sleep(0.1)

    def paths(self):
        return Counter(answer.path for answer in self.answers)

    def check(self, log):
        """Nothing wrong, nothing lost, and in time; the margin is for a machine that many tests share."""
        assert {answer.p50_s for answer in self.answers} <= {MEDIANS_S[path] for path in self.paths()}
        assert all(answer.p50_s == MEDIANS_S[answer.path] for answer in self.answers)
        log.close()
        with closing(sqlite3.connect(log.path)) as connection:
            kept = dict(connection.execute("SELECT request_id, path FROM predictions"))
        assert kept == {answer.request_id: answer.path for answer in self.answers}
        assert log.n_written == len(self.answers)
        assert np.quantile(self.took_s, 0.99) < self.client.deadline_s + 0.005


@pytest.fixture
def log(tmp_path):
    with PredictionLog(tmp_path / "log.sqlite") as log:
        yield log


def test_kill_9_under_load_and_a_restart(serve, server, run, tmp_path, log):
    with EtaClient(server.url, DEADLINE_S, fallback_model=run, log=log) as client:
        client.wait_ready()
        traffic = Traffic(client)
        with traffic.flowing():
            time.sleep(1)
            server.kill()
            time.sleep(1)
            serve(tmp_path / "models", grpc_port=port_of(server))
            traffic.wait_until_back()
    traffic.check(log)
    assert traffic.paths().keys() >= {"triton", "local"}  # and the rule, where a busy machine left no time for the file


def test_sixteen_new_clients_are_answered_by_the_server_at_once(server, log):
    together = threading.Barrier(16)

    def first(client):
        together.wait()
        started = time.monotonic()
        return client.predict(ROW).path, time.monotonic() - started

    clients = [EtaClient(server.url, 4 * DEADLINE_S, log=log) for _ in range(16)]  # a machine that many tests share
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(first, clients))
    for client in clients:
        client.close()
    assert {path for path, _ in answers} == {"triton"}
    assert max(took_s for _, took_s in answers) < 4 * DEADLINE_S + 0.005
    assert log.n_written + log.n_waiting == 16


def test_server_that_hangs_for_two_seconds(server, log):
    """Only the server is stopped: with its backend too, Triton 2.51 dies one time in eight (lock_exception)."""
    with EtaClient(server.url, DEADLINE_S, log=log) as client:
        client.wait_ready()
        traffic = Traffic(client)
        with traffic.flowing():
            time.sleep(0.5)
            os.kill(server.pid, signal.SIGSTOP)
            time.sleep(2)
            os.kill(server.pid, signal.SIGCONT)
            traffic.wait_until_back()
    traffic.check(log)
    assert traffic.paths().keys() == {"triton", "rule"}


def test_port_that_is_refused_from_the_start(run, tmp_path, log):
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with EtaClient(f"127.0.0.1:{port}", DEADLINE_S, fallback_model=run, log=log) as client:
        traffic = Traffic(client)
        with traffic.flowing():
            time.sleep(2)
    traffic.check(log)
    assert traffic.paths().keys() == {"local"}


def test_server_that_is_slow(server, log):
    with closing(Proxy(port_of(server))) as proxy, EtaClient(proxy.url, DEADLINE_S, log=log) as client:
        client.wait_ready()
        traffic = Traffic(client)
        with traffic.flowing():
            time.sleep(0.5)
            proxy.delay_s = 0.1
            time.sleep(2)
            proxy.delay_s = 0.0
            traffic.wait_until_back()
    traffic.check(log)
    assert traffic.paths().keys() == {"triton", "rule"}


def test_second_server_takes_over_when_the_first_is_killed(serve, server, run, tmp_path, log):
    second = serve(tmp_path / "others")
    deploy(run, tmp_path / "others", second.url)
    with EtaClient([server.url, second.url], 4 * DEADLINE_S, log=log) as client:
        client.wait_ready()
        traffic = Traffic(client)
        with traffic.flowing():
            time.sleep(1)
            server.kill()
            time.sleep(2)
    traffic.check(log)
    assert traffic.paths()["triton"] >= 0.99 * len(traffic.answers)


def test_shadow_is_asked_and_its_answers_kept_beside_the_heard_ones(server, tmp_path, log):
    deploy(run_with_rule(tmp_path / "next", base_s=500.0), tmp_path / "models", server.url, Aim("shadow"))
    with EtaClient(server.url, DEADLINE_S, log=log) as client:
        client.wait_ready()
        traffic = Traffic(client)
        with traffic.flowing():
            time.sleep(2)
        assert client.wait_idle()
        counts = client.counts
        assert counts["shadows asked"] + counts["shadows dropped"] == counts["answered by triton"]
        assert counts["shadows answered"] + counts["shadows failed"] == counts["shadows asked"] > 100
    with closing(sqlite3.connect(log.path)) as connection:
        found = connection.execute("SELECT DISTINCT version, p50_s FROM shadow_predictions").fetchall()
        (n,) = connection.execute("SELECT count(*) FROM shadow_predictions").fetchone()
    assert (found, n) == ([("2", 560.0)], counts["shadows answered"])
