"""Callers who ask while two calls are under way share the next one; in threads and in an event loop."""

import asyncio
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from hailtime.client import EtaClient
from hailtime.client.batching import UNDER_WAY, AsyncBatchingTransport, BatchingTransport
from hailtime.errors import DeadlineExceeded, PredictionError, RequestError, ServerUnavailable
from tests.small_town import LONG_S, ROW, AsyncStandIn, StandIn
from tests.test_client_async import asked, rows_of


class Busy(StandIn):
    """Its first two calls take until `let_go`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.let_go, self.held, self.changing = threading.Event(), threading.Semaphore(UNDER_WAY), threading.Lock()
        self.are_held = threading.Barrier(UNDER_WAY + 1)

    def infer(self, *arguments):
        if self.held.acquire(blocking=False):
            self.are_held.wait(LONG_S)
            self.let_go.wait(LONG_S)
        with self.changing:
            return super().infer(*arguments)


class Asking:
    """Threads that ask a busy server: two that it holds, and those who come then."""

    def __init__(self, server, **settings):
        settings = {"batch_wait_s": LONG_S / 4, "deadline_s": LONG_S, "max_batch": 64, **settings}
        self.server, self.client = server, EtaClient(transport=server, **settings)
        self.threads = ThreadPoolExecutor(32)

    def __enter__(self):
        self.held = [self.threads.submit(self.client.predict, ROW) for _ in range(UNDER_WAY)]
        self.server.are_held.wait(LONG_S)
        return self

    def __exit__(self, *_):
        self.server.let_go.set()
        wait(self.held, LONG_S)
        self.threads.shutdown()
        self.client.close()

    def ask(self, rows):
        return [self.threads.submit(self.client.predict, row) for row in rows]

    @property
    def sizes(self):
        return [n for _, n, _ in self.server.infer_calls]


def test_lonely_caller_waits_for_nobody():
    server = StandIn()
    with EtaClient(transport=server, batch_wait_s=LONG_S / 4, deadline_s=LONG_S) as client:
        started_at = time.monotonic()
        assert [client.predict(row).p50_s for row in rows_of(3)] == [143.5, 144.5, 145.5]
    assert time.monotonic() - started_at < LONG_S / 8
    assert [n for _, n, _ in server.infer_calls] == [1, 1, 1]


def test_a_full_batch_goes_while_others_are_under_way():
    with Asking(Busy(), max_batch=10) as asking:
        answers = [future.result(LONG_S / 4) for future in asking.ask(rows_of(10))]
        assert asking.sizes == [10]
    assert [answer.p50_s for answer in answers] == [143.5 + i for i in range(10)]


def test_a_call_that_returns_lets_the_waiting_go_together():
    with Asking(Busy()) as asking:
        answers = asking.ask(rows_of(12))
        time.sleep(0.2)  # they wait, however long it takes
        assert asking.sizes == []
        asking.server.let_go.set()
        assert [future.result(LONG_S / 4).p50_s for future in answers] == [143.5 + i for i in range(12)]
    assert sum(asking.sizes) == UNDER_WAY + 12
    assert len(asking.sizes) < UNDER_WAY + 12


def test_nobody_waits_longer_than_batch_wait_s_for_calls_that_hang():
    with Asking(Busy(), batch_wait_s=0.05) as asking:
        assert asking.ask([ROW])[0].result(LONG_S / 4).path == "triton"
        assert asking.sizes == [1]


def test_zero_sends_each_by_itself():
    with Asking(Busy(), batch_wait_s=0) as asking:
        wait(asking.ask(rows_of(6)), LONG_S / 4)
        assert asking.sizes == [1] * 6


def test_more_rows_than_a_batch_holds_wait_for_nobody_and_do_not_count():
    with Asking(Busy(), max_batch=4) as asking:
        assert len(asking.ask([rows_of(4)])[0].result(LONG_S / 4)) == 4


def test_row_that_only_the_server_refuses_fails_only_its_caller():
    class Picky(Busy):
        def infer(self, version, numeric, *rest):
            if (numeric[:, 1] == 13).any():
                raise RequestError("not thirteen")
            return super().infer(version, numeric, *rest)

    with Asking(Picky(), max_batch=20, batch_wait_s=0.2) as asking:
        answers = asking.ask(rows_of(20))
        errors = [future.exception(LONG_S / 4) for future in answers]
    assert [i for i, error in enumerate(errors) if isinstance(error, RequestError)] == [13]
    assert answers[19].result().p50_s == 162.5


def test_errors_of_a_batch_are_each_callers_own():
    server = Busy(infer_fails=[PredictionError("the stub died")])
    with Asking(server, max_batch=4) as asking:
        errors = [future.exception(LONG_S / 4) for future in asking.ask([ROW] * 4)]
    assert {str(error) for error in errors} == {"the stub died"}
    assert len({id(error) for error in errors}) == 4


def test_who_has_time_left_when_the_first_of_a_batch_must_leave_asks_alone():
    server = Busy(infer_fails=[DeadlineExceeded("too slow for the first")])
    transport = BatchingTransport(server, 0.5, 2)
    rows = np.zeros((1, 3), np.float32), np.zeros((1, 0), object), np.zeros((1, 1), np.int64)
    with ThreadPoolExecutor(4) as threads:
        held = [threads.submit(transport.infer, 1, *rows, LONG_S) for _ in range(UNDER_WAY)]
        server.are_held.wait(LONG_S)
        first = threads.submit(transport.infer, 1, *rows, 1.0)
        time.sleep(0.1)
        second = threads.submit(transport.infer, 1, *rows, LONG_S)
        told = second.result(LONG_S / 4), first.result(LONG_S / 4)  # alone both: the server's error is not the clock's
        server.let_go.set()
        wait(held, LONG_S)
    assert [answer[0, 1] for answer in told] == [100.0, 100.0]
    assert [n for _, n, _ in server.infer_calls] == [2, 1, 1, 1, 1]


def test_thread_leaves_a_batch_at_its_deadline():
    server = Busy()
    transport = BatchingTransport(server, 0.01, 4)
    rows = np.zeros((1, 3), np.float32), np.zeros((1, 0), object), np.zeros((1, 1), np.int64)
    hangs = threading.Event()
    with ThreadPoolExecutor(4) as threads:
        held = [threads.submit(transport.infer, 1, *rows, LONG_S) for _ in range(UNDER_WAY)]
        server.are_held.wait(LONG_S)
        server.infer = lambda *_: hangs.wait(LONG_S)
        first = threads.submit(transport.infer, 1, *rows, LONG_S)
        second = threads.submit(transport.infer, 1, *rows, 0.1)
        with pytest.raises(DeadlineExceeded, match="did not come back in time"):
            second.result(LONG_S / 4)
        assert not first.done()
        hangs.set()
        server.let_go.set()
        wait([*held, first], LONG_S)


def test_in_a_loop_callers_share_a_call_and_get_their_own_answers():
    server = AsyncStandIn()
    answers = asked(server, lambda client: _after_one(client, rows_of(40)), max_batch=16)
    assert [answer.p50_s for answer in answers] == [143.5 + i for i in range(40)]
    assert [n for _, n, _ in server.infer_calls] == [1, *[1] * UNDER_WAY, 16, 16, 8 - UNDER_WAY]


async def _after_one(client, rows):
    await client.predict(ROW)
    return await asyncio.gather(*map(client.predict, rows), return_exceptions=True)


def test_in_a_loop_a_wrong_row_fails_only_its_caller():
    rows = [*rows_of(4), {**ROW, "pickup_lat": 0.0}, *rows_of(4)]
    answers = asked(AsyncStandIn(), lambda client: _after_one(client, rows))
    assert [type(answer).__name__ for answer in answers] == [*["Prediction"] * 4, "RequestError", *["Prediction"] * 4]


def test_in_a_loop_a_row_that_only_the_server_refuses_fails_only_its_caller():
    class Picky(AsyncStandIn):
        async def infer(self, version, numeric, *rest):
            if (numeric[:, 1] == 13).any():
                raise RequestError("not thirteen")
            return await super().infer(version, numeric, *rest)

    answers = asked(Picky(), lambda client: _after_one(client, rows_of(20)))
    assert [i for i, answer in enumerate(answers) if isinstance(answer, RequestError)] == [13]
    assert answers[19].p50_s == 162.5


def test_in_a_loop_an_answer_that_is_nonsense_fails_only_its_caller():
    class Half(AsyncStandIn):
        async def infer(self, version, numeric, *rest):
            answer = await super().infer(version, numeric, *rest)
            answer[numeric[:, 1] == 13] = np.nan
            return answer

    answers = asked(Half(), lambda client: _after_one(client, rows_of(20)))
    assert [i for i, answer in enumerate(answers) if isinstance(answer, PredictionError)] == [13]


def test_in_a_loop_nobody_waits_for_a_batch_past_the_deadline():
    class Hanging(AsyncStandIn):
        async def infer(self, *arguments):
            await asyncio.sleep(arguments[-1])
            raise DeadlineExceeded("it hangs")

    async def ask(client):
        started = time.monotonic()
        errors = await asyncio.gather(*map(client.predict, rows_of(5)), return_exceptions=True)
        return errors, time.monotonic() - started

    errors, took_s = asked(Hanging(), ask, deadline_s=0.2)
    assert [type(error) for error in errors] == [DeadlineExceeded] * 5
    assert took_s < 1


def test_in_a_loop_a_caller_that_goes_away_takes_nobody_with_it():
    class Slow(AsyncStandIn):
        async def infer(self, *arguments):
            await asyncio.sleep(0.05)
            return await super().infer(*arguments)

    async def ask(client):
        await client.predict(ROW)
        tasks = [asyncio.create_task(client.predict(row)) for row in rows_of(6)]
        await asyncio.sleep(0.02)
        tasks[UNDER_WAY].cancel()  # who came first and whose batch the others are in
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asked(Slow(), ask, batch_wait_s=0.2)
    assert [getattr(answer, "p50_s", None) for answer in answers] == [143.5, 144.5, None, 146.5, 147.5, 148.5]


def test_a_signal_that_ends_the_first_ones_wait_is_its_own_and_the_others_are_answered():
    class TimeLimit(Exception):
        """As a job queue raises it in the thread that works."""

    def strike(*_):
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, strike)
    try:
        with Asking(Busy()) as asking:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            others = []
            late = threading.Timer(0.1, lambda: others.extend(asking.ask(rows_of(3))))
            late.start()
            with pytest.raises(TimeLimit):
                asking.client.predict(ROW)
            late.join()
            answers = [future.result(LONG_S / 8).p50_s for future in others]
            assert answers == [143.5, 144.5, 145.5]
            assert asking.sizes == [1, 1, 1]  # each by itself
            asking.server.let_go.set()
            wait(asking.held, LONG_S)
            assert asking.ask([ROW])[0].result(LONG_S / 8).path == "triton"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_in_a_loop_closing_leaves_nobody_waiting():
    class Hanging(AsyncStandIn):
        async def infer(self, *arguments):
            await asyncio.sleep(LONG_S)

    async def ask():
        transport = AsyncBatchingTransport(Hanging(), LONG_S / 4, 8)
        rows = np.zeros((1, 3), np.float32), np.zeros((1, 0), object), np.zeros((1, 1), np.int64)
        held = [asyncio.create_task(transport.infer(1, *rows, LONG_S)) for _ in range(UNDER_WAY)]
        await asyncio.sleep(0)
        waiting = asyncio.create_task(transport.infer(1, *rows, LONG_S))
        await asyncio.sleep(0.05)
        await transport.close()
        with pytest.raises(PredictionError, match="before the client is closed"):
            await asyncio.wait_for(waiting, LONG_S / 8)
        for task in held:
            task.cancel()

    asyncio.run(ask())


def test_server_that_is_gone_is_told_to_all_of_a_batch():
    gone = ServerUnavailable("nobody is there")
    server = AsyncStandIn(infer_fails=[None, *[gone] * 60])
    answers = asked(server, lambda client: _after_one(client, rows_of(6)), answer_by_rule=False)
    assert {str(answer) for answer in answers} == {"nobody is there"}
