"""The inside of a backend under load: python -m benchmarks.flow SETTINGS, then a command a line on stdin.

The load is open loop: a request is due by the clock, whether or not those before it have come back. Every request is
a line of the answers' file, so that the process grows with nothing but what the client keeps.
"""

import json
import random
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.traffic import N_BAD, Asked, Settings
from hailtime.client import EtaClient, PredictionLog
from hailtime.client.batching import BatchingTransport
from hailtime.client.transport import Transport
from hailtime.errors import RequestError

N_THREADS = 32  # 200 requests/s that all take a deadline of 50 ms keep ten of them busy
PAUSE_S = 0.2  # of each client of a herd after each of its calls
BAD_VALUES: tuple[Any, ...] = ("soon", True, 1e39, [], b"", {"a": 1})
HEARD = threading.local()  # the server whose answer this thread had last


class TellingTransport(BatchingTransport):
    """Tells its thread that it was the one that answered, whoever of a batch sent it."""

    def infer(self, *arguments: Any, **named: Any) -> NDArray[np.float32]:
        answer = super().infer(*arguments, **named)
        HEARD.url = self.url
        return answer


class TellingClient(EtaClient):
    """Over such transports."""

    def _batching(self, transport: Transport, wait_s: float, max_rows: int) -> TellingTransport:
        return TellingTransport(transport, wait_s, max_rows)


class Flow:
    """The requests inside the process."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._rows = settings, json.loads(Path(settings.rows).read_text())
        self._file, self._writing = Path(settings.answers).open("w"), threading.Lock()  # noqa: SIM115  open as long as we
        self._log = PredictionLog(settings.log)
        self._clients = [self._client() for _ in range(settings.n_clients)]
        self._random, self._taking = random.Random(settings.seed), threading.Lock()
        self._due_at, self._stop = time.monotonic(), threading.Event()
        self._recent: deque[str] = deque(maxlen=20)
        self._threads: list[threading.Thread] = []
        texts = {name for row in self._rows for name, value in row.items() if isinstance(value, str)}
        self._numbers = self._rows[0].keys() - texts

    def start(self) -> dict[str, Any]:
        self._due_at = time.monotonic()
        self._run(self._flow, N_THREADS)
        return {}

    def recent(self) -> dict[str, Any]:
        return {"paths": list(self._recent)}

    def herd(self) -> dict[str, Any]:
        """Every client asks for the first time at the same moment, then five times a second."""
        together = threading.Barrier(len(self._clients))

        def ask(client: EtaClient) -> None:
            together.wait()
            for _ in range(self._settings.n_calls):
                due_at = time.monotonic()
                self._ask(client, due_at, 0, 1)
                time.sleep(self._random.expovariate(1 / PAUSE_S))

        with ThreadPoolExecutor(len(self._clients)) as threads:
            list(threads.map(ask, self._clients))
        return {}

    def malformed(self) -> dict[str, Any]:
        """Requests that the client must refuse, beside the good ones."""
        return {"refused": sum(self._is_refused(place) for place in range(N_BAD))}

    def stop(self) -> dict[str, Any]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()
        self._log.close()
        self._file.close()
        log = {"written": self._log.n_written, "waiting": self._log.n_waiting, "lost": self._log.n_lost}
        return {**log, "counts": self._clients[0].counts.to_dict()}

    def _client(self) -> EtaClient:
        said = self._settings
        return TellingClient(
            said.urls,
            said.deadline_s,
            plan_refresh_s=1.0,
            fallback_model=said.fallback,
            cache=said.cache,
            log=self._log,
        )

    def _run(self, work: Any, n: int) -> None:
        self._threads += [threading.Thread(target=work) for _ in range(n)]
        for thread in self._threads[-n:]:
            thread.start()

    def _flow(self) -> None:
        while True:
            with self._taking:
                self._due_at += self._random.expovariate(self._settings.per_s)
                due_at, n_rows = self._due_at, self._random.choice(self._settings.batches)
                row = self._random.randrange(len(self._rows) - n_rows + 1)
            if self._stop.wait(max(due_at - time.monotonic(), 0)):
                return
            self._ask(self._clients[0], due_at, row, n_rows)

    def _ask(self, client: EtaClient, due_at: float, row: int, n_rows: int) -> None:
        rows = self._rows[row] if n_rows == 1 else self._rows[row : row + n_rows]
        HEARD.url, began_at = "", time.monotonic()
        try:
            answer, error = client.predict(rows), ""
        except Exception as raised:  # each counts as lost
            answer, error = None, type(raised).__name__
        took_s = time.monotonic() - began_at
        self._write(answer, Asked(began_at, began_at - due_at, took_s, row, n_rows, "", HEARD.url, "", [], "", error))

    def _write(self, answer: Any, asked: Asked) -> None:
        if answer is not None:
            first, last = (answer, answer) if asked.n_rows == 1 else (answer[0], answer[-1])
            said_s = [[said.p10_s, said.p50_s, said.p90_s] for said in (first, last)]
            url = asked.url if answer.path == "triton" else ""
            asked = asked._replace(
                path=answer.path, version=answer.version, url=url, said_s=said_s, request_id=first.request_id
            )
        with self._writing:
            self._file.write(f"{json.dumps(asked)}\n")
            self._recent.append(asked.path)

    def _is_refused(self, place: int) -> bool:
        row = dict(self._rows[place % len(self._rows)])
        name = list(row)[place % len(row)]
        if place % 7:
            row[name] = BAD_VALUES[place % len(BAD_VALUES)] if name in self._numbers else 1.5
        else:
            del row[name]
        time.sleep(0.0005)
        try:
            self._clients[0].predict(row)
        except RequestError:
            return True
        return False


def main() -> None:
    flow = Flow(Settings(**json.loads(sys.argv[1])))
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(getattr(flow, line.strip())()), flush=True)
        if line.strip() == "stop":
            return


if __name__ == "__main__":
    main()
