"""How a question becomes an answer within one deadline: what both clients share, as steps to carry out.

servers that are well, one after the other ──▶ the local model file ──▶ the rule ──▶ an error
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hailtime.client.fallback import Fallback
from hailtime.client.observing import Call, Counts, Observer, tell
from hailtime.client.plan import NoCache, Plan
from hailtime.client.prediction import Prediction, Predictions
from hailtime.client.prediction_log import NoLog
from hailtime.client.question import UNDER_WAY, Answer, Question, Rows
from hailtime.client.servers import Servers, Settings
from hailtime.client.steps import Background, Steps
from hailtime.errors import DeadlineExceeded, PredictionError, RequestError
from hailtime.schema import QUANTILES

log = logging.getLogger(__name__)


class Asking:
    """Steps for `steps.run` or `steps.run_async`; transports and backgrounds must be of the same kind."""

    def __init__(
        self,
        transports: Sequence[Any],
        settings: Settings,
        fallback: Fallback,
        cache: NoCache,
        prediction_log: NoLog,
        observer: Observer,
        plans: Background,
        shadows: Background,
    ) -> None:
        self.counts = Counts()
        known = cache.load()
        self.servers = Servers(transports, settings, self.counts, plans, shadows, self._learn, self._keep_shadow)
        self._settings, self._clock, self._observer = settings, settings.clock, observer
        self._fallback, self._cache, self._log = fallback, cache, prediction_log
        self._is_on_its_own = False
        if known is not None:
            fallback.learn(known)

    def answer(self, rows: Mapping[str, Any] | Rows, request_id: str | None) -> Steps[Prediction | Predictions]:
        """What `predict` gives, or the error it raises."""
        question, started_at = Question(rows, request_id), self._clock()
        if question.is_empty:
            return Predictions(np.empty((0, len(QUANTILES)), np.float32), "", "triton", ())
        try:
            answer = yield from self._answered(question, started_at + self._settings.deadline_s)
        except PredictionError as error:
            self._observe(question, None, started_at, error)
            if isinstance(error, DeadlineExceeded):
                deadline = f"no answer within the deadline of {self._settings.deadline_s:g} s"
                raise DeadlineExceeded(f"{deadline}: {error}") from error
            raise
        self._log.write(question, answer, self._clock() - started_at)
        self._observe(question, answer, started_at, None)
        return question.predictions(answer)

    def _answered(self, question: Question, until: float) -> Steps[Answer]:
        kept_s = self._fallback.reserve_s(question.n_rows, self._settings.deadline_s, len(UNDER_WAY))
        UNDER_WAY.add(question)
        try:
            answer = yield from self.servers.ask(question, until - kept_s, also_resting=kept_s == 0)
            self._tell_turn(False)
            return answer
        except PredictionError as error:
            if isinstance(error, RequestError) and not question.is_packed:
                raise
            reason = error
            fallback_answer = self._fallback.answer(question, until - self._clock())
            if fallback_answer is None:
                raise
        finally:
            UNDER_WAY.discard(question)
        self._tell_turn(True, reason)
        return fallback_answer

    def _learn(self, plan: Plan) -> None:
        self._fallback.learn(plan)
        self._cache.store(plan.config)

    def _keep_shadow(self, question: Question, said: Answer, latency_s: float) -> None:
        self._log.write(question, said, latency_s, shadow=True)

    def _tell_turn(self, is_on_its_own: bool, reason: PredictionError | None = None) -> None:
        """Once when the servers are lost and once when they are back, not at every call."""
        if is_on_its_own == self._is_on_its_own:
            return
        self._is_on_its_own = is_on_its_own
        if is_on_its_own:
            log.warning("no server answers in time, answering without: %s", reason)
        else:
            log.info("a server answers again")

    def _observe(
        self, question: Question, answer: Answer | None, started_at: float, error: PredictionError | None
    ) -> None:
        path, version = (answer.path, answer.version) if answer else (None, "")
        self.counts.add(f"answered by {path}" if path else "not answered")
        n_retries = question.n_tries - 1 if question.n_tries else 0
        name = type(error).__name__ if error else None
        latency_s = self._clock() - started_at
        tell(self._observer, Call(path, version, question.n_rows, latency_s, n_retries, name))
