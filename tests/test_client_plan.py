"""How the client learns from the server which version to ask, and what it does when the server has moved on."""

import os
import threading
import time

import numpy as np
import pytest

from hailtime.client import EtaClient
from hailtime.client.plan import Plan
from hailtime.client.question import UNDER_WAY, Question
from hailtime.client.steps import BackgroundThread, Pause
from hailtime.errors import ModelUnavailable, RequestError, ServerUnavailable
from hailtime.rollout import Rollout
from tests.small_town import ROW, Clock, StandIn, model_config

GONE = ModelUnavailable("version 1 is not loaded")
DOWN = ServerUnavailable("nobody is there")


def test_plan_is_read_once_and_again_when_it_is_due():
    clock, server = Clock(), StandIn()
    client = EtaClient(transport=server, clock=clock)
    client.predict(ROW)
    clock.now += 4.9
    client.predict(ROW)
    assert len(server.config_calls) == 1
    server.served = model_config(stable=2)
    clock.now += 0.2
    assert client.predict(ROW).version == "1"  # nobody waits for the new one
    assert client.wait_idle()
    assert client.predict(ROW).version == "2"
    assert server.config_calls == [0.5, 0.5]


def test_plan_that_hangs_slows_no_call():
    clock, server, hangs = Clock(), StandIn(), threading.Event()
    client = EtaClient(transport=server, clock=clock)
    client.predict(ROW)
    server.config = lambda timeout_s: hangs.wait(10)
    for _ in range(30):
        clock.now += 5
        assert client.predict(ROW).version == "1"
    hangs.set()
    client.close()


def test_plan_that_is_due_is_read_when_no_call_is_under_way():
    clock, server = Clock(), StandIn()
    client = EtaClient(transport=server, clock=clock)
    client.predict(ROW)
    clock.now += 5
    UNDER_WAY.add(other := Question(ROW, None))
    try:
        client.predict(ROW)
        assert not client.wait_idle(0.02)
        assert len(server.config_calls) == 1
    finally:
        UNDER_WAY.discard(other)
    assert client.wait_idle()
    assert len(server.config_calls) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_background_of_a_client_goes_on_in_a_forked_child():
    def job():
        yield Pause(0.0)

    background = BackgroundThread("before the fork", 4)
    assert background.submit(job())
    assert background.wait_idle(5)  # its thread waits for the next one
    child = os.fork()
    if child == 0:
        background.start()
        time.sleep(0.1)
        is_done = background.submit(job()) and background.wait_idle(2)
        os._exit(0 if is_done else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_plan_that_two_clients_hear_is_read_once():
    assert Plan.from_config(model_config(stable=7)) is Plan.from_config(model_config(stable=7))
    assert Plan.from_config(model_config(stable=7)) is not Plan.from_config(model_config(stable=8))


def test_failed_refresh_keeps_the_old_plan_and_is_not_tried_at_every_call(caplog):
    clock, server = Clock(), StandIn(config_fails=[None, DOWN])
    client = EtaClient(transport=server, clock=clock)
    client.predict(ROW)
    clock.now += 5
    assert [client.predict(ROW).version for _ in range(3)] == ["1"] * 3
    assert client.wait_idle()
    assert (len(server.config_calls), client.counts["plans not read"]) == (2, 1)
    assert "going on with the old one: nobody is there" in caplog.text


def test_first_plan_that_cannot_be_read_is_told_and_read_at_the_next_call():
    client = EtaClient(transport=StandIn(config_fails=[DOWN] * 3))
    with pytest.raises(ServerUnavailable):
        client.predict(ROW)
    assert client.predict(ROW).version == "1"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        pytest.param({}, "deploy it again: a schema must be JSON, got ''", id="no schema"),
        pytest.param({"rollout": "{}"}, "a rollout plan must name its stable version", id="no stable version"),
        pytest.param(
            {"rollout": '{"stable": "new"}'}, "stable must be a version number from 1, got 'new'", id="no number"
        ),
        pytest.param({"rollout": '{"stable": 1, "canary_percent": 120}'}, "must be 0 to 100, got 120", id="percent"),
    ],
)
def test_model_without_a_plan_is_told(parameters, said):
    server = StandIn()
    server.served = type(server.served)(4096, {**(server.served.parameters if parameters else {}), **parameters})
    with pytest.raises(ModelUnavailable, match="must carry its schema and rollout plan") as refused:
        EtaClient(transport=server).predict(ROW)
    assert said in str(refused.value)


@pytest.mark.parametrize("refusal", [GONE, RequestError("unexpected shape")], ids=["version gone", "columns changed"])
def test_refused_version_is_tried_once_more_by_the_new_plan(refusal):
    server = StandIn(infer_fails=[None, refusal])
    client = EtaClient(transport=server)
    client.predict(ROW)
    server.served = model_config(stable=2)
    assert client.predict(ROW).version == "2"
    assert [version for version, _, _ in server.infer_calls] == [1, 1, 2]


def test_version_refused_amid_a_split_gives_all_rows_from_the_next():
    server = StandIn(model_config(max_batch_size=4), infer_fails=[None, None, GONE])
    client = EtaClient(transport=server)
    client.predict(ROW)
    server.served = model_config(stable=2, max_batch_size=4)
    many = client.predict([{**ROW, "pickup_lat": 43.5, "speed_mps": i} for i in range(6)])
    # 100 for each version number + 43.5 + i
    np.testing.assert_array_equal(many.p50_s, 243.5 + np.arange(6, dtype=np.float32))
    assert many.version == "2"


def test_version_refused_twice_is_told():
    server = StandIn(infer_fails=[GONE, GONE])
    with pytest.raises(ModelUnavailable, match="version 1 is not loaded"):
        EtaClient(transport=server).predict(ROW)
    assert len(server.infer_calls) == 2


def test_plan_is_read_as_it_was_written_and_by_older_clients():
    plan = Rollout(stable=3, canary=4, canary_percent=5.0, shadow=7)
    assert Rollout.from_json(plan.to_json()) == plan
    assert Rollout.from_json('{"stable": 3, "by_city": {"berlin": 4}}') == Rollout(stable=3)
