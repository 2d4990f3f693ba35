"""The servers of a client, asked as steps: by the plan each one gave, one after the other, within the time given.

A server's schema packs the rows and its rollout says which version. The plan is read before the first question and
after a lost connection, because another server may have come to the address, and again in the background when it is
due. A server that no longer has the version, or other columns, is asked once more by its new plan. One that cannot be
reached is tried again, another that failed is left for the next.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hailtime.client.endpoints import Endpoint, Endpoints, RetryBudget, backoff_s
from hailtime.client.observing import Counts
from hailtime.client.plan import Plan
from hailtime.client.prediction import check_answer
from hailtime.client.question import UNDER_WAY, Answer, Question
from hailtime.client.request import PackedRows
from hailtime.client.steps import Background, Pause, Steps
from hailtime.errors import (
    ConfigError,
    DeadlineExceeded,
    ModelUnavailable,
    PredictionError,
    RequestError,
    ServerUnavailable,
)

log = logging.getLogger(__name__)

LEAST_TRY_S = 0.001  # with less than this left nobody is asked any more
MOST_TRIES = 3  # at one server, or at each once where there are more
READ_AHEAD_S = 0.5  # what a new client may wait for each of its servers


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What does not change in a client's life."""

    deadline_s: float
    plan_refresh_s: float
    schema_fingerprint: str | None
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        if not self.deadline_s > 0 or not self.plan_refresh_s >= 0:
            raise ConfigError(
                f"deadline_s must be above 0 and plan_refresh_s not below, "
                f"deadline_s={self.deadline_s} plan_refresh_s={self.plan_refresh_s}"
            )


class Servers:
    """Transports and backgrounds must be of the same kind as who carries out the steps.

    `learn` hears every new plan, `keep_shadow` what a shadow version said beside an answer, with its latency.
    """

    def __init__(
        self,
        transports: Sequence[Any],
        settings: Settings,
        counts: Counts,
        plans: Background,
        shadows: Background,
        learn: Callable[[Plan], None],
        keep_shadow: Callable[[Question, Answer, float], None],
    ) -> None:
        self._settings, self._clock, self._counts = settings, settings.clock, counts
        self._endpoints = Endpoints([Endpoint(transport, self._clock) for transport in transports], self._clock)
        self._budget = RetryBudget(self._clock)
        self._plans, self._shadows = plans, shadows
        self._learn, self._keep_shadow = learn, keep_shadow

    def ask(self, question: Question, until: float, *, also_resting: bool) -> Steps[Answer]:
        """Each server that is well once, in a share of the time left; one that cannot be reached up to three times.

        `also_resting`: also those that failed a moment ago, when there is nobody else.
        """
        self._budget.earn()
        waiting = deque(self._endpoints.candidates(also_resting=also_resting))
        if not waiting:
            raise ServerUnavailable("every server failed a moment ago and is left alone for up to a second")
        n_servers = len(waiting)
        while True:
            endpoint = waiting.popleft()
            question.n_tries += 1
            n_fresh = n_servers - question.n_tries
            share_until = until - self._left_s(until) * n_fresh / (n_fresh + 1) if n_fresh > 0 else until
            try:
                answer = yield from self._ask_one(endpoint, question, share_until)
                endpoint.succeeded()
                return answer
            except RequestError as error:
                if not question.is_packed:
                    raise
                last: PredictionError = error
            except PredictionError as error:
                endpoint.failed(error)
                last = error
                if isinstance(error, ServerUnavailable):
                    waiting.append(endpoint)
            if not waiting or question.n_tries >= max(MOST_TRIES, n_servers):
                raise last
            pause_s = backoff_s(question.n_tries) if question.n_tries >= n_servers else 0.0
            if self._clock() + pause_s + LEAST_TRY_S > until or not self._budget.spend():
                raise last
            self._counts.add("retries")
            yield Pause(pause_s)

    def read_ahead(self) -> Steps[None]:
        """Connect and read the plans before anybody asks, so that no first call has to; what fails is left to that."""
        for endpoint in self._endpoints.all:
            try:
                yield from self._read_plan(endpoint, self._clock() + READ_AHEAD_S)
            except PredictionError as error:
                log.debug("the plan could not be read ahead: %s", error)

    def wait_ready(self, timeout_s: float) -> Steps[None]:
        """Until a server has answered a row of which nothing is known; after `timeout_s` the last error rises."""
        gives_up_at = self._clock() + timeout_s
        while True:
            for endpoint in self._endpoints.all:
                until = self._clock() + self._settings.deadline_s
                try:
                    plan = yield from self._read_plan(endpoint, until)
                    nothing = plan.packer.nothing_known(int(time.time()))
                    yield from self._infer(endpoint, plan, plan.rollout.stable, nothing, until)
                    endpoint.succeeded()
                    return
                except (ServerUnavailable, ModelUnavailable, DeadlineExceeded) as error:
                    last = error
            if self._clock() >= gives_up_at:
                raise last
            yield Pause(0.1)

    def close(self) -> Steps[None]:
        for endpoint in self._endpoints.all:
            yield endpoint.transport.close

    def _ask_one(self, endpoint: Endpoint[Any], question: Question, until: float) -> Steps[Answer]:
        plan = endpoint.plan
        if plan is None or endpoint.was_lost:
            plan = yield from self._read_plan(endpoint, until)
        is_due = self._clock() >= endpoint.plan_due_at
        if is_due:
            endpoint.plan_due_at = self._clock() + self._settings.plan_refresh_s
        try:
            return (yield from self._ask_by(plan, endpoint, question, until))
        except (ModelUnavailable, RequestError) as error:
            if not question.is_packed:
                raise
            # The rows fitted its plan: the server has moved on since, to another version or other columns
            log.info("%s refused, reading its plan again: %s", endpoint, error)
        finally:
            if is_due:  # after the answer, whose caller waits
                self._plans.submit(self._read_again(endpoint))
        plan = yield from self._read_plan(endpoint, until)
        return (yield from self._ask_by(plan, endpoint, question, until))

    def _ask_by(self, plan: Plan, endpoint: Endpoint[Any], question: Question, until: float) -> Steps[Answer]:
        packed = question.packed_by(plan.packer)
        version, stable = plan.rollout.version_for(question.request_id), plan.rollout.stable
        try:
            quantiles_s = yield from self._infer(endpoint, plan, version, packed, until)
        except (ServerUnavailable, DeadlineExceeded):
            raise
        except PredictionError as error:
            if version == stable:
                raise
            log.warning("the canary did not answer, version %d does: %s", stable, error)
            self._counts.add("canary failures")
            endpoint.plan_due_at = 0.0  # perhaps it was given up
            version, quantiles_s = stable, (yield from self._infer(endpoint, plan, stable, packed, until))
        answer = Answer(quantiles_s, str(version), "triton", packed, plan.packer.schema)
        if plan.rollout.shadow is not None:
            taken = self._shadows.submit(self._ask_shadow(plan.rollout.shadow, plan, endpoint, question, answer))
            self._counts.add("shadows asked" if taken else "shadows dropped")
        return answer

    def _ask_shadow(
        self, version: int, plan: Plan, endpoint: Endpoint[Any], question: Question, heard: Answer
    ) -> Steps[None]:
        started_at = self._clock()
        try:
            until = started_at + self._settings.deadline_s
            quantiles_s = yield from self._infer(endpoint, plan, version, heard.packed, until)
        except PredictionError as error:
            log.debug("the shadow did not answer: %s", error)
            self._counts.add("shadows failed")
            return
        said = Answer(quantiles_s, str(version), "triton", heard.packed, heard.schema)
        self._keep_shadow(question, said, self._clock() - started_at)
        self._counts.add("shadows answered")

    def _infer(
        self, endpoint: Endpoint[Any], plan: Plan, version: int, packed: PackedRows, until: float
    ) -> Steps[NDArray[np.float32]]:
        answers = []
        for part in packed.parts(plan.max_rows):
            rows = (part.numeric, part.categorical, part.requested_at)
            answers.append((yield partial(endpoint.transport.infer, version, *rows, self._left_s(until))))
        quantiles_s = answers[0] if len(answers) == 1 else np.concatenate(answers)
        check_answer(quantiles_s, len(packed), version)
        return quantiles_s

    def _read_plan(self, endpoint: Endpoint[Any], until: float) -> Steps[Plan]:
        """One caller reads, the others wait for what it finds."""
        n_read = endpoint.n_plans_read
        while not endpoint.reading_plan.acquire(blocking=False):
            self._left_s(until)
            yield Pause(0.001)
        try:
            if endpoint.n_plans_read > n_read and endpoint.plan is not None:
                return endpoint.plan
            endpoint.plan_due_at = self._clock() + self._settings.plan_refresh_s  # also when it fails
            config = yield partial(endpoint.transport.config, self._left_s(until))
            plan = endpoint.plan
            if plan is None or plan.config != config:
                plan = self._checked(endpoint, Plan.from_config(config))
            endpoint.plan, endpoint.was_lost = plan, False
            endpoint.n_plans_read += 1
            return plan
        finally:
            endpoint.reading_plan.release()

    def _checked(self, endpoint: Endpoint[Any], plan: Plan) -> Plan:
        """A new plan, if it is of the schema we were told to expect."""
        wanted, before = self._settings.schema_fingerprint, endpoint.plan
        if wanted is not None and plan.fingerprint != wanted:
            raise ModelUnavailable(
                f"{endpoint} must serve the schema {wanted}, it serves {plan.fingerprint}: is it the right server?"
            )
        if before is not None and before.fingerprint != plan.fingerprint:
            log.warning("the schema of %s has changed from %s to %s", endpoint, before.fingerprint, plan.fingerprint)
        self._learn(plan)
        return plan

    def _read_again(self, endpoint: Endpoint[Any]) -> Steps[None]:
        for _ in range(20):  # calls go first, for 0.1 s: a plan is due for all who ask again after a while
            if not UNDER_WAY:
                break
            yield Pause(0.005)
        try:
            yield from self._read_plan(endpoint, self._clock() + self._settings.deadline_s)
        except PredictionError as error:
            self._counts.add("plans not read")
            log.warning("the plan could not be read again, going on with the old one: %s", error)

    def _left_s(self, until: float) -> float:
        left_s = until - self._clock()
        if left_s <= 0:
            raise DeadlineExceeded("the time was used up before the model could be asked")
        return left_s
