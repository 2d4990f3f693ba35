"""One process at a time: a lock that dies with its holder."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hailtime.errors import HailtimeError


@contextmanager
def locked(file: Path, error: type[HailtimeError], timeout_s: float = 600.0) -> Iterator[None]:
    """Hold the lock of this file; `error` when another process keeps it for longer than `timeout_s`.

    The kernel lets go when the holder dies, also by kill -9, so a file left behind locks nothing.
    """
    deadline = time.monotonic() + timeout_s
    with file.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise error(
                        f"another process has held {file} for {timeout_s:g} s: wait for it or stop it"
                    ) from None
                time.sleep(0.05)
        yield
