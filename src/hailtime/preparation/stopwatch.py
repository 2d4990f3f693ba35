"""Where the time of a preparation goes, and a word now and then while it takes long."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import polars as pl

log = logging.getLogger(__name__)

TELL_EVERY_S = 5.0


class Stopwatch:
    """Seconds by stage, in the order in which they were first entered. Stages may run beside each other in threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()
        self._start = time.perf_counter()
        self._told = time.perf_counter()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Adds what the block takes to its stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def each(self, stage: str, blocks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The same blocks; waiting for them is the stage. Tells every few seconds how many rows have come."""
        left, n_rows = iter(blocks), 0
        while True:
            with self.time(stage):
                block = next(left, None)
            if block is None:
                return
            yield block
            n_rows += block.height
            if time.perf_counter() - self._told > TELL_EVERY_S:
                self._told = time.perf_counter()
                log.info("%s: %s rows so far", stage, f"{n_rows:,}")

    def rounded(self) -> dict[str, float]:
        """For the report; `all` is by the clock on the wall, and less than the sum where stages overlap."""
        spent = {**self.seconds, "all": time.perf_counter() - self._start}
        return {stage: round(seconds, 3) for stage, seconds in spent.items()}
