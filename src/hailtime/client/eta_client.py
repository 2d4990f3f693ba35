"""The clients a ride-hailing backend asks for pickup times; they need numpy and `tritonclient[grpc]`, nothing else.

`EtaClient` for threads, `AsyncEtaClient` for an event loop: the same settings, the same answers. What they do is in
`asking.py`.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast, overload

from hailtime.client.asking import Asking
from hailtime.client.batching import AsyncBatchingTransport, BatchingTransport
from hailtime.client.connection import Headers, Tls
from hailtime.client.fallback import Fallback
from hailtime.client.local_model import LocalModel
from hailtime.client.observing import Counts, Observer, nobody
from hailtime.client.plan import NoCache, PlanCache
from hailtime.client.prediction import Prediction, Predictions
from hailtime.client.prediction_log import NoLog, PredictionLog
from hailtime.client.question import Rows
from hailtime.client.servers import Settings
from hailtime.client.steps import Background, BackgroundTasks, BackgroundThread, run, run_async
from hailtime.client.transport import AsyncGrpcTransport, AsyncTransport, GrpcTransport, Transport
from hailtime.errors import ConfigError

PLANS_WAITING, SHADOWS_WAITING = 16, 100  # 100: half a second of 200 calls/s; behind that, a shadow is behind


class _Client(ABC):
    """The settings of both clients, and the counts."""

    _asking: Asking

    def __init__(
        self,
        url: str | Sequence[str] = "127.0.0.1:8001",
        deadline_s: float = 0.5,
        *,
        plan_refresh_s: float = 5.0,
        fallback_model: Path | str | None = None,
        answer_by_rule: bool = True,
        cache: Path | str | None = None,
        log: PredictionLog | None = None,
        tls: Tls | None = None,
        headers: Headers | None = None,
        schema_fingerprint: str | None = None,
        batch_wait_s: float = 0.002,
        max_batch: int = 64,
        observer: Observer = nobody,
        transport: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = Settings(
            deadline_s=deadline_s, plan_refresh_s=plan_refresh_s, schema_fingerprint=schema_fingerprint, clock=clock
        )
        if not 0 <= batch_wait_s < deadline_s or max_batch < 1:
            raise ConfigError(f"batch_wait_s must be below deadline_s, max_batch from 1, {batch_wait_s=} {max_batch=}")
        local = LocalModel(Path(fallback_model)) if fallback_model is not None else None
        transports = _several(transport) or [self._connect(address, tls, headers) for address in _several(url)]
        if not transports:
            raise ConfigError("a client needs at least one url")
        if batch_wait_s > 0:
            transports = [self._batching(transport, batch_wait_s, max_batch) for transport in transports]
        self.deadline_s, self.plan_refresh_s = deadline_s, plan_refresh_s
        self._plans = self._background("hailtime-plan", PLANS_WAITING)
        self._shadows = self._background("hailtime-shadow", SHADOWS_WAITING)
        self._asking = Asking(
            transports,
            settings,
            Fallback(local, answer_by_rule),
            PlanCache(Path(cache)) if cache is not None else NoCache(),
            log if log is not None else NoLog(),
            observer,
            cast(Background, self._plans),
            cast(Background, self._shadows),
        )
        if transport is None:  # who passes one may want to see each call it makes
            self._read_ahead()

    @property
    def counts(self) -> Counts:
        """`counts["answered by triton"]` and the like, since the client was made: answers by path, "not answered",
        "retries", "canary failures", "shadows asked", "shadows answered", "shadows failed", "shadows dropped",
        "plans not read".
        """
        return self._asking.counts

    @abstractmethod
    def _read_ahead(self) -> None:
        """What no first call should wait for, over connections of our own."""

    @abstractmethod
    def _connect(self, url: str, tls: Tls | None, headers: Headers | None) -> Any:
        """A transport to one server."""

    @abstractmethod
    def _batching(self, transport: Any, wait_s: float, max_rows: int) -> Any:
        """The transport with concurrent callers merged."""

    @abstractmethod
    def _background(self, name: str, room: int) -> Any:
        """Where work runs that no caller waits for."""


class EtaClient(_Client):
    """Asks the served model how long pickups will take. One client serves a whole backend: threads may share it.

    Making one connects and reads the plan, which takes half a second at most for a server that hangs; one that cannot
    be reached is looked for again by the calls.

    - `url`: host:port of Triton's gRPC service, or several that serve the same model: calls go round those that are
      well, and over to the next within the same deadline
    - `deadline_s`: what one `predict` may take in all, whatever it has to do
    - `plan_refresh_s`: how old the schema and the rollout plan read from a server may be; they are read again in the
      background, and the old plan stays when that fails
    - `fallback_model`: an ONNX file, or a folder with model.onnx, that answers when no server does (`path` "local")
    - `answer_by_rule`: whether the rule that came with the model answers after that (`path` "rule"); else an error does
    - `cache`: a file to keep schema and rule in, for a start while no server answers
    - `log`: every answer is in it before the caller has it
    - `tls`, `headers`: encryption, and what a guarded server wants to see; a function is asked at each call
    - `schema_fingerprint`: the only schema to accept of a server
    - `batch_wait_s`, `max_batch`: how long, and for how many rows, a call waits for others to share one request; only
      while two are under way, so a lonely one never waits. 0 sends each by itself
    - `observer`: called after each `predict` with a `Call`, in the caller's thread
    - `transport`: another way to the model than gRPC to `url`, or several; the client closes it

    >>> row = dict(
    ...     requested_at="2026-01-12T08:30:00-05:00",  # or an aware datetime, a Timestamp, epoch seconds
    ...     pickup_lat=43.61, pickup_lon=-70.95, driver_lat=43.6, driver_lon=-70.93, driver_speed_mps=8.5,
    ...     driver_heading_deg=270, driver_busy_s=0, idle_drivers=4, open_requests=2, rain_mm_h=None,  # not known
    ...     temperature_c=-3.5, traffic_speed_ratio=0.8, incidents_active=0,
    ...     pickup_zone="Old Town", pickup_area="centre", product="standard", pickup_place="street", app="ios",
    ... )
    >>> with EtaClient("127.0.0.1:8001") as client:
    ...     one = client.predict(row)
    ...     many = client.predict([row, {**row, "driver_speed_mps": 0.0}])
    >>> one.p10_s <= one.p50_s <= one.p90_s
    True
    >>> len(many)
    2
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back; what runs in the background ends by its deadline, what waits there is dropped."""
        self._plans.close()
        self._shadows.close()
        run(self._asking.servers.close())

    @overload
    def predict(self, rows: Mapping[str, Any], request_id: str | None = None) -> Prediction: ...
    @overload
    def predict(self, rows: Rows, request_id: str | None = None) -> Predictions: ...
    def predict(self, rows: Mapping[str, Any] | Rows, request_id: str | None = None) -> Prediction | Predictions:
        """A `Prediction` for a dict, `Predictions` for a list of dicts or a pandas or Polars frame.

        All of one answer comes from one version, drawn by `request_id` where a canary is tried: the same id gets the
        same version. Without it the first row's id counts, and one is made up when there is none. No rows, no call.
        RequestError says what is wrong with the rows, ServerUnavailable, ModelUnavailable and DeadlineExceeded why
        there is no answer, and a plain PredictionError is for an answer that no rider should see.
        """
        return run(self._asking.answer(rows, request_id))

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Returns when a server has answered a row of which nothing is known; after `timeout_s` the last error rises.

        It is a real inference, because Triton calls a model ready whose worker is dead.
        """
        run(self._asking.servers.wait_ready(timeout_s))

    def wait_idle(self, timeout_s: float = 5.0) -> bool:
        """Whether the work in the background, shadows and plans, is done: before an orderly end, or in a test."""
        return bool(self._plans.wait_idle(timeout_s)) and bool(self._shadows.wait_idle(timeout_s))

    def _read_ahead(self) -> None:
        run(self._asking.servers.read_ahead())
        self._plans.start()

    def _connect(self, url: str, tls: Tls | None, headers: Headers | None) -> Transport:
        return GrpcTransport(url, tls, headers)

    def _batching(self, transport: Transport, wait_s: float, max_rows: int) -> Transport:
        return BatchingTransport(transport, wait_s, max_rows)

    def _background(self, name: str, room: int) -> BackgroundThread:
        return BackgroundThread(name, room)


class AsyncEtaClient(_Client):
    """`EtaClient` for an event loop, with the same settings; one client belongs to one loop, `async with` connects it.

    Rows are packed, the log is written and a fallback computed within the loop: 20 µs, 50 µs and 0.1 ms for a row.

    >>> async def minutes(row):
    ...     async with AsyncEtaClient("127.0.0.1:8001") as client:
    ...         answer = await client.predict(row)
    ...         return answer.p50_s / 60
    """

    _reads_ahead = False

    async def __aenter__(self) -> Self:
        if self._reads_ahead:
            await run_async(self._asking.servers.read_ahead())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._plans.close()
        await self._shadows.close()
        await run_async(self._asking.servers.close())

    @overload
    async def predict(self, rows: Mapping[str, Any], request_id: str | None = None) -> Prediction: ...
    @overload
    async def predict(self, rows: Rows, request_id: str | None = None) -> Predictions: ...
    async def predict(self, rows: Mapping[str, Any] | Rows, request_id: str | None = None) -> Prediction | Predictions:
        """As `EtaClient.predict`."""
        return await run_async(self._asking.answer(rows, request_id))

    async def wait_ready(self, timeout_s: float = 30.0) -> None:
        """As `EtaClient.wait_ready`."""
        await run_async(self._asking.servers.wait_ready(timeout_s))

    async def wait_idle(self, timeout_s: float = 5.0) -> bool:
        """As `EtaClient.wait_idle`."""
        return bool(await self._plans.wait_idle(timeout_s)) and bool(await self._shadows.wait_idle(timeout_s))

    def _read_ahead(self) -> None:
        """Not yet: the loop carries it out."""
        self._reads_ahead = True

    def _connect(self, url: str, tls: Tls | None, headers: Headers | None) -> AsyncTransport:
        return AsyncGrpcTransport(url, tls, headers)

    def _batching(self, transport: AsyncTransport, wait_s: float, max_rows: int) -> AsyncTransport:
        return AsyncBatchingTransport(transport, wait_s, max_rows)

    def _background(self, name: str, room: int) -> BackgroundTasks:
        return BackgroundTasks(name, room)


def _several(one_or_more: Any) -> list[Any]:
    if one_or_more is None:
        return []
    return list(one_or_more) if isinstance(one_or_more, list | tuple) else [one_or_more]
