"""The client a ride-hailing backend asks for pickup times; needs numpy and `tritonclient[grpc]`, nothing else."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from hailtime.client.prediction import Prediction, Predictions, check_answer
from hailtime.client.request import Frame, PackedRows, RowPacker, is_frame
from hailtime.client.transport import GrpcTransport, ModelConfig, Transport
from hailtime.errors import (
    ConfigError,
    DeadlineExceeded,
    HailtimeError,
    ModelUnavailable,
    PredictionError,
    RequestError,
    ServerUnavailable,
)
from hailtime.rollout import Rollout
from hailtime.schema import MODEL_NAME, QUANTILES, Schema

log = logging.getLogger(__name__)

Rows = Sequence[Mapping[str, Any]] | Frame


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to ask, as the server said it last."""

    config: ModelConfig
    packer: RowPacker
    rollout: Rollout

    @classmethod
    def from_config(cls, config: ModelConfig) -> Self:
        try:
            schema = Schema.from_json(config.parameters.get("schema", ""))
            rollout = Rollout.from_json(config.parameters.get("rollout", ""))
        except HailtimeError as error:
            raise ModelUnavailable(
                f"the served {MODEL_NAME} must carry its schema and rollout plan, deploy it again: {error}"
            ) from error
        return cls(config, RowPacker(schema), rollout)


class EtaClient:
    """Asks the served model how long pickups will take. One client serves a whole backend: threads may share it.

    - `url`: host:port of Triton's gRPC service
    - `deadline_s`: what one `predict` may take in all, whatever it has to do
    - `plan_refresh_s`: how old the schema and the rollout plan read from the server may be; the calling thread reads
      them again, in half of its deadline at most, and the old plan stays when that fails
    - `transport`: another way to the model than gRPC to `url`; the client closes it

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

    def __init__(
        self,
        url: str = "127.0.0.1:8001",
        deadline_s: float = 0.5,
        *,
        plan_refresh_s: float = 5.0,
        transport: Transport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not deadline_s > 0 or not plan_refresh_s >= 0:
            raise ConfigError(
                f"deadline_s must be above 0 and plan_refresh_s not below, {deadline_s=} {plan_refresh_s=}"
            )
        self.deadline_s = deadline_s
        self.plan_refresh_s = plan_refresh_s
        self._transport = transport if transport is not None else GrpcTransport(url)
        self._clock = clock
        self._plan: _Plan | None = None
        self._plan_due_at = 0.0
        self._reading_plan = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    @overload
    def predict(self, rows: Mapping[str, Any]) -> Prediction: ...
    @overload
    def predict(self, rows: Rows) -> Predictions: ...
    def predict(self, rows: Mapping[str, Any] | Rows) -> Prediction | Predictions:
        """A `Prediction` for a dict, `Predictions` for a list of dicts or a pandas or Polars frame.

        All of one answer comes from one version; no rows, no call. RequestError says what is wrong with the rows,
        ServerUnavailable, ModelUnavailable and DeadlineExceeded why there is no answer, and a plain PredictionError is
        for an answer that no rider should see.
        """
        if not isinstance(rows, Mapping) and _is_empty(rows):
            return Predictions(np.empty((0, len(QUANTILES)), np.float32), model_version="")
        gives_up_at = self._clock() + self.deadline_s
        try:
            quantiles_s, version = self._answer(rows, gives_up_at)
        except DeadlineExceeded as error:
            raise DeadlineExceeded(f"no answer within the deadline of {self.deadline_s:g} s: {error}") from error
        predictions = Predictions(quantiles_s, str(version))
        return predictions[0] if isinstance(rows, Mapping) else predictions

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Returns when the model has answered a row of which nothing is known; after `timeout_s` the last error rises.

        It is a real inference, because Triton calls a model ready whose worker is dead.
        """
        gives_up_at = self._clock() + timeout_s
        while True:
            try:
                attempt_until = self._clock() + self.deadline_s
                plan = self._read_plan(attempt_until)
                self._infer(plan, plan.packer.nothing_known(int(time.time())), attempt_until)
                return
            except (ServerUnavailable, ModelUnavailable, DeadlineExceeded):
                if self._clock() >= gives_up_at:
                    raise
            time.sleep(0.1)

    def _answer(self, rows: Mapping[str, Any] | Rows, gives_up_at: float) -> tuple[NDArray[np.float32], int]:
        plan = self._current_plan(gives_up_at)
        packed = plan.packer.pack(rows)
        try:
            return self._infer(plan, packed, gives_up_at), plan.rollout.stable
        except (ModelUnavailable, RequestError) as error:
            # The rows fitted our plan: the server has moved on since we read it, to another version or other columns
            log.info("%s was refused, reading the plan again: %s", MODEL_NAME, error)
        plan = self._read_plan(gives_up_at)
        return self._infer(plan, plan.packer.pack(rows), gives_up_at), plan.rollout.stable

    def _infer(self, plan: _Plan, packed: PackedRows, gives_up_at: float) -> NDArray[np.float32]:
        version = plan.rollout.stable
        answers = [
            self._transport.infer(version, part.numeric, part.categorical, part.requested_at, self._left_s(gives_up_at))
            for part in packed.parts(max(plan.config.max_batch_size, 1))
        ]
        quantiles_s = answers[0] if len(answers) == 1 else np.concatenate(answers)
        check_answer(quantiles_s, len(packed), version)
        return quantiles_s

    def _current_plan(self, gives_up_at: float) -> _Plan:
        """The plan at hand, read again when it is due; one thread reads, the others go on with the old one."""
        plan = self._plan
        if plan is not None and self._clock() < self._plan_due_at:
            return plan
        if plan is None:
            return self._first_plan(gives_up_at)
        if not self._reading_plan.acquire(blocking=False):
            return plan
        try:
            return self._read_plan(self._clock() + self._left_s(gives_up_at) / 2)
        except PredictionError as error:
            log.warning("the plan could not be read again, going on with the old one: %s", error)
            return plan
        finally:
            self._reading_plan.release()

    def _first_plan(self, gives_up_at: float) -> _Plan:
        if not self._reading_plan.acquire(timeout=self._left_s(gives_up_at)):
            raise DeadlineExceeded("another thread is still reading the schema from the server")
        try:
            return self._plan or self._read_plan(gives_up_at)
        finally:
            self._reading_plan.release()

    def _read_plan(self, gives_up_at: float) -> _Plan:
        self._plan_due_at = self._clock() + self.plan_refresh_s  # also when it fails: not every call shall pay for it
        config = self._transport.config(self._left_s(gives_up_at))
        plan = self._plan
        if plan is None or plan.config != config:
            self._plan = plan = _Plan.from_config(config)
        return plan

    def _left_s(self, gives_up_at: float) -> float:
        left_s = gives_up_at - self._clock()
        if left_s <= 0:
            raise DeadlineExceeded("the time was used up before the model could be asked")
        return left_s


def _is_empty(rows: Rows) -> bool:
    return (isinstance(rows, (list, tuple)) or is_frame(rows)) and len(rows) == 0
