"""A real Spark standalone cluster on loopback: one master and one worker, from the jars that pyspark brings."""

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyspark

HOME = Path(pyspark.__file__).parent
START_S = 60.0


@dataclass(frozen=True)
class Cluster:
    url: str
    work: Path

    def executors(self):
        """Process ids of the running executors; a worker starts each in a folder under its own."""
        return [int(process.name) for process in Path("/proc").glob("[0-9]*") if self._is_executor(process)]

    def kill_executor(self):
        """Ends one at once, as a machine that is lost would. Its process id; None when there was none."""
        for process in self.executors():
            os.kill(process, signal.SIGKILL)
            return process
        return None

    def _is_executor(self, process):
        try:
            is_below = (process / "cwd").readlink().is_relative_to(self.work)
            return is_below and b"CoarseGrainedExecutorBackend" in (process / "cmdline").read_bytes()
        except OSError:  # it is gone
            return False


@contextmanager
def standalone_cluster(folder, cores=2, memory="1500m"):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, work = f"spark://127.0.0.1:{port}", folder / "work"
    processes = []
    try:
        processes.append(_start(folder, "master", "--port", str(port)))
        _wait_for("New state: ALIVE", folder / "master.log", processes)
        arguments = ["--cores", str(cores), "--memory", memory, "--work-dir", str(work), url]
        processes.append(_start(folder, "worker", *arguments))
        _wait_for("Successfully registered with master", folder / "worker.log", processes)
        yield Cluster(url, work)
    finally:
        for process in reversed(processes):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(folder, name, *arguments):
    role = f"org.apache.spark.deploy.{name}.{name.capitalize()}"
    command = [str(HOME / "bin" / "spark-class"), role, "--host", "127.0.0.1", "--webui-port", "0", *arguments]
    settings = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m", "SPARK_HOME": str(HOME)}
    with (folder / f"{name}.log").open("wb") as log:
        # a session of its own, so that all it starts can be ended together
        return subprocess.Popen(
            command, env=os.environ | settings, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )


def _wait_for(text, log, processes):
    deadline = time.monotonic() + START_S
    while text not in log.read_text():
        assert all(process.poll() is None for process in processes), f"it ended:\n{log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"not there within {START_S} s:\n{log.read_text()[-2000:]}"
        time.sleep(0.1)
