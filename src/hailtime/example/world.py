"""What runs in the story, each in a process of its own: a real Triton, the backend, the monitor; and the city.

    with World(Path("runs/live"), run, settings) as world:
        world.player, world.pages

All of them read the city's time from HAILTIME_CLOCK. Whatever ends the story ends them.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from zoneinfo import ZoneInfo

import yaml

from hailtime import clock
from hailtime.errors import ServerError
from hailtime.example.condition_tables import ConditionTables
from hailtime.example.player import Player, write_history
from hailtime.serving.triton import TritonServer
from hailtime.sources.city_live import LiveCity
from hailtime.sources.city_map import TIMEZONE
from hailtime.sources.simulated_city import make_city

ROOT = Path(__file__).parents[3]
START_TIMEOUT_S, END_TIMEOUT_S = 60.0, 10.0
ADDRESS = re.compile(r"http://[\w.:\[\]]+")
DEADLINE_S = 5.0  # of an answer: here the training has no machine of its own, and two cores are all there are


@dataclass(frozen=True)
class Playing:
    """How the city is played: so many times as fast as real time, so many requests a day, from a local time on."""

    speed: float = 60.0
    requests_a_day: int = 400_000
    first_day: str = "2026-04-06"
    begins: str = "09:00"
    days: int = 7
    seed: int = 7

    @property
    def begins_s(self) -> float:
        return datetime.fromisoformat(f"{self.first_day}T{self.begins}").replace(tzinfo=ZoneInfo(TIMEZONE)).timestamp()

    def city(self) -> LiveCity:
        return LiveCity(make_city(self.requests_a_day * self.days, self.first_day, self.days, self.seed))


class World:
    """Started and stopped as a context. `folder` is made to hold everything: log, conditions, repository, outputs."""

    def __init__(self, folder: Path, run: Path, playing: Playing) -> None:
        self.folder, self.run, self.playing = folder, run, playing
        self.repository, self.log = folder / "model_repository", folder / "predictions.sqlite"
        self.store, self.retrainings = folder / "monitor.sqlite", folder / "retrain"
        self.conditions_url = f"sqlite:///{folder.absolute() / 'conditions.sqlite'}"
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Everything but the city, which begins with `begin`."""
        try:
            self.triton = TritonServer(
                self.repository, grpc_port=0, metrics_port=0, log=self.folder / "triton.log"
            ).start()
            self._open.callback(self.triton.stop)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def set_clock(self, before_s: float = 0.0) -> None:
        """From now on the city's clock goes, from its begin or earlier, for this process and those it starts."""
        now = clock.Played(self.playing.begins_s - before_s, self.playing.speed, time.time())
        os.environ[clock.VARIABLE] = str(now)
        self._open.callback(os.environ.pop, clock.VARIABLE, None)

    @property
    def pages(self) -> dict[str, str]:
        """What to look at, by name."""
        return {"rider": self.backend_url, "drivers": f"{self.backend_url}/driver", "monitor": self.monitor_url}

    def begin(self) -> None:
        """The city's time begins; then feeds, monitor, backend and city are there."""
        self.set_clock()
        tables = ConditionTables(self.conditions_url)
        self._open.callback(tables.close)
        live = self.playing.city()
        write_history(live, tables, self.playing.begins_s)
        self.monitor_url = self._started("monitor", "scripts/monitor.py", "serve", "--config", self._monitor_settings())
        where = ("--triton", self.triton.url, "--run", self.run, "--conditions", self.conditions_url, "--log", self.log)
        how = ("--deadline-s", DEADLINE_S, "--port", 0, "--monitor", self.monitor_url)
        self.backend_url = self._started("backend", "scripts/example.py", *where, *how)
        self.player = self._open.enter_context(Player(live, self.backend_url, tables, self.playing.begins_s))

    def _monitor_settings(self) -> Path:
        """The shipped ones, for this place, with a look at the log each two seconds, which are minutes of the city."""
        settings = yaml.safe_load((ROOT / "configs" / "monitor.yaml").read_text())
        places = {"log": self.log, "store": self.store, "repository": self.repository}
        settings |= {name: str(place.absolute()) for name, place in places.items()}
        settings |= {"alerts": str(ROOT / "configs" / "alerts.yaml"), "every_s": 2, "port": 0}
        (self.folder / "monitor.yaml").write_text(yaml.safe_dump(settings))
        return self.folder / "monitor.yaml"

    def _started(self, name: str, *command: object) -> str:
        """The address a process tells when it is there. ServerError with its last words when it is not."""
        output = self.folder / f"{name}.log"
        process = self._open.enter_context(running(command, output))
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            if found := ADDRESS.search(output.read_text(errors="replace")):
                return found[0]
            if process.poll() is not None:
                break
            time.sleep(0.1)
        raise ServerError(f"the {name} did not start, its last words: {output.read_text(errors='replace')[-2000:]}")


@contextmanager
def running(command: Sequence[object], output: Path, *, is_training: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A script of ours in a process group of its own, ended with everything it started.

    Training gives way to serving, because here they share two cores: elsewhere it has a machine of its own.
    """
    words = [sys.executable, *map(str, command)]
    if is_training:
        words = ["nice", "-n", "10", *words]
    with output.open("wb") as file:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=os.environ | ({"OMP_NUM_THREADS": "1"} if is_training else {}),  # two would wait for each other
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks it to end in order first; its group is its own, so nobody else is hit."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(END_TIMEOUT_S)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
