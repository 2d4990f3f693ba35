"""A real single-node Slurm of the tests' own: munged, slurmctld and slurmd, its state in a temporary folder."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
CONF = """
ClusterName=tests
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/slurm/" in item.path.as_posix():
            item.add_marker(pytest.mark.slurm)


def lacking():
    """What is missing for a Slurm here, in words; nothing when it can run."""
    os.environ["PATH"] += ":/usr/sbin"  # where Debian puts the daemons
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"there is no {', '.join(missing)} (Debian: apt install slurmd slurmctld slurm-client munge)"
    return "" if os.geteuid() == 0 else "slurmd must run as root to start tasks"


@contextmanager
def daemon(*command, log, environment):
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Slurm:
    """A running cluster: `ask` runs one of its commands."""

    def __init__(self, environment):
        self.environment = environment

    def ask(self, *command):
        done = self.try_to(*command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def try_to(self, *command):
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def wait_until(self, is_true, timeout_s, log):
        deadline = time.monotonic() + timeout_s
        while not is_true():
            assert time.monotonic() < deadline, log()
            time.sleep(0.1)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    reason = lacking()
    if reason and os.environ.get("HAILTIME_REQUIRE_SLURM") == "1":
        pytest.fail(f"HAILTIME_REQUIRE_SLURM=1, and {reason}")
    if reason:
        pytest.skip(reason)
    # a short path: a socket's may have 107 characters
    home = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    (home / "key").write_bytes(os.urandom(64))
    (home / "key").chmod(0o400)
    (home / "state").mkdir()
    host = socket.gethostname().split(".")[0]
    (home / "slurm.conf").write_text(CONF.format(host=host, home=home, controller=free_port(), node=free_port()))
    environment = {**os.environ, "SLURM_CONF": str(home / "slurm.conf")}
    munge = [f"--{name}={home}/munge.{name.split('-')[0]}" for name in ("socket", "pid-file", "seed-file", "log-file")]
    cluster = Slurm(environment)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        for name, command in {
            "munged": ["munged", "--foreground", "--force", f"--key-file={home}/key", *munge],
            "slurmctld": ["slurmctld", "-D"],
            "slurmd": ["slurmd", "-D"],
        }.items():
            stack.enter_context(daemon(*command, log=home / f"{name}.out", environment=environment))
            if name == "munged":
                cluster.wait_until((home / "munge.socket").exists, 10, (home / "munged.out").read_text)
        told = lambda: "\n".join(path.read_text()[-2000:] for path in [*home.glob("*.out"), *home.glob("*.log")])  # noqa: E731
        cluster.wait_until(lambda: "idle" in _state(environment), 20, told)
        yield cluster
        subprocess.run(["scancel", "--full", "--user=root"], env=environment, check=False)


def _state(environment):
    return subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True).stdout
