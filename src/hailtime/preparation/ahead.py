"""Blocks worked on beside each other: the next is begun while the last is still put away."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(work: Callable[[A], B], items: Iterable[A], n_threads: int = 2) -> Iterator[B]:
    """`map(work, items)` in threads, in the order of the items; at most one more than `n_threads` are in memory.

    With one thread the calls of `work` follow each other, beside what makes the items.
    """
    with ThreadPoolExecutor(n_threads) as threads:
        waiting: deque[Future[B]] = deque()
        try:
            for item in items:
                waiting.append(threads.submit(work, item))
                if len(waiting) > n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
