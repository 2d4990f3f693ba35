"""Callers who ask at the same time share one call to Triton: fewer and larger requests where many ask at once.

A call goes at once while fewer than `UNDER_WAY` are under way. Who comes then waits for one of those to return,
`wait_s` at most, and goes together with all who came meanwhile, `max_rows` at most; so nobody waits where few ask. Each
leaves at its own deadline and gets its own rows or its own error: rows were checked before, and what a server refuses
together, or does not answer before the first of them must leave, is asked one by one.
"""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hailtime.client.messages import ModelConfig
from hailtime.client.transport import AsyncTransport, Transport
from hailtime.errors import DeadlineExceeded, PredictionError, RequestError

AnyFuture = TypeVar("AnyFuture", "asyncio.Future[Any]", "concurrent.futures.Future[Any]")
Inputs = tuple[NDArray[np.float32], NDArray[np.object_], NDArray[np.int64]]
TOO_LATE = "the batch did not come back in time"
UNDER_WAY = 2  # calls at a time before others wait: two keep a server busy while one answer is on its way back


@dataclass(frozen=True, slots=True)
class Member(Generic[AnyFuture]):
    """One caller: its rows, the time it leaves at, and where its answer goes: None when it shall ask alone."""

    rows: Inputs
    until: float
    answer: AnyFuture

    def tell(self, answer: NDArray[np.float32] | None) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


@dataclass
class Batch(Generic[AnyFuture]):
    """Callers of one version, from the first one's arrival, who sends it, to the call."""

    version: int
    members: list[Member[AnyFuture]] = field(default_factory=list)
    n_rows: int = 0

    def inputs(self) -> Inputs:
        numeric, categorical, requested_at = zip(*(member.rows for member in self.members), strict=True)
        return np.concatenate(numeric), np.concatenate(categorical), np.concatenate(requested_at)

    def timeout_s(self) -> float:
        """Until the first of them leaves."""
        return _left_s(self.members[0].until)

    def give(self, quantiles_s: NDArray[np.float32]) -> None:
        if len(quantiles_s) != self.n_rows:
            self.fail(PredictionError(f"a batch of {self.n_rows} rows must get as many, got {len(quantiles_s)}"))
            return
        start = 0
        for member in self.members:
            end = start + len(member.rows[0])
            member.tell(quantiles_s[start:end])
            start = end

    def fail(self, error: BaseException) -> None:
        """Their error, each with its own exception: one that is raised in two places grows two tracebacks."""
        is_shared = isinstance(error, PredictionError) and not isinstance(error, RequestError | DeadlineExceeded)
        for member in self.members:
            if not is_shared and len(self.members) > 1:
                member.tell(None)
            elif not member.answer.done():
                member.answer.set_exception(type(error)(str(error)) if isinstance(error, PredictionError) else error)


class Line(Generic[AnyFuture]):
    """How many calls are under way, and the batches that still take callers: one for each version and width of rows."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._open: dict[Sequence[int], Batch[AnyFuture]] = {}
        self.under_way = 0

    def goes_at_once(self, version: int, rows: Inputs) -> bool:
        """Whether nobody is to wait for; then one more is under way."""
        at_once = self.under_way < UNDER_WAY and _key(version, rows) not in self._open
        self.under_way += at_once
        return at_once

    def join(self, version: int, member: Member[AnyFuture]) -> tuple[Batch[AnyFuture], bool]:
        """Its batch, and whether it is the first in it."""
        key, n = _key(version, member.rows), len(member.rows[0])
        batch = self._open.get(key)
        is_first = batch is None or batch.n_rows + n > self._max_rows
        if batch is None or is_first:
            batch = self._open[key] = Batch(version)
        batch.members.append(member)
        batch.n_rows += n
        return batch, is_first

    def is_ready(self, batch: Batch[AnyFuture]) -> bool:
        """Whether there is nothing more to wait for: it is full, a larger one followed it, or a call returned."""
        is_open = any(batch is other for other in self._open.values())
        return not is_open or batch.n_rows >= self._max_rows or self.under_way < UNDER_WAY

    def close(self, batch: Batch[AnyFuture]) -> None:
        """It takes nobody any more and is under way."""
        for key in [key for key, other in self._open.items() if other is batch]:
            del self._open[key]
        self.under_way += 1


def _key(version: int, rows: Inputs) -> Sequence[int]:
    return version, rows[0].shape[1], rows[1].shape[1]


class BatchingTransport:
    """In front of another transport, for threads: the first of a batch sends it."""

    def __init__(self, transport: Transport, wait_s: float, max_rows: int) -> None:
        self._transport, self._wait_s, self._max_rows = transport, wait_s, max_rows
        self._line: Line[concurrent.futures.Future[Any]] = Line(max_rows)
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        return str(getattr(self._transport, "url", type(self._transport).__name__))

    def config(self, timeout_s: float) -> ModelConfig:
        return self._transport.config(timeout_s)

    def infer(
        self,
        version: int,
        numeric: NDArray[np.float32],
        categorical: NDArray[np.object_],
        requested_at: NDArray[np.int64],
        timeout_s: float,
    ) -> NDArray[np.float32]:
        rows = numeric, categorical, requested_at
        if len(numeric) >= self._max_rows or timeout_s < 2 * self._wait_s:
            return self._transport.infer(version, *rows, timeout_s)
        until = time.monotonic() + timeout_s
        with self._changed:
            if not (at_once := self._line.goes_at_once(version, rows)):
                member = Member(rows, until, concurrent.futures.Future[Any]())
                batch, is_first = self._line.join(version, member)
                if is_first or batch.n_rows >= self._max_rows:
                    self._changed.notify_all()
        if at_once:
            try:
                return self._transport.infer(version, *rows, timeout_s)
            finally:
                self._returned()
        if is_first:
            self._send_when_ready(batch)
        try:
            answer: NDArray[np.float32] | None = member.answer.result(until - time.monotonic())
        except concurrent.futures.TimeoutError as error:
            raise DeadlineExceeded(TOO_LATE) from error
        return self._transport.infer(version, *rows, _left_s(until)) if answer is None else answer

    def close(self) -> None:
        self._transport.close()

    def _send_when_ready(self, batch: Batch[Any]) -> None:
        try:
            with self._changed:
                try:
                    self._changed.wait_for(lambda: self._line.is_ready(batch), self._wait_s)
                finally:
                    self._line.close(batch)
            batch.give(self._transport.infer(batch.version, *batch.inputs(), batch.timeout_s()))
        except BaseException as error:
            batch.fail(error)
            if not isinstance(error, PredictionError):  # a signal's, such as a job's time limit: this thread's alone
                raise
        finally:
            self._returned()

    def _returned(self) -> None:
        with self._changed:
            self._line.under_way -= 1
            self._changed.notify_all()


class AsyncBatchingTransport:
    """The same in an event loop, where a batch is sent by a task of its own: callers may be cancelled."""

    def __init__(self, transport: AsyncTransport, wait_s: float, max_rows: int) -> None:
        self._transport, self._wait_s, self._max_rows = transport, wait_s, max_rows
        self._line: Line[asyncio.Future[Any]] = Line(max_rows)
        self._waiting: dict[int, tuple[Batch[Any], asyncio.Event]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return str(getattr(self._transport, "url", type(self._transport).__name__))

    async def config(self, timeout_s: float) -> ModelConfig:
        return await self._transport.config(timeout_s)

    async def infer(
        self,
        version: int,
        numeric: NDArray[np.float32],
        categorical: NDArray[np.object_],
        requested_at: NDArray[np.int64],
        timeout_s: float,
    ) -> NDArray[np.float32]:
        rows = numeric, categorical, requested_at
        if len(numeric) >= self._max_rows or timeout_s < 2 * self._wait_s:
            return await self._transport.infer(version, *rows, timeout_s)
        if self._line.goes_at_once(version, rows):
            try:
                return await self._transport.infer(version, *rows, timeout_s)
            finally:
                self._returned()
        loop, until = asyncio.get_running_loop(), time.monotonic() + timeout_s
        member = Member(rows, until, loop.create_future())
        batch, is_first = self._line.join(version, member)
        if is_first:
            self._waiting[id(batch)] = batch, asyncio.Event()
            task = loop.create_task(self._send_when_ready(batch))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        self._look()
        try:
            answer: NDArray[np.float32] | None = await asyncio.wait_for(member.answer, timeout_s)
        except TimeoutError as error:
            raise DeadlineExceeded(TOO_LATE) from error
        return await self._transport.infer(version, *rows, _left_s(until)) if answer is None else answer

    async def close(self) -> None:
        for task in self._sending:
            task.cancel()
        await self._transport.close()

    async def _send_when_ready(self, batch: Batch[Any]) -> None:
        try:
            try:
                await asyncio.wait_for(self._waiting[id(batch)][1].wait(), self._wait_s)
            except TimeoutError:
                pass
            finally:
                del self._waiting[id(batch)]
                self._line.close(batch)
            batch.give(await self._transport.infer(batch.version, *batch.inputs(), batch.timeout_s()))
        except asyncio.CancelledError:
            batch.fail(PredictionError("an answer must come before the client is closed"))
            raise
        except Exception as error:
            batch.fail(error)
        finally:
            self._returned()

    def _returned(self) -> None:
        self._line.under_way -= 1
        self._look()

    def _look(self) -> None:
        """Wakes the batches that need not wait any more."""
        for batch, ready in self._waiting.values():
            if self._line.is_ready(batch):
                ready.set()


def _left_s(until: float) -> float:
    return max(until - time.monotonic(), 0.001)
