"""Which server is asked: its health, as the last calls found it, and how often may be tried again."""

import itertools
import random
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from hailtime.client.plan import Plan
from hailtime.errors import PredictionError, ServerUnavailable

FIRST_REST_S, LONGEST_REST_S = 0.1, 1.0  # 1 s: one call a second finds out whether a server is back
SLOW_IN_A_ROW = 3  # a late answer may be the network's; three in a row are the server's

AnyTransport = TypeVar("AnyTransport")


class Endpoint(Generic[AnyTransport]):
    """One server: the way to it, its plan, and when it may be asked again after a failure."""

    def __init__(self, transport: AnyTransport, clock: Callable[[], float]) -> None:
        self.transport = transport
        self.plan: Plan | None = None
        self.plan_due_at = 0.0
        self.n_plans_read = 0
        self.reading_plan = threading.Lock()
        self.was_lost = False  # another server may have come to its address since
        self._clock = clock
        self._n_failures, self._n_rests = 0, 0
        self._rests_until = 0.0

    def __str__(self) -> str:
        return getattr(self.transport, "url", type(self.transport).__name__)

    @property
    def is_well(self) -> bool:
        return self._rests_until == 0.0

    @property
    def rests_until(self) -> float:
        return self._rests_until

    def succeeded(self) -> None:
        if self._n_failures or self._n_rests:
            self._n_failures, self._n_rests, self._rests_until = 0, 0, 0.0

    def failed(self, error: PredictionError) -> None:
        """Rests when nobody is there, or when it has failed three times in a row otherwise.

        Calls that were on their way when it began to rest tell nothing new: a server that stood still for 60 ms
        under ten calls is asked again after 0.1 s, not after a second.
        """
        is_gone = isinstance(error, ServerUnavailable)
        self.was_lost = self.was_lost or is_gone
        self._n_failures += 1
        if self._clock() >= self._rests_until and (is_gone or self._n_failures >= SLOW_IN_A_ROW):
            self.rest()

    def rest(self) -> None:
        """Twice as long as the last time, up to a second; who tries it afterwards lets it rest again beforehand."""
        longest_s = min(FIRST_REST_S * 2**self._n_rests, LONGEST_REST_S)
        self._n_rests = min(self._n_rests + 1, 10)
        self._rests_until = self._clock() + longest_s * random.uniform(0.75, 1.0)


class Endpoints(Generic[AnyTransport]):
    """All servers that hold the model. Calls go round those that are well; one that is not is tried by one caller."""

    def __init__(self, endpoints: Sequence[Endpoint[AnyTransport]], clock: Callable[[], float]) -> None:
        self.all = tuple(endpoints)
        self._turn = itertools.count()
        self._clock = clock
        self._choosing = threading.Lock()

    def candidates(self, *, also_resting: bool) -> list[Endpoint[AnyTransport]]:
        """Who may be asked, in this order. Nobody when all rest, unless `also_resting`: then who rests least."""
        if len(self.all) == 1 and self.all[0].is_well:
            return [self.all[0]]
        well = [endpoint for endpoint in self.all if endpoint.is_well]
        first = next(self._turn) % max(len(well), 1)
        chosen = [*self._rested(), *well[first:], *well[:first]]
        if not chosen and also_resting:
            return sorted(self.all, key=lambda endpoint: endpoint.rests_until)
        return chosen

    def _rested(self) -> list[Endpoint[AnyTransport]]:
        """The server whose rest is over, for the first caller who comes: the others wait for what he finds."""
        with self._choosing:
            for endpoint in self.all:
                if not endpoint.is_well and endpoint.rests_until <= self._clock():
                    endpoint.rest()
                    return [endpoint]
        return []


class RetryBudget:
    """One retry for ten calls and one a second, ten saved at most: retries cannot keep a server down that struggles."""

    def __init__(self, clock: Callable[[], float], share: float = 0.1, saved: float = 10.0) -> None:
        self._clock, self._share, self._most = clock, share, saved
        self._saved, self._seen_at = saved, clock()
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A call has begun."""
        with self._lock:
            now = self._clock()
            self._saved = min(self._saved + self._share + (now - self._seen_at), self._most)
            self._seen_at = now

    def spend(self) -> bool:
        """Whether one more may be tried."""
        with self._lock:
            if self._saved < 1:
                return False
            self._saved -= 1
            return True


def backoff_s(n_tries: int) -> float:
    """Before another try at the same server: 10 ms, doubled, half of it by chance so that callers spread out."""
    longest_s: float = 0.010 * 2 ** min(n_tries - 1, 6)
    return longest_s * random.uniform(0.5, 1.0)
