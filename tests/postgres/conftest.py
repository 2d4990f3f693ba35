"""A real PostgreSQL of the tests' own: on loopback, its data in a temporary folder, gone afterwards."""

import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

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


class Server:
    """A running server: `url` has no password, `ask` runs SQL as its owner, `cut` ends the connections of readers."""

    def __init__(self, port):
        self.url = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        self.owner = psycopg.connect(self.url, password=PASSWORD, autocommit=True)

    def ask(self, statement, *values):
        cursor = self.owner.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    def cut(self):
        self.ask("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'hailtime'")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    programs = server_programs()
    if programs is None:
        assert os.environ.get("HAILTIME_REQUIRE_POSTGRES") != "1", "HAILTIME_REQUIRE_POSTGRES=1, and there is no initdb"
        pytest.skip("PostgreSQL's server programs are not here (Debian: apt install postgresql)")
    # not below pytest's own folder, which another user may not enter
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    data = folder / "data"

    def run(program, *arguments):
        command = as_user([programs / program, "-D", data, *arguments], folder)
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    try:
        run("initdb", "-U", USER, "-E", "UTF8", "--no-sync", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        run("pg_ctl", "-w", "-l", folder / "log", "-o", f"{settings} -c timezone=Asia/Tokyo", "start")
        try:
            running = Server(port)
            yield running
            running.owner.close()
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def password(monkeypatch):
    """The name of the variable that holds the password."""
    monkeypatch.setenv(VARIABLE, PASSWORD)
    return VARIABLE
