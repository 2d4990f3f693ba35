"""What both clients do, written once: a generator decides what comes next, the client carries it out.

A step is a function of a transport to call, or a `Pause`. `run` calls it, `run_async` awaits what it gives; the result
or the error goes back into the generator. So deadlines, retries, failover and fallbacks have one home, and a test can
walk through them without a server, a thread or a clock.
"""

import asyncio
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

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
