"""A real PostgreSQL of the tests' own: on loopback, its data in a temporary folder, gone afterwards."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.ports import free_port

USER, PASSWORD, VARIABLE = "reader", "s3cret-of-the-tests", "HAILTIME_TEST_PASSWORD"


def server_programs():
    """The folder of initdb and pg_ctl; Debian does not put it on the PATH."""
    on_path = shutil.which("pg_ctl")
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    folders = [Path(on_path).resolve().parent] if on_path else []
    return next((folder for folder in [*folders, *reversed(newest)] if (folder / "initdb").is_file()), None)


def as_user(command, folder):
    """PostgreSQL refuses to run as root, so root runs it as another."""
    if os.geteuid() != 0:
        return command
    with suppress(LookupError):
        shutil.chown(folder, "postgres")
        return ["runuser", "-u", "postgres", "--", *command]
    shutil.chown(folder, "nobody")
    return ["runuser", "-u", "nobody", "--", *command]


class Cluster:
    """A server's data in a folder of its own, made anew; started, killed and started again at the same address."""

    def __init__(self, programs, *settings):
        # not below pytest's own folder, which another user may not enter
        made = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True)
        self.folder = Path(made.stdout.strip())
        self.programs, self.settings, self.port = programs, settings, free_port()
        self.url = f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run("initdb", "-U", USER, "-E", "UTF8", "--no-sync", "-A", "scram-sha-256", f"--pwfile={password}")

    def start(self):
        fixed = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        settings = " ".join([fixed, *(f"-c {setting}" for setting in self.settings)])
        for tries_left in reversed(range(30)):
            try:
                self._run("pg_ctl", "-w", "-l", self.folder / "log", "-o", settings, "start")
                return
            except subprocess.CalledProcessError:  # children of one that was killed still hold its memory
                if not tries_left:
                    raise
                time.sleep(0.3)

    def kill(self):
        """kill -9 of the postmaster; its children end when they see that it is gone."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def remove(self):
        with suppress(subprocess.CalledProcessError):  # it does not run
            self._run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(self.folder)

    def _run(self, program, *arguments):
        command = as_user([self.programs / program, "-D", self.folder / "data", *arguments], self.folder)
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Server:
    """A running server: `url` has no password, `ask` runs SQL as its owner, `cut` ends the connections of readers."""

    def __init__(self, url):
        self.url = url
        self.owner = psycopg.connect(self.url, password=PASSWORD, autocommit=True)

    def ask(self, statement, *values):
        cursor = self.owner.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    def cut(self):
        self.ask("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'hailtime'")


@pytest.fixture(scope="session")
def programs():
    found = server_programs()
    if found is None:
        assert os.environ.get("HAILTIME_REQUIRE_POSTGRES") != "1", "HAILTIME_REQUIRE_POSTGRES=1, and there is no initdb"
        pytest.skip("PostgreSQL's server programs are not here (Debian: apt install postgresql)")
    return found


@pytest.fixture(scope="session")
def server(programs):
    cluster = Cluster(programs, "fsync=off", "timezone=Asia/Tokyo")
    try:
        cluster.start()
        running = Server(cluster.url)
        yield running
        running.owner.close()
    finally:
        cluster.remove()


@pytest.fixture
def cluster(programs):
    """One that may be killed; it writes to the disk as shipped."""
    cluster = Cluster(programs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture
def password(monkeypatch):
    """The name of the variable that holds the password."""
    monkeypatch.setenv(VARIABLE, PASSWORD)
    return VARIABLE
