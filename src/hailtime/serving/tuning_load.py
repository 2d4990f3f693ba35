"""Requests sent when they are due, whatever became of those before: an open loop.

A closed loop waits for each answer and so asks less of a server that is slow, which hides what waiting riders see.
Here a latency counts from the moment a request was due, not from when it could be sent.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput

from hailtime.schema import MODEL_NAME
from hailtime.serving.control import KINDS

TIMEOUT_S = 2.0  # after that a request counts as not answered
SETTLE_S = 0.05  # before the first request is due

Send = Callable[
    [int, Callable[[bool], None]], None
]  # starts the request of this number, tells later if it was answered


class OpenLoop:
    """One trace of arrivals. `clock` and `sleep` are arguments, so that a test can be its own time."""

    def __init__(
        self, due_s: NDArray[np.float64], clock: Callable[[], float] = time.perf_counter, sleep: Any = time.sleep
    ) -> None:
        self._due_s, self._clock, self._sleep = due_s, clock, sleep
        self._latency_s = np.full(len(due_s), np.nan)
        self._late_s = np.full(len(due_s), np.nan)
        self._lock = threading.Lock()
        self._n_done = 0

    def run(self, send: Send, max_waiting: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latencies of the answered requests, and how late each request was sent, both in seconds.

        Given up when more than `max_waiting` requests are waiting: such a server falls behind for ever.
        """
        start = self._clock() + SETTLE_S
        n_sent = 0
        for place, due in enumerate(start + self._due_s):
            if (wait_s := due - self._clock()) > 0:
                self._sleep(wait_s)
            if n_sent - self._n_done > max_waiting:
                break
            self._late_s[place] = self._clock() - due
            send(place, self._done(place, due))
            n_sent += 1
        give_up_at = self._clock() + TIMEOUT_S + 1
        while self._n_done < n_sent and self._clock() < give_up_at:
            self._sleep(0.005)
        return self._latency_s[~np.isnan(self._latency_s)], self._late_s[:n_sent]

    def _done(self, place: int, due: float) -> Callable[[bool], None]:
        def done(is_answered: bool) -> None:
            if is_answered:
                self._latency_s[place] = self._clock() - due
            with self._lock:
                self._n_done += 1

        return done


def triton_sender(client: InferenceServerClient, version: int, rows: Mapping[str, NDArray[Any]]) -> Send:
    """Sends one row a request, these in turn, packed beforehand."""
    requests = [_packed({name: array[i : i + 1] for name, array in rows.items()}) for i in range(len(rows["numeric"]))]

    def send(place: int, done: Callable[[bool], None]) -> None:
        client.async_infer(
            MODEL_NAME,
            requests[place % len(requests)],
            lambda result, error: done(error is None),
            str(version),
            client_timeout=TIMEOUT_S,
        )

    return send


def _packed(row: Mapping[str, NDArray[Any]]) -> Sequence[InferInput]:
    inputs = []
    for name, kind in KINDS.items():
        inputs.append(InferInput(name, list(row[name].shape), kind))
        inputs[-1].set_data_from_numpy(row[name].astype(np.object_) if kind == "BYTES" else row[name])
    return inputs
