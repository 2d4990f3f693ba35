"""The client of an event loop: the same answers as the other's, many at a time."""

import asyncio

import numpy as np

from hailtime.client import AsyncEtaClient, EtaClient, PredictionLog
from hailtime.errors import ServerUnavailable
from tests.small_town import LONG_S, ROW, RULE, AsyncStandIn, StandIn, model_config

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
    answers = asked(server, lambda client: asyncio.gather(*map(client.predict, rows_of(45))), deadline_s=LONG_S)
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

    counts = asked(Hanging(model_config(shadow=2)), ask, deadline_s=LONG_S)
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
