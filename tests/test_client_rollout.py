"""Who is answered by a canary, and a shadow that is asked and never heard."""

import threading

import pytest

from hailtime.client import EtaClient, PredictionLog
from hailtime.errors import ModelUnavailable, RequestError, ServerUnavailable
from hailtime.rollout import Rollout
from tests.small_town import LONG_S, ROW, StandIn, model_config


def test_canary_answers_its_share_and_always_the_same_ids():
    client = EtaClient(transport=StandIn(model_config(canary=2, canary_percent=20)), deadline_s=LONG_S)
    versions = [client.predict({**ROW, "request_id": f"r{i}"}).version for i in range(1000)]
    assert 150 < versions.count("2") < 250
    assert versions == [client.predict(ROW, request_id=f"r{i}").version for i in range(1000)]


@pytest.mark.parametrize(("percent", "version"), [(0, 1), (100, 2)])
def test_share_of_none_and_of_all(percent, version):
    plan = Rollout(1, canary=2, canary_percent=percent)
    assert {plan.version_for(str(i)) for i in range(1000)} == {version}


def test_request_without_an_id_gets_one_of_its_own():
    client = EtaClient(transport=StandIn(model_config(canary=2, canary_percent=50)), deadline_s=LONG_S)
    answers = [client.predict(ROW) for _ in range(100)]
    assert len({answer.request_id for answer in answers}) == 100
    assert {answer.version for answer in answers} == {"1", "2"}


def test_batch_is_one_question_and_gets_one_version():
    client = EtaClient(transport=StandIn(model_config(canary=2, canary_percent=50)), deadline_s=LONG_S)
    rows = [{**ROW, "request_id": f"r{i}"} for i in range(64)]
    many = client.predict(rows)
    assert many.version == client.predict(rows[0]).version
    assert list(many.request_ids) == [f"r{i}" for i in range(64)]
    assert client.predict([ROW, {**ROW, "request_id": 7}], request_id="trip").request_ids == ["trip/0", "7"]


def test_id_must_be_text_or_a_whole_number():
    with pytest.raises(RequestError, match="row 1: request_id must be text or an int"):
        EtaClient(transport=StandIn()).predict([ROW, {**ROW, "request_id": 1.5}])


@pytest.mark.parametrize("broken", ["answers NaN", "is not loaded"])
def test_canary_that_fails_is_answered_for_by_the_stable_version(broken, caplog):
    config = model_config(canary=2, canary_percent=100)
    nan, gone = StandIn(config, broken=[2]), StandIn(config, infer_fails=[ModelUnavailable("version 2 is not loaded")])
    client = EtaClient(transport=nan if broken == "answers NaN" else gone)
    answer = client.predict(ROW)
    assert (answer.version, answer.path, client.counts["canary failures"]) == ("1", "triton", 1)
    assert "the canary did not answer, version 1 does" in caplog.text


class SlowShadow(StandIn):
    """Version 2 does not answer before it is let go."""

    let_go = threading.Event()

    def infer(self, version, *arguments):
        if version == 2:
            self.let_go.wait(10)
        return super().infer(version, *arguments)


def test_shadow_is_asked_and_logged_and_not_heard(tmp_path):
    with PredictionLog(tmp_path / "log.sqlite") as log:
        client = EtaClient(transport=StandIn(model_config(shadow=2)), log=log)
        answers = [client.predict([ROW, ROW], request_id=f"r{i}") for i in range(5)]
        assert client.wait_idle()
        assert {answer.version for answer in answers} == {"1"}
        connection = log._file.connection()
        heard = connection.execute("SELECT request_id, version FROM predictions ORDER BY id").fetchall()
        shadow = connection.execute("SELECT request_id, version, p50_s FROM shadow_predictions ORDER BY id").fetchall()
        assert [(name, "2") for name, _ in heard] == [(name, version) for name, version, _ in shadow]
        assert shadow[0][2] == pytest.approx(answers[0].p50_s[0] + 100)
    assert client.counts["shadows answered"] == 5


def test_shadow_that_hangs_neither_slows_nor_fails_and_what_finds_no_room_is_counted():
    server = SlowShadow(model_config(shadow=2))
    client = EtaClient(transport=server)
    assert {client.predict(ROW).version for _ in range(300)} == {"1"}
    assert client.counts["shadows asked"] + client.counts["shadows dropped"] == 300
    assert 100 <= client.counts["shadows asked"] <= 101
    server.let_go.set()
    assert client.wait_idle()
    assert client.counts["shadows answered"] == client.counts["shadows asked"]


def test_shadow_that_fails_is_counted():
    server = StandIn(model_config(shadow=2), broken=[2])
    client = EtaClient(transport=server)
    client.predict(ROW)
    server.infer_fails = [None, ServerUnavailable("gone")]
    client.predict(ROW)
    assert client.wait_idle()
    assert client.counts["shadows failed"] == 2


def test_closed_client_drops_its_shadows():
    server = SlowShadow(model_config(shadow=2))
    server.let_go = threading.Event()
    client = EtaClient(transport=server)
    for _ in range(20):
        client.predict(ROW)
    client.close()
    server.let_go.set()
    assert client.wait_idle()
    assert client.counts["shadows answered"] <= 1
