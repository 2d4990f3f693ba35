"""The client against a stand-in for the server: answers, deadlines, threads. Against a real Triton: tests/triton."""

import doctest
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml

from hailtime.client import AsyncEtaClient, EtaClient, Prediction, Tls
from hailtime.errors import (
    ConfigError,
    DeadlineExceeded,
    ModelUnavailable,
    PredictionError,
    RequestError,
    ServerUnavailable,
)
from hailtime.schema import Schema
from tests.small_town import ROW, Clock, StandIn, model_config

GONE = ModelUnavailable("version 1 is not loaded")
DOWN = ServerUnavailable("nobody is there")


def rows_of(n):
    """By hand: the stand-in's P50 of row i is 100 + 43.5 + i."""
    return [{**ROW, "pickup_lat": 43.5, "speed_mps": i} for i in range(n)]


def test_dict_gives_one_prediction():
    with EtaClient(transport=StandIn()) as client:
        one = client.predict({**ROW, "pickup_lat": 43.5, "speed_mps": 8.5})
    assert one == Prediction(p10_s=76.0, p50_s=152.0, p90_s=304.0, version="1", path="triton")


@pytest.mark.parametrize("of", [list, tuple, pd.DataFrame, pl.DataFrame], ids=["list", "tuple", "pandas", "polars"])
def test_many_rows_give_predictions_in_their_order(of):
    many = EtaClient(transport=StandIn()).predict(of(rows_of(5)))
    np.testing.assert_array_equal(many.p50_s, np.float32([143.5, 144.5, 145.5, 146.5, 147.5]))
    assert many.quantiles_s.shape == (5, 3)
    assert many.quantiles_s.dtype == np.float32


def test_predictions_are_a_sequence():
    many = EtaClient(transport=StandIn()).predict(rows_of(3))
    assert [one.p50_s for one in many] == [143.5, 144.5, 145.5]
    assert (len(many), many[-1], len(many[1:])) == (3, Prediction(72.75, 145.5, 291.0, "1"), 2)
    with pytest.raises(IndexError):
        many[3]


def test_predictions_become_a_pandas_frame():
    frame = pd.DataFrame(EtaClient(transport=StandIn()).predict(rows_of(2), request_id="r7").to_dict())
    assert frame.iloc[1].to_dict() == {
        "request_id": "r7/1",
        "p10_s": 72.25,
        "p50_s": 144.5,
        "p90_s": 289.0,
        "version": "1",
        "path": "triton",
    }


@pytest.mark.parametrize("nothing", [[], (), pd.DataFrame(), pl.DataFrame()], ids=["list", "tuple", "pandas", "polars"])
def test_no_rows_give_no_predictions_and_no_call(nothing):
    server = StandIn()
    none = EtaClient(transport=server).predict(nothing)
    assert (len(none), list(none), len(pd.DataFrame(none.to_dict()))) == (0, [], 0)
    assert server.config_calls == server.infer_calls == []


def test_more_rows_than_the_server_takes_go_in_several_calls():
    server = StandIn(model_config(max_batch_size=4))
    many = EtaClient(transport=server).predict(rows_of(10))
    assert [n for _, n, _ in server.infer_calls] == [4, 4, 2]
    np.testing.assert_array_equal(many.p50_s, 143.5 + np.arange(10, dtype=np.float32))


def test_several_calls_share_one_deadline():
    clock = Clock()
    server = StandIn(model_config(max_batch_size=4), takes_s=0.125, clock=clock)
    EtaClient(transport=server, clock=clock).predict(rows_of(10))
    assert server.config_calls == [0.5]
    assert [timeout_s for _, _, timeout_s in server.infer_calls] == [0.375, 0.25, 0.125]


def test_used_up_deadline_is_told():
    clock = Clock()
    client = EtaClient(transport=StandIn(takes_s=0.25, clock=clock), deadline_s=0.2, clock=clock)
    with pytest.raises(DeadlineExceeded, match=r"no answer within the deadline of 0\.2 s: the time was used up before"):
        client.predict(ROW)


def test_wrong_rows_are_refused_before_the_call():
    server = StandIn()
    with pytest.raises(RequestError, match=r"^row 0: pickup_lat must be 43\.4 to 43\.8 deg, got 51\.5$"):
        EtaClient(transport=server).predict({**ROW, "pickup_lat": 51.5})
    assert server.infer_calls == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param([[1, 2, 3], [4, np.nan, 6]], r"gave \[4.0, nan, 6.0\] for row 1", id="NaN"),
        pytest.param([[1, 2, 3], [4, 5, np.inf]], "must be finite and 0 ≤ P10 ≤ P50 ≤ P90, version 1", id="infinite"),
        pytest.param([[2, 1, 3], [4, 5, 6]], "for row 0", id="crossing"),
        pytest.param([[-1, 1, 3], [4, 5, 6]], "for row 0", id="negative"),
        pytest.param([[1, 2, 3]], r"must answer 2 rows of 3 numbers, got shape \(1, 3\)", id="too few"),
    ],
)
def test_nonsense_is_never_handed_on(answer, said):
    server = StandIn()
    server.infer = lambda *_: np.float32(answer)
    with pytest.raises(PredictionError, match=said):
        EtaClient(transport=server).predict([ROW, ROW])


def test_wait_ready_waits_for_an_answer_to_a_row_of_which_nothing_is_known():
    server = StandIn(config_fails=[DOWN, None, None], infer_fails=[GONE, None])
    EtaClient(transport=server).wait_ready(timeout_s=10)
    assert (len(server.config_calls), [n for _, n, _ in server.infer_calls]) == (3, [1, 1])


def test_wait_ready_gives_up_with_the_last_error():
    with pytest.raises(ServerUnavailable, match="nobody is there"):
        EtaClient(transport=StandIn(config_fails=[DOWN] * 9)).wait_ready(timeout_s=0)


def test_threads_share_a_client():
    client = EtaClient(transport=StandIn(), plan_refresh_s=0)  # every call reads the plan, or finds another at it
    together = threading.Barrier(8)

    def ask(thread):
        together.wait()
        return [client.predict({**ROW, "pickup_lat": 43.5, "speed_mps": thread + i}).p50_s for i in range(25)]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))
    assert answers == [[143.5 + thread + i for i in range(25)] for thread in range(8)]


def test_threads_waiting_for_the_first_plan_read_it_once():
    server, reading = StandIn(), threading.Event()
    served = server.config
    server.config = lambda timeout_s: (reading.wait(0.1), served(timeout_s))[1]
    client = EtaClient(transport=server, deadline_s=5)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(client.predict, [ROW] * 8))
    assert len(server.config_calls) == 1


def test_leaving_the_client_closes_its_transport():
    server = StandIn()
    with EtaClient(transport=server):
        pass
    assert server.is_closed


@pytest.mark.parametrize("setting", [{"deadline_s": 0}, {"deadline_s": float("nan")}, {"plan_refresh_s": -1}])
def test_impossible_times_are_refused(setting):
    with pytest.raises(ConfigError, match="deadline_s must be above 0 and plan_refresh_s not below"):
        EtaClient(transport=StandIn(), **setting)


def test_example_in_the_docstring_runs():
    source = Path(__file__).parents[1] / "configs/source/simulated_city.yaml"
    city = Schema.from_dict(yaml.safe_load(source.read_text())["schema"])
    names = {"EtaClient": lambda url: EtaClient(url, transport=StandIn(model_config(city)))}
    example = doctest.DocTestParser().get_doctest(EtaClient.__doc__, names, "EtaClient", None, None)
    assert doctest.DocTestRunner().run(example) == doctest.TestResults(failed=0, attempted=4)


@pytest.mark.parametrize("described", [AsyncEtaClient, Tls], ids=["AsyncEtaClient", "Tls"])
def test_examples_that_need_no_server_run(described):
    names = {"AsyncEtaClient": AsyncEtaClient, "Tls": Tls, "Path": Path}
    example = doctest.DocTestParser().get_doctest(described.__doc__, names, described.__name__, None, None)
    assert doctest.DocTestRunner().run(example) == doctest.TestResults(failed=0, attempted=1)


def test_importing_the_client_loads_no_heavy_library():
    heavy = {"torch", "pandas", "polars", "onnx", "onnxruntime", "pyarrow", "pytorch_lightning", "hydra", "narwhals"}
    code = f"import sys, hailtime.client; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
