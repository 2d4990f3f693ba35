"""What answers when no server does: the local model file, then the rule; and what a call tells its observer."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import helper

from hailtime.client import EtaClient
from hailtime.client.local_model import LocalModel
from hailtime.client.question import UNDER_WAY
from hailtime.errors import ConfigError, DeadlineExceeded, PredictionError, RequestError, ServerUnavailable
from hailtime.schema import Schema
from tests.small_town import NOON_S, ROW, RULE, SCHEMA, Clock, StandIn, model_config
from tests.tiny_run import TINY_SCHEMA, store_model, tiny_answers, tiny_model, tiny_rows

DOWN = ServerUnavailable("nobody is there")
TINY_ROW = {
    "requested_at": NOON_S,
    "distance_m": 10.0,
    "idle_drivers": 1,
    "rain_mm_h": None,
    "pickup_zone": "north",
    "product": "xl",
}


@pytest.fixture
def run(tmp_path):
    """A run folder with the tiny model, its schema and a rule in the file's metadata."""
    model = tiny_model()
    metadata = {"hailtime.schema": TINY_SCHEMA.to_json(), "hailtime.rule": RULE.to_json(), "hailtime.run": "tiny"}
    helper.set_model_props(model, metadata)
    (tmp_path / "run").mkdir()
    store_model(tmp_path / "run", model.SerializeToString())
    return tmp_path / "run"


def always(error):
    return StandIn(config_fails=[error] * 99)


def test_rule_that_came_with_the_model_answers_when_the_server_is_gone():
    client = EtaClient(transport=StandIn(model_config(rule=RULE), infer_fails=[None, *[DOWN] * 9]))
    assert client.predict(ROW).path == "triton"
    answer = client.predict(ROW)
    assert (answer.path, answer.version, answer.p10_s, answer.p50_s, answer.p90_s) == ("rule", "", 150, 300, 600)
    assert len(client.predict([ROW] * 3)) == 3


def test_nonsense_and_refusals_are_answered_by_the_rule_too():
    for failure in (PredictionError("the stub died"), RequestError("bad shape")):
        client = EtaClient(transport=StandIn(model_config(rule=RULE), infer_fails=[failure] * 9))
        assert client.predict(ROW).path == "rule"
    assert EtaClient(transport=StandIn(model_config(rule=RULE), broken=[1])).predict(ROW).path == "rule"


def test_error_is_raised_where_the_rule_is_not_wanted():
    client = EtaClient(transport=StandIn(model_config(rule=RULE), infer_fails=[DOWN] * 9), answer_by_rule=False)
    with pytest.raises(ServerUnavailable):
        client.predict(ROW)


def test_fallback_gets_time_of_its_own():
    clock = Clock()
    server = StandIn(model_config(rule=RULE))
    client = EtaClient(transport=server, deadline_s=0.05, clock=clock)
    client.predict(ROW)
    server.infer_calls.clear()
    server.clock, server.takes_s, server.infer_fails = clock, 0.046, [DeadlineExceeded("too late")]
    assert client.predict(ROW).path == "rule"
    ((_, _, timeout_s),) = server.infer_calls
    assert 0.040 < timeout_s < 0.048


class Hanging(StandIn):
    """Lets nobody go before all have come, and keeps the time each would have waited."""

    def __init__(self, n):
        super().__init__(model_config(rule=RULE))
        self.all_here = threading.Barrier(n)

    def infer(self, version, numeric, categorical, requested_at, timeout_s):
        self.infer_calls.append(timeout_s)
        self.all_here.wait(10)
        raise DeadlineExceeded("too late")


def test_calls_under_way_together_get_time_for_their_fallbacks_one_after_the_other():
    server, clock = Hanging(8), Clock()
    # threads share the machine, however many clients; each call goes singly, so that all eight are under way together
    clients = [EtaClient(transport=server, deadline_s=0.05, batch_wait_s=0.0, clock=clock) for _ in range(2)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda place: clients[place % 2].predict(ROW), range(8)))
    assert {answer.path for answer in answers} == {"rule"}
    first, *_, last = sorted(server.infer_calls)
    assert last - first >= 0.001
    assert not UNDER_WAY


def test_server_that_failed_is_not_asked_at_every_call_while_others_wait():
    clock = Clock()
    server = StandIn(model_config(rule=RULE), infer_fails=[None, *[DOWN] * 99])
    client = EtaClient(transport=server, clock=clock)
    for _ in range(21):
        client.predict(ROW)
    assert len(server.infer_calls) == 4  # a good one, and one call's three tries
    clock.now += 1
    assert client.predict(ROW).path == "rule"
    assert len(server.infer_calls) > 4


def test_local_model_answers_as_the_served_one_would(run):
    client = EtaClient(transport=always(DOWN), fallback_model=run)
    answer = client.predict(TINY_ROW)
    # 100 + 10 + 1 + 60 (north) + 30 (xl) + half of the UTC day
    assert (answer.path, answer.version, answer.p50_s) == ("local", "tiny", 201.5)
    rows = tiny_rows(200)
    names = (*TINY_SCHEMA.numeric_names, *TINY_SCHEMA.categorical_names, "requested_at")
    columns = [*rows["numeric"].T.tolist(), *rows["categorical"].T.tolist(), rows["requested_at"][:, 0].tolist()]
    dicts = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    np.testing.assert_allclose(client.predict(dicts).quantiles_s, tiny_answers(**rows), rtol=1e-5)


def test_local_model_in_a_versions_folder_has_its_number(run):
    version = run.rename(run.parent / "7")
    assert LocalModel(version).version == LocalModel(version / "model.onnx").version == "7"


def test_local_model_for_other_columns_is_told_and_not_used(run, caplog):
    server = StandIn(model_config(rule=RULE), infer_fails=[DOWN] * 9)
    assert EtaClient(transport=server, fallback_model=run).predict(ROW).path == "rule"
    assert f"is for the schema {TINY_SCHEMA.fingerprint}, the server's is {SCHEMA.fingerprint}" in caplog.text


def test_rule_in_the_file_answers_when_there_is_no_time_for_the_model(run):
    clock = Clock()
    server = StandIn(config_fails=[DOWN] * 9, clock=clock, takes_s=0.999999)
    client = EtaClient(transport=server, fallback_model=run, deadline_s=1.0, clock=clock)
    answer = client.predict(TINY_ROW)
    assert (answer.path, answer.p50_s) == ("rule", 300)


def test_wrong_rows_are_refused_by_the_schema_in_the_file(run):
    with pytest.raises(RequestError, match="row 0: column product is missing"):
        EtaClient(transport=always(DOWN), fallback_model=run).predict({"distance_m": 1.0})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda run: (run / "model.onnx").unlink(), "must be a model file, or a folder with", id="none"),
        pytest.param(
            lambda run: (run / "model.onnx").write_bytes(b"x" + (run / "model.onnx").read_bytes()[1:]),
            "tells another SHA-256",
            id="changed",
        ),
        pytest.param(lambda run: store_model(run, b"no model"), "onnxruntime must load the fallback model", id="no"),
        pytest.param(
            lambda run: store_model(run, tiny_model().SerializeToString()), "must carry its schema", id="schema"
        ),
    ],
)
def test_file_that_cannot_answer_is_refused_at_the_start(run, spoil, said):
    spoil(run)
    with pytest.raises(ConfigError, match=said):
        EtaClient(transport=StandIn(), fallback_model=run)


def test_missing_onnxruntime_is_told_with_the_way_out(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # what an import finds where it is not installed
    with pytest.raises(ConfigError, match=r"pip install 'hailtime\[fallback\]'"):
        LocalModel(run)


def test_backend_that_starts_while_no_server_answers_uses_what_the_last_one_learned(tmp_path):
    cache = tmp_path / "state" / "plan.json"
    EtaClient(transport=StandIn(model_config(rule=RULE)), cache=cache).predict(ROW)
    client = EtaClient(transport=always(DOWN), cache=cache)
    assert client.predict(ROW).path == "rule"
    with pytest.raises(RequestError, match="row 0: pickup_lat must be"):
        client.predict({**ROW, "pickup_lat": 0.0})


@pytest.mark.parametrize("content", ["", "{}", '{"max_batch_size": 1, "parameters": {}}'])
def test_spoilt_cache_is_told_and_written_anew(tmp_path, caplog, content):
    cache = tmp_path / "plan.json"
    cache.write_text(content)
    EtaClient(transport=StandIn(model_config(rule=RULE)), cache=cache).predict(ROW)
    assert "cannot be read and will be written anew" in caplog.text
    assert Schema.from_json(json.loads(cache.read_text())["parameters"]["schema"]) == SCHEMA


def test_clients_of_one_process_may_share_a_cache(tmp_path, caplog):
    clients = [EtaClient(transport=StandIn(model_config(rule=RULE)), cache=tmp_path / "plan.json") for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda client: client.predict(ROW), clients))
    assert not caplog.records
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_cache_that_cannot_be_written_changes_nothing(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert EtaClient(transport=StandIn(), cache=tmp_path / "file" / "plan.json").predict(ROW).path == "triton"
    assert "could not be kept" in caplog.text


def test_rule_that_cannot_be_read_does_not_keep_the_model_from_answering(caplog):
    server = StandIn()
    server.served = type(server.served)(4096, {**server.served.parameters, "rule": "{}"})
    assert EtaClient(transport=server).predict(ROW).path == "triton"
    assert "the served rule cannot be used" in caplog.text


def test_observer_hears_of_every_call():
    calls = []
    server = StandIn(model_config(rule=RULE), infer_fails=[None, *[DOWN] * 3])
    client = EtaClient(transport=server, observer=calls.append)
    client.predict([ROW, ROW])
    client.predict(ROW)
    with pytest.raises(RequestError):
        client.predict({})
    said = [(call.path, call.version, call.n_rows, call.n_retries, call.error) for call in calls]
    assert said == [("triton", "1", 2, 0, None), ("rule", "", 1, 2, None), (None, "", 1, 0, "RequestError")]
    assert client.counts.to_dict() == {
        "answered by triton": 1,
        "retries": 2,
        "answered by rule": 1,
        "not answered": 1,
    }


def test_observer_that_fails_fails_nobody(caplog):
    def fails(call):
        raise KeyError("oh")

    assert EtaClient(transport=StandIn(), observer=fails).predict(ROW).path == "triton"
    assert "the observer failed" in caplog.text
