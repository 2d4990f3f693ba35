"""Callers who ask at the same time share one call to Triton: fewer and larger requests where many threads ask at once.

The first caller waits `wait_s` for others, or until there are `max_rows` rows. Each leaves at its own deadline and gets
its own rows or its own error: rows were checked before, and what a server refuses together it is asked one by one.
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


@dataclass(frozen=True, slots=True)
class Member(Generic[AnyFuture]):
    """One caller: its rows, the time it leaves at, and where its answer goes."""

    rows: Inputs
    until: float
    answer: AnyFuture


@dataclass
class Batch(Generic[AnyFuture]):
    """Callers of one version, from the first one's arrival to the call."""

    version: int
    members: list[Member[AnyFuture]] = field(default_factory=list)
    n_rows: int = 0

    def add(self, member: Member[AnyFuture]) -> None:
        self.members.append(member)
        self.n_rows += len(member.rows[0])

    def inputs(self) -> Inputs:
        numeric, categorical, requested_at = zip(*(member.rows for member in self.members), strict=True)
        return np.concatenate(numeric), np.concatenate(categorical), np.concatenate(requested_at)

    def timeout_s(self) -> float:
        """Until the last of them leaves."""
        return max(max(member.until for member in self.members) - time.monotonic(), 0.001)

    def give(self, quantiles_s: NDArray[np.float32]) -> None:
        if len(quantiles_s) != self.n_rows:
            self.fail(PredictionError(f"a batch of {self.n_rows} rows must get as many, got {len(quantiles_s)}"))
            return
        start = 0
        for member in self.members:
            end = start + len(member.rows[0])
            if not member.answer.done():
                member.answer.set_result(quantiles_s[start:end])
            start = end

    def fail(self, error: BaseException) -> None:
        for member in self.members:
            if not member.answer.done():
                # Its own exception for each: one that is raised in two places grows two tracebacks
                own = type(error)(str(error)) if isinstance(error, PredictionError) else error
                member.answer.set_exception(own)

    def alone(self) -> list["Batch[AnyFuture]"]:
        return [Batch(self.version, [member], len(member.rows[0])) for member in self.members]


class OpenBatches(Generic[AnyFuture]):
    """The batches that still take callers, one for each version and width of rows."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._open: dict[Sequence[int], Batch[AnyFuture]] = {}

    def join(self, version: int, member: Member[AnyFuture]) -> tuple[Batch[AnyFuture], bool, bool]:
        """Its batch, whether it is the first in it, and whether the batch is full."""
        key = (version, member.rows[0].shape[1], member.rows[1].shape[1])
        batch = self._open.get(key)
        is_first = batch is None or batch.n_rows + len(member.rows[0]) > self._max_rows
        if batch is None or is_first:
            batch = self._open[key] = Batch(version)
        batch.add(member)
        return batch, is_first, batch.n_rows >= self._max_rows

    def close(self, batch: Batch[AnyFuture]) -> None:
        """It takes nobody any more."""
        for key in [key for key, other in self._open.items() if other is batch]:
            del self._open[key]


class BatchingTransport:
    """In front of another transport, for threads."""

    def __init__(self, transport: Transport, wait_s: float, max_rows: int) -> None:
        self._transport, self._wait_s, self._max_rows = transport, wait_s, max_rows
        self._batches: OpenBatches[concurrent.futures.Future[Any]] = OpenBatches(max_rows)
        self._joining = threading.Condition()
        self._callers = concurrent.futures.ThreadPoolExecutor(8, "hailtime-batch")

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
        if len(numeric) >= self._max_rows or timeout_s < 2 * self._wait_s:
            return self._transport.infer(version, numeric, categorical, requested_at, timeout_s)
        until = time.monotonic() + timeout_s
        member = Member((numeric, categorical, requested_at), until, concurrent.futures.Future[Any]())
        with self._joining:
            batch, is_first, is_full = self._batches.join(version, member)
            if is_full:
                self._batches.close(batch)
                self._joining.notify_all()
        if is_first:
            self._send_when_ready(batch)
        try:
            answer: NDArray[np.float32] = member.answer.result(until - time.monotonic())
            return answer
        except concurrent.futures.TimeoutError as error:
            raise DeadlineExceeded(TOO_LATE) from error

    def close(self) -> None:
        self._callers.shutdown(wait=False)
        self._transport.close()

    def _send_when_ready(self, batch: Batch[Any]) -> None:
        with self._joining:
            self._joining.wait_for(lambda: batch.n_rows >= self._max_rows, self._wait_s)
            self._batches.close(batch)
        try:
            self._callers.submit(self._send, batch)
        except RuntimeError as error:  # closed meanwhile
            batch.fail(PredictionError(str(error)))

    def _send(self, batch: Batch[Any]) -> None:
        try:
            batch.give(self._transport.infer(batch.version, *batch.inputs(), batch.timeout_s()))
        except RequestError as error:
            if len(batch.members) == 1:
                batch.fail(error)
                return
            for one in batch.alone():
                self._send(one)
        except BaseException as error:
            batch.fail(error)


class AsyncBatchingTransport:
    """The same in an event loop."""

    def __init__(self, transport: AsyncTransport, wait_s: float, max_rows: int) -> None:
        self._transport, self._wait_s, self._max_rows = transport, wait_s, max_rows
        self._batches: OpenBatches[asyncio.Future[Any]] = OpenBatches(max_rows)
        self._full: dict[int, asyncio.Event] = {}
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
        if len(numeric) >= self._max_rows or timeout_s < 2 * self._wait_s:
            return await self._transport.infer(version, numeric, categorical, requested_at, timeout_s)
        loop = asyncio.get_running_loop()
        member = Member((numeric, categorical, requested_at), time.monotonic() + timeout_s, loop.create_future())
        batch, is_first, is_full = self._batches.join(version, member)
        if is_first:
            self._full[id(batch)] = asyncio.Event()
            task = loop.create_task(self._send_when_ready(batch))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        if is_full:
            self._batches.close(batch)
            self._full[id(batch)].set()
        try:
            answer: NDArray[np.float32] = await asyncio.wait_for(member.answer, timeout_s)
            return answer
        except TimeoutError as error:
            raise DeadlineExceeded(TOO_LATE) from error

    async def close(self) -> None:
        for task in self._sending:
            task.cancel()
        await self._transport.close()

    async def _send_when_ready(self, batch: Batch[Any]) -> None:
        try:
            await asyncio.wait_for(self._full[id(batch)].wait(), self._wait_s)
        except TimeoutError:
            pass
        finally:
            del self._full[id(batch)]
            self._batches.close(batch)
        await self._send(batch)

    async def _send(self, batch: Batch[Any]) -> None:
        try:
            batch.give(await self._transport.infer(batch.version, *batch.inputs(), batch.timeout_s()))
        except RequestError as error:
            if len(batch.members) == 1:
                batch.fail(error)
                return
            for one in batch.alone():
                await self._send(one)
        except BaseException as error:
            batch.fail(error)
            if not isinstance(error, Exception):
                raise
