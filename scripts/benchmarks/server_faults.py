"""What may happen to a server while a backend asks 200 times a second: a function each, as in release_faults.py."""

import os
import signal
import socket
import time
from contextlib import closing

from benchmarks.proxy import Proxy
from benchmarks.world import World

TAIL_S = 1.5  # a server that is back is found within a second


def kill_9(world: World) -> str:
    world.begin()
    with world.flowing() as backend:
        world.server.kill()
        time.sleep(1)
        world.restart()
        backend.wait_until_back()
        time.sleep(TAIL_S)
    return "gone for more than a second"


def kill_9_of_two(world: World) -> str:
    """The second server's repository is another one, with versions of its own."""
    world.begin()
    first = world.server
    world.serve(world.folder / "others")
    world.deploy("second")
    with world.flowing(first.url, world.server.url):
        first.kill()
        time.sleep(3)
    return "one of two servers"


def stopped_for_5_s(world: World) -> str:
    """Only the server: with its backend too, Triton 2.51 dies one time in eight (lock_exception)."""
    world.begin()
    with world.flowing() as backend:
        os.kill(world.server.pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(world.server.pid, signal.SIGCONT)
        backend.wait_until_back()
        time.sleep(TAIL_S)
    return "SIGSTOP, then SIGCONT"


def restart_mid_call(world: World) -> str:
    """As at a change of machines: SIGTERM, requests in flight end, then a new server."""
    world.begin()
    with world.flowing() as backend:
        world.server.stop()
        world.restart()
        backend.wait_until_back()
        time.sleep(TAIL_S)
    return "SIGTERM and a new server"


def port_refused(world: World) -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        url = f"127.0.0.1:{free.getsockname()[1]}"
    with world.flowing(url):
        time.sleep(4)
    return "nobody there from the start"


def slow_server(world: World) -> str:
    world.begin()
    port = int(world.server.url.rpartition(":")[2])
    with closing(Proxy(port)) as proxy, world.flowing(proxy.url) as backend:
        world.models_of[proxy.url, "1"] = "first"
        for delay_s in (0.03, 0.1, 1.0):
            proxy.delay_s = delay_s
            time.sleep(2)
        proxy.delay_s = 0.0
        backend.wait_until_back()
    return "answers 30, 100 and 1,000 ms late"
