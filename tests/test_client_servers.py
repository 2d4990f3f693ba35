"""Several servers, retries and health: what one call tries within its deadline, against stand-ins and a clock."""

import threading

import pytest

from hailtime.client import EtaClient
from hailtime.client.endpoints import LONGEST_REST_S, Endpoint, Endpoints, RetryBudget, backoff_s
from hailtime.errors import (
    DeadlineExceeded,
    ModelUnavailable,
    PredictionError,
    RequestError,
    ServerUnavailable,
)
from tests.small_town import ROW, RULE, SCHEMA, Clock, StandIn, model_config

DOWN = ServerUnavailable("nobody is there")
LATE = DeadlineExceeded("too late")


def client_of(*servers, clock=None, **settings):
    client = EtaClient(transport=list(servers), clock=clock or Clock(), **settings)
    for _ in servers:
        client.predict(ROW)  # each has given its plan
    for server in servers:
        server.infer_calls.clear()
    return client


def test_calls_go_round_the_servers():
    servers = [StandIn(), StandIn(), StandIn()]
    client = client_of(*servers)
    for _ in range(6):
        client.predict(ROW)
    assert [len(server.infer_calls) for server in servers] == [2, 2, 2]


def test_call_goes_over_to_the_next_server_within_its_deadline():
    first, second = StandIn(infer_fails=[None, DOWN]), StandIn()
    client = client_of(first, second)
    assert client.predict(ROW).path == "triton"
    # half of the deadline for the first, what is left (all of it, the clock stands still) for the second
    assert (first.infer_calls[0][2], second.infer_calls[0][2]) == (0.25, 0.5)


def test_server_that_hangs_leaves_time_for_the_next():
    clock = Clock()
    first, second = StandIn(infer_fails=[None, LATE]), StandIn()
    client = client_of(first, second, clock=clock)
    first.clock, first.takes_s = clock, 0.25
    client.predict(ROW)
    assert second.infer_calls[0][2] == 0.25


def test_server_that_is_gone_is_left_alone_and_tried_by_one_call_when_its_rest_is_over():
    clock = Clock()
    first, second = StandIn(infer_fails=[None, *[DOWN] * 9]), StandIn()
    client = client_of(first, second, clock=clock)
    for _ in range(6):
        client.predict(ROW)
    assert len(first.infer_calls) == 1
    clock.now += LONGEST_REST_S
    for _ in range(6):
        client.predict(ROW)
    assert (len(first.infer_calls), len(second.infer_calls)) == (2, 12)


def test_server_that_answers_again_gets_its_share_again():
    clock = Clock()
    first, second = StandIn(infer_fails=[None, DOWN]), StandIn()
    client = client_of(first, second, clock=clock)
    client.predict(ROW)
    clock.now += LONGEST_REST_S
    for _ in range(5):
        client.predict(ROW)
    assert len(first.infer_calls) == 4  # the one that failed, the one that found it back, and every second after that


def test_only_server_is_asked_whatever_it_did_before():
    client = client_of(server := StandIn(infer_fails=[None, *[LATE] * 5]))
    for _ in range(5):
        with pytest.raises(DeadlineExceeded):
            client.predict(ROW)
    assert client.predict(ROW).path == "triton"
    assert len(server.infer_calls) == 6


@pytest.mark.parametrize("error", [DOWN, LATE, PredictionError("the stub died"), ModelUnavailable("not here")])
def test_unreachable_server_is_tried_three_times_and_any_other_failure_once(error):
    client = client_of(server := StandIn(infer_fails=[None, *[error] * 9]))
    with pytest.raises(type(error)):
        client.predict(ROW)
    tries = {ServerUnavailable: 3, ModelUnavailable: 2}  # by the plan at hand, and by the one just read
    assert len(server.infer_calls) == tries.get(type(error), 1)


def test_retry_never_goes_past_the_deadline():
    clock = Clock()
    client = client_of(server := StandIn(infer_fails=[None, *[DOWN] * 9]), clock=clock, deadline_s=0.1)
    server.clock, server.takes_s = clock, 0.099
    with pytest.raises(ServerUnavailable):
        client.predict(ROW)
    assert len(server.infer_calls) == 1


def test_retries_are_a_tenth_of_the_calls_when_nothing_answers():
    client = client_of(server := StandIn(infer_fails=[None, *[DOWN] * 9999]))
    for _ in range(500):
        with pytest.raises(ServerUnavailable):
            client.predict(ROW)
    assert 500 + 50 <= len(server.infer_calls) <= 500 + 10 + 50 + 1
    assert client.counts["retries"] == len(server.infer_calls) - 500


def test_retry_budget_comes_back_with_time():
    clock = Clock()
    budget = RetryBudget(clock)
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    clock.now += 2
    budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]


def test_backoff_doubles_and_is_spread():
    pauses = [[backoff_s(n) for _ in range(200)] for n in (1, 2, 3)]
    for of_one, longest_s in zip(pauses, (0.01, 0.02, 0.04), strict=True):
        assert longest_s / 2 <= min(of_one) < max(of_one) <= longest_s


def test_rests_grow_to_a_second():
    clock = Clock()
    endpoint = Endpoint(StandIn(), clock)
    rests = []
    for _ in range(8):
        endpoint.failed(DOWN)
        rests.append(endpoint.rests_until - clock.now)
        clock.now = endpoint.rests_until
    assert rests[0] <= 0.1
    assert 0.75 <= rests[-1] <= LONGEST_REST_S
    endpoint.succeeded()
    assert endpoint.is_well


def test_calls_that_were_on_their_way_when_a_server_stood_still_make_one_short_rest():
    clock = Clock()
    endpoint = Endpoint(StandIn(), clock)
    for _ in range(10):
        endpoint.failed(LATE)
    assert 0.075 <= endpoint.rests_until - clock.now <= 0.1


def test_one_thread_of_many_tries_the_server_whose_rest_is_over():
    clock = Clock()
    endpoints = Endpoints([Endpoint(StandIn(), clock), Endpoint(StandIn(), clock)], clock)
    ill = endpoints.all[0]
    ill.failed(DOWN)
    clock.now += 1
    together, chosen = threading.Barrier(8), []

    def choose():
        together.wait()
        chosen.append(ill in endpoints.candidates(also_resting=False))

    threads = [threading.Thread(target=choose) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(chosen) == [False] * 7 + [True]


def test_server_that_was_lost_is_asked_for_its_plan_first():
    """Another server may have come to the address."""
    other = type(SCHEMA).from_dict({**SCHEMA.to_dict(), "timezone": "America/New_York"})
    client = client_of(server := StandIn(infer_fails=[None, DOWN]), schema_fingerprint=SCHEMA.fingerprint)
    server.served = model_config(other)
    with pytest.raises(ModelUnavailable, match=f"must serve the schema {SCHEMA.fingerprint}, it serves .*right server"):
        client.predict(ROW)
    assert len(server.infer_calls) == 1


def test_schema_that_changes_is_followed_with_a_warning_where_none_is_demanded(caplog):
    other = type(SCHEMA).from_dict({**SCHEMA.to_dict(), "timezone": "America/New_York"})
    client = client_of(server := StandIn(infer_fails=[None, DOWN]))
    server.served = model_config(other, stable=2)
    assert client.predict(ROW).version == "2"
    assert f"has changed from {SCHEMA.fingerprint} to {other.fingerprint}" in caplog.text


def test_wrong_rows_are_nobodys_failure():
    client = client_of(first := StandIn(model_config(rule=RULE)), second := StandIn(model_config(rule=RULE)))
    for _ in range(5):
        with pytest.raises(RequestError):
            client.predict({**ROW, "pickup_lat": 0.0})
    assert (first.infer_calls, second.infer_calls) == ([], [])
    assert client.predict(ROW).path == "triton"
