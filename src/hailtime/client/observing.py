"""What happened, for whoever counts: one `Call` a `predict`, and the client's own counts."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from hailtime.client.prediction import AnswerPath

log = logging.getLogger(__name__)


class Call(NamedTuple):
    """One `predict`. `path` is None and `error` the name of the exception when there was no answer."""

    path: AnswerPath | None
    version: str
    n_rows: int
    latency_s: float
    n_retries: int
    error: str | None


Observer = Callable[[Call], None]


class Counts:
    """How often what happened since the client was made; for a page or a test."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def to_dict(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


def nobody(call: Call) -> None:
    """The observer of those who want none."""


def tell(observer: Observer, call: Call) -> None:
    """An observer that fails is told of in the log, and fails nobody's answer."""
    try:
        observer(call)
    except Exception:
        log.exception("the observer failed on %s", call)
