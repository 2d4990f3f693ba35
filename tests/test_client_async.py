"""The client of an event loop: the same answers as the other's, many at a time; and callers who share a call."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hailtime.client import AsyncEtaClient, EtaClient, PredictionLog
from hailtime.errors import DeadlineExceeded, PredictionError, RequestError, ServerUnavailable
from tests.small_town import ROW, RULE, AsyncStandIn, StandIn, model_config

DOWN = ServerUnavailable("nobody is there")


def rows_of(n):
    """By hand: the stand-in's P50 of row i is 100 + 43.5 + i."""
    return [{**ROW, "pickup_lat": 43.5, "speed_mps": i} for i in range(n)]


def asked(server, ask, **settings):
    """What `ask(client)` gives in a loop of its own."""

    async def within():
        async with AsyncEtaClient(transport=server, **settings) as client:
            return await ask(client)

    return asyncio.run(within())


def test_answers_are_those_of_the_other_client():
    rows = rows_of(5)
    one, many = asked(AsyncStandIn(), lambda client: _both(client, rows))
    with EtaClient(transport=StandIn()) as client:
        assert one == client.predict(rows[0])
        np.testing.assert_array_equal(many.quantiles_s, client.predict(rows).quantiles_s)


async def _both(client, rows):
    await client.wait_ready()
    return await client.predict(rows[0]), await client.predict(rows)


def test_many_at_once_get_their_own_answers_and_read_the_plan_once():
    server = AsyncStandIn()
    answers = asked(server, lambda client: asyncio.gather(*map(client.predict, rows_of(45))))
    assert [answer.p50_s for answer in answers] == [143.5 + i for i in range(45)]
    assert len(server.config_calls) == 1


def test_retries_and_fallbacks_are_the_same():
    server = AsyncStandIn(model_config(rule=RULE), infer_fails=[DOWN, None, *[DOWN] * 9])
    calls = []
    asked(server, lambda client: _three(client), observer=calls.append)
    assert [(call.path, call.n_retries) for call in calls] == [("triton", 1), ("rule", 2), ("rule", 0)]


async def _three(client):
    for _ in range(3):
        await client.predict(ROW)


def test_shadow_is_asked_in_the_background_and_answers_are_logged(tmp_path):
    async def ask(client):
        answers = [await client.predict(row) for row in rows_of(5)]
        assert await client.wait_idle()
        return answers, client.counts["shadows answered"]

    with PredictionLog(tmp_path / "log.sqlite") as log:
        answers, n_shadows = asked(AsyncStandIn(model_config(shadow=2)), ask, log=log)
        assert log.n_written == 10
    assert ({answer.version for answer in answers}, n_shadows) == ({"1"}, 5)


def test_shadows_that_find_no_room_are_dropped_and_counted():
    class Hanging(AsyncStandIn):
        async def infer(self, version, *arguments):
            if version == 2:
                await asyncio.sleep(60)
            return await super().infer(version, *arguments)

    async def ask(client):
        await asyncio.gather(*(client.predict(ROW) for _ in range(150)))
        return client.counts.to_dict()

    counts = asked(Hanging(model_config(shadow=2)), ask)
    assert (counts["shadows asked"], counts["shadows dropped"]) == (100, 50)


def test_caller_that_goes_away_leaves_nothing_locked():
    class Slow(AsyncStandIn):
        async def config(self, timeout_s):
            await asyncio.sleep(0.05)
            return await super().config(timeout_s)

    async def ask(client):
        leaving = asyncio.create_task(client.predict(ROW))
        await asyncio.sleep(0.01)
        leaving.cancel()
        return await client.predict(ROW)

    assert asked(Slow(), ask).path == "triton"


def test_concurrent_callers_share_a_call():
    server = AsyncStandIn()
    answers = asked(server, lambda client: _after_one(client, rows_of(40)), batch_wait_s=0.05, max_batch=16)
    assert [answer.p50_s for answer in answers] == [143.5 + i for i in range(40)]
    assert [n for _, n, _ in server.infer_calls] == [1, 16, 16, 8]


async def _after_one(client, rows):
    await client.predict(ROW)
    return await asyncio.gather(*map(client.predict, rows))


def test_wrong_row_fails_only_its_caller():
    rows = [ROW, {**ROW, "pickup_lat": 0.0}, ROW]

    async def ask(client):
        return await asyncio.gather(*map(client.predict, rows), return_exceptions=True)

    answers = asked(AsyncStandIn(), ask, batch_wait_s=0.02)
    assert [type(answer).__name__ for answer in answers] == ["Prediction", "RequestError", "Prediction"]


def test_row_that_only_the_server_refuses_fails_only_its_caller():
    class Picky(AsyncStandIn):
        async def infer(self, version, numeric, *rest):
            if (numeric[:, 1] == 13).any():
                raise RequestError("not thirteen")
            return await super().infer(version, numeric, *rest)

    async def ask(client):
        return await asyncio.gather(*map(client.predict, rows_of(20)), return_exceptions=True)

    answers = asked(Picky(), ask, batch_wait_s=0.02)
    assert [i for i, answer in enumerate(answers) if isinstance(answer, RequestError)] == [13]
    assert answers[19].p50_s == 162.5


def test_answer_that_is_nonsense_fails_only_its_caller():
    class Half(AsyncStandIn):
        async def infer(self, version, numeric, *rest):
            answer = await super().infer(version, numeric, *rest)
            answer[numeric[:, 1] == 13] = np.nan
            return answer

    async def ask(client):
        return await asyncio.gather(*map(client.predict, rows_of(20)), return_exceptions=True)

    answers = asked(Half(), ask, batch_wait_s=0.02)
    assert [i for i, answer in enumerate(answers) if isinstance(answer, PredictionError)] == [13]


def test_nobody_waits_for_a_batch_past_the_deadline():
    class Hanging(AsyncStandIn):
        async def infer(self, *arguments):
            await asyncio.sleep(60)

    async def ask(client):
        started = time.monotonic()
        errors = await asyncio.gather(*map(client.predict, rows_of(5)), return_exceptions=True)
        return errors, time.monotonic() - started

    errors, took_s = asked(Hanging(), ask, batch_wait_s=0.02, deadline_s=0.2)
    assert [type(error) for error in errors] == [DeadlineExceeded] * 5
    assert took_s < 1


def test_threads_share_a_call_too():
    server = StandIn()
    client = EtaClient(transport=server, batch_wait_s=0.2, max_batch=8, deadline_s=5)
    together = threading.Barrier(8)

    def ask(row):
        together.wait()
        return client.predict(row).p50_s

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, rows_of(8))) == [143.5 + i for i in range(8)]
    client.close()
    assert sum(n for _, n, _ in server.infer_calls) == 8
    assert len(server.infer_calls) < 8


def test_thread_leaves_a_batch_at_its_deadline_and_the_errors_of_a_batch_are_each_callers_own():
    hangs = threading.Event()
    server = StandIn()
    server.infer = lambda *_: hangs.wait(5)
    client = EtaClient(transport=server, batch_wait_s=0.01, deadline_s=0.1)
    with pytest.raises(DeadlineExceeded, match="the batch did not come back in time"):
        client.predict(ROW)
    hangs.set()
    client.close()
    server = StandIn(infer_fails=[PredictionError("the stub died")])
    with ThreadPoolExecutor(4) as threads, EtaClient(transport=server, batch_wait_s=0.2, max_batch=4) as client:
        errors = [future.exception() for future in [threads.submit(client.predict, ROW) for _ in range(4)]]
    assert {str(error) for error in errors} == {"the stub died"}
    assert len({id(error) for error in errors}) == 4
