"""A backend under load, in a process of its own, as its operator sees it; flow.py is what runs inside."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

SCRIPTS = Path(__file__).parents[1]
N_BAD = 5_000  # malformed requests to the client, and as many to the server


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a backend is started with; paths as text, because it goes over the command line.

    `batches`: the sizes of its requests, taken at random. `n_clients` with `n_calls` each make a herd.
    """

    urls: Sequence[str]
    rows: str
    answers: str
    log: str
    fallback: str | None = None
    cache: str | None = None
    per_s: float = 200.0
    deadline_s: float = 0.05
    batches: Sequence[int] = (1,)
    n_clients: int = 1
    n_calls: int = 0
    seed: int = 1


class Asked(NamedTuple):
    """One request: when it began and how late, how long it took, and what was answered to its first and last row.

    `path` is "" and `error` a name where there was no answer. Times in seconds of the monotonic clock.
    """

    began_at: float
    late_s: float
    took_s: float
    row: int
    n_rows: int
    path: str
    url: str
    version: str
    said_s: list[list[float]]
    request_id: str
    error: str


class Backend:
    """The process, seen from outside. It flows from `start` to the end of the block; then `asked` and `told` are there.

    `told`: {"written": rows in the log, "waiting": …, "lost": …, "counts": the client's own}.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str] | None = None) -> None:
        self.settings, self.asked, self.told = settings, list[Asked](), dict[str, Any]()
        command = [sys.executable, "-m", "benchmarks.flow", json.dumps(asdict(settings))]
        self._process = subprocess.Popen(
            command, cwd=SCRIPTS, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self.receive()  # it is ready

    def start(self) -> Self:
        self.do("start")
        return self

    def do(self, command: str) -> dict[str, Any]:
        """Its answer to a command."""
        self.send(command)
        return self.receive()

    def send(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the backend ended with status {self._process.wait()}, its errors are above")
        return dict(json.loads(line))

    def wait_until_back(self, within_s: float = 30.0) -> None:
        """Until twenty answers on end came from a server."""
        until = time.monotonic() + within_s
        while self.do("recent")["paths"] != ["triton"] * 20 and time.monotonic() < until:
            time.sleep(0.1)

    def stop(self) -> None:
        """Let it end and read what it was answered."""
        if self._process.poll() is None:
            self.told = self.do("stop")
            self._process.wait(30)
            lines = Path(self.settings.answers).read_text().splitlines()
            self.asked = [Asked(*json.loads(line)) for line in lines]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None:
                self.stop()
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
