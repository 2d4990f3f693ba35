"""Load of two kinds: callers who wait for their answer before they ask again, and requests that are due by a clock."""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

BLOCK = 20  # calls
N_THREADS = 32  # of the open loop
ROUNDS = 2  # each way is measured so often, in turn with the others

Calls = Mapping[str, Callable[[], Any]]


def one_by_one(calls: Calls, n_calls: int) -> dict[str, dict[str, float]]:
    """p50, p95 and p99 in ms, and p50 as a multiple of the first way's. Twenty calls of each way in turn: a busy moment
    hits all alike, and nobody pays for the others' cold caches.
    """
    spent_ms: dict[str, list[float]] = {name: [] for name in calls}
    n_warm = max(1, n_calls // 10 // BLOCK)  # blocks
    for block in range(n_warm + -(-n_calls // BLOCK)):
        for name, ask in calls.items():
            for _ in range(BLOCK):
                start = time.perf_counter()
                ask()
                if block >= n_warm:
                    spent_ms[name].append((time.perf_counter() - start) * 1e3)
    base = float(np.median(next(iter(spent_ms.values()))))
    return {
        name: {**_percentiles(times), "ratio": round(float(np.median(times)) / base, 3)}
        for name, times in spent_ms.items()
    }


def closed_loop(calls: Calls, concurrencies: Sequence[int], seconds: float) -> dict[str, dict[str, float]]:
    """Requests a second by way and number of callers; the median of rounds."""
    rates: dict[str, dict[str, list[float]]] = {name: {str(n): [] for n in concurrencies} for name in calls}
    for n_callers in concurrencies:
        for _ in range(ROUNDS):
            for name, ask in calls.items():
                rates[name][str(n_callers)].append(_rate(ask, n_callers, seconds / ROUNDS))
    return {
        name: {n: round(float(np.median(found)), 1) for n, found in of_way.items()} for name, of_way in rates.items()
    }


def open_loop(calls: Calls, rates: Sequence[float], seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """p50, p95 and p99 in ms from the moment a request was due, by way and requests a second."""
    return {
        name: {f"{rate:g}": _percentiles(_from_due_ms(ask, rate, seconds)) for rate in rates}
        for name, ask in calls.items()
    }


def _rate(ask: Callable[[], Any], n_callers: int, seconds: float) -> float:
    start = threading.Barrier(n_callers)

    def count() -> tuple[int, float, float]:
        ask()  # its connection
        start.wait()
        began_at, n = time.perf_counter(), 0
        while time.perf_counter() < began_at + seconds:
            ask()
            n += 1
        return n, began_at, time.perf_counter()

    with ThreadPoolExecutor(n_callers) as threads:
        done = [thread.result() for thread in [threads.submit(count) for _ in range(n_callers)]]
    return sum(n for n, _, _ in done) / (max(end for _, _, end in done) - min(began for _, began, _ in done))


def _from_due_ms(ask: Callable[[], Any], rate: float, seconds: float) -> list[float]:
    drawn = random.Random(7)
    after = iter(np.cumsum([drawn.expovariate(rate) for _ in range(int(rate * seconds))]).tolist())
    taking, spent_ms, started_at = threading.Lock(), list[float](), list[float]()
    all_connected = threading.Barrier(N_THREADS, lambda: started_at.append(time.perf_counter()))

    def work() -> None:
        ask()  # its connection
        all_connected.wait()
        while True:
            with taking:
                due_at = started_at[0] + next(after, np.inf)
            if due_at == np.inf:
                return
            time.sleep(max(due_at - time.perf_counter(), 0.0))
            ask()
            spent_ms.append((time.perf_counter() - due_at) * 1e3)

    with ThreadPoolExecutor(N_THREADS) as threads:
        for thread in [threads.submit(work) for _ in range(N_THREADS)]:
            thread.result()
    return spent_ms


def _percentiles(times_ms: Sequence[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(times_ms, q)), 4) for q in (50, 95, 99)}
