"""What answers when no server does, and how much of a deadline must be kept for it."""

import logging

from hailtime.client.local_model import LocalModel
from hailtime.client.plan import Plan
from hailtime.client.question import Answer, Question
from hailtime.client.request import RowPacker
from hailtime.errors import PredictionError, RequestError
from hailtime.rule import FallbackRule

log = logging.getLogger(__name__)

# Kept for waking up, the log and the rule. Measured on two busy cores: the rule 0.1 ms, a log row 0.05 ms, and 99.9 %
# of the calls that wait for a server that hangs wake up within 4 ms of their time
MARGIN_S, A_ROW_S = 0.004, 4e-6
# Calls that wait for one server are let down together, and threads then take turns: 16 of them 0.6 ms each (measured).
# With 0.6 ms 16 first calls to a server that hangs ended at 41 to 55 ms of 50, without at 50 to 61; 1 ms is for a
# machine that is busy besides
A_CALL_S = 0.001


class Fallback:
    """First the local model, if there is one for the served schema, then the rule, as far as they are known."""

    def __init__(self, local: LocalModel | None, by_rule: bool) -> None:
        self._local, self._by_rule = local, by_rule
        self._served: Plan | None = None
        self._is_told = False

    @property
    def is_there(self) -> bool:
        return self._fitting_local() is not None or self._rule() is not None

    def learn(self, plan: Plan) -> None:
        """What a server serves, or served last."""
        self._served = plan
        if self._local is not None and self._local.fingerprint != plan.fingerprint and not self._is_told:
            self._is_told = True
            log.warning(
                "the fallback model %s is for the schema %s, the server's is %s: it will not be used",
                self._local.path,
                self._local.fingerprint,
                plan.fingerprint,
            )

    def reserve_s(self, n_rows: int, deadline_s: float, n_others: int) -> float:
        """The end of a deadline that no server may use; half of it at most, and then the rule has to do.

        `n_others`: calls that are under way already, and may need the end of theirs at the same moment.
        """
        local = self._fitting_local()
        if local is None and self._rule() is None:
            return 0.0
        rule_s = min(MARGIN_S + A_ROW_S * n_rows + A_CALL_S * n_others, deadline_s / 2)
        both_s = rule_s + (local.cost_s(n_rows) if local else 0.0)
        return both_s if both_s <= deadline_s / 2 else rule_s

    def answer(self, question: Question, left_s: float) -> Answer | None:
        """None when nothing is at hand. RequestError when the rows fit no schema that is known."""
        local = self._fitting_local()
        if local is not None and local.cost_s(question.n_rows) < left_s:
            try:
                packed = question.packed_by(local.packer)
                return Answer(local.quantiles_s(packed), local.version, "local", packed, local.packer.schema)
            except RequestError:
                raise
            except PredictionError as error:
                log.warning("the fallback model did not answer, the rule does: %s", error)
        if (known := self._rule()) is None:
            return None
        packer, rule = known
        packed = question.packed_by(packer)
        quantiles_s = rule.quantiles_s(packer.schema, packed.numeric, packed.categorical, packed.requested_at)
        return Answer(quantiles_s, "", "rule", packed, packer.schema)

    def _fitting_local(self) -> LocalModel | None:
        if self._local is None or (self._served and self._served.fingerprint != self._local.fingerprint):
            return None
        return self._local

    def _rule(self) -> tuple[RowPacker, FallbackRule] | None:
        """The served one, else that in the local file."""
        if not self._by_rule:
            return None
        if self._served is not None and self._served.rule is not None:
            return self._served.packer, self._served.rule
        local = self._fitting_local()
        return (local.packer, local.rule) if local is not None and local.rule is not None else None
