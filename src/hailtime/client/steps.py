"""What both clients do, written once: a generator decides what comes next, the client carries it out.

A step is a function of a transport to call, or a `Pause`. `run` calls it, `run_async` awaits what it gives; the result
or the error goes back into the generator. So deadlines, retries, failover and fallbacks have one home, and a test can
walk through them without a server, a thread or a clock.

What no caller waits for, shadow calls and plans read again, a `Background` carries out; what does not fit is dropped
and counted.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

log = logging.getLogger(__name__)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing to do for so long."""

    seconds: float

    def sleep(self) -> Any:
        time.sleep(self.seconds)


Step = Callable[[], Any] | Pause
Steps = Generator[Step, Any, Value]


def run(steps: Steps[Value]) -> Value:
    """Carry out the steps in the calling thread."""
    try:
        step = next(steps)
        while True:
            try:
                result = step.sleep() if isinstance(step, Pause) else step()
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as done:
        answer: Value = done.value
        return answer
    finally:
        steps.close()


async def run_async(steps: Steps[Value]) -> Value:
    """Carry out the steps in the running event loop; a cancelled caller leaves nothing locked."""
    try:
        step = next(steps)
        while True:
            try:
                result = await (asyncio.sleep(step.seconds) if isinstance(step, Pause) else step())
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as done:
        answer: Value = done.value
        return answer
    finally:
        steps.close()


class Background(Protocol):
    """Takes steps to carry out later; False when there is no room."""

    def submit(self, steps: Steps[Any]) -> bool: ...


class BackgroundThread:
    """One thread and a queue of `room` jobs; the thread starts with the first job if not before, also after a fork."""

    def __init__(self, name: str, room: int) -> None:
        self._name, self._room = name, room
        self._jobs: queue.Queue[Steps[Any] | None] = queue.Queue(room)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """So that no call has to: beside fifteen others one waited 13 ms for the thread to say that it runs."""
        if self._thread is None or not self._thread.is_alive():
            self._start()

    def submit(self, steps: Steps[Any]) -> bool:
        self.start()
        try:
            self._jobs.put_nowait(steps)
        except queue.Full:
            steps.close()
            return False
        return True

    def wait_idle(self, timeout_s: float) -> bool:
        """Whether everything taken so far is done."""
        until = time.monotonic() + timeout_s
        while self._jobs.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.001)
        return not self._jobs.unfinished_tasks

    def close(self) -> None:
        """Drop what waits; what runs ends by its own deadline."""
        while self._jobs.unfinished_tasks:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job.close()
            self._jobs.task_done()
        if self._thread is not None and self._thread.is_alive():
            self._jobs.put(None)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                if self._thread is not None:  # a fork left it behind, and it would be the one that a job wakes
                    self._jobs = queue.Queue(self._room)
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                run(job)
            except Exception:  # nobody else would hear of it, and the next job must be done
                log.exception("%s failed", self._name)
            finally:
                self._jobs.task_done()
        self._jobs.task_done()


class BackgroundTasks:
    """The same in an event loop: at most `room` tasks at a time."""

    def __init__(self, name: str, room: int) -> None:
        self._name, self._room = name, room
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, steps: Steps[Any]) -> bool:
        if len(self._tasks) >= self._room:
            steps.close()
            return False
        task = asyncio.get_running_loop().create_task(self._work(steps))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def wait_idle(self, timeout_s: float) -> bool:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        return not self._tasks

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, steps: Steps[Any]) -> None:
        try:
            await run_async(steps)
        except Exception:
            log.exception("%s failed", self._name)
