"""Forwarder, PostgreSQL and monitor killed in turn under load; databases without space; an end that is no number.

What is counted is counted in PostgreSQL, by request id; what is said is asked of the page.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, contextmanager

import psycopg
import pytest
import yaml
from fastapi.testclient import TestClient

from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile
from hailtime.errors import LogError
from hailtime.monitoring.forward import Forwarder
from hailtime.monitoring.loops import Reading
from hailtime.monitoring.page.app import make_app
from hailtime.monitoring.page.watched import Watched
from tests.monitored_city import CONFIGS, make_city, page_settings
from tests.postgres.conftest import PASSWORD, Server
from tests.postgres.test_forward import NOON_S, answers, write

pytestmark = pytest.mark.postgres
SCRIPT = CONFIGS.parent / "scripts" / "monitor.py"
PER_S = 200
DOWN_S = 1.0


class Logging:
    """A backend that logs an answer and its end, 200 times a second by the clock."""

    def __init__(self, path):
        self.n, self._path, self._is_over = 0, path, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        began = time.monotonic()
        with closing(LogFile(self._path, 5.0).connection()) as connection:
            while not self._is_over.wait(0.004):
                while self.n < (time.monotonic() - began) * PER_S:
                    now_s = int(time.time())
                    connection.execute(INSERT["predictions"], answers(1, self.n, now_s - self.n)[0])
                    connection.execute(INSERT_ACTUAL, (f"r{self.n}", 60.0, None, now_s * 1_000_000))
                    self.n += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()


class Program:
    """scripts/monitor.py in a process that can be killed and started again."""

    def __init__(self, folder, *arguments):
        self._arguments, self._log = [sys.executable, str(SCRIPT), *map(str, arguments)], folder / f"{arguments[0]}.log"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        with self._log.open("a") as log:
            environment = os.environ | {"PGPASSWORD": PASSWORD}
            self._process = subprocess.Popen(self._arguments, stdout=log, stderr=log, env=environment)

    def kill(self):
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def page(self, path):
        """What its page answers; None while nobody does."""
        url = re.findall(r"http://127\.0\.0\.1:\d+", self._log.read_text())
        try:
            with urllib.request.urlopen(f"{url[-1]}{path}", timeout=10) as answer:
                return json.load(answer)
        except (OSError, IndexError):
            return None


def wait_until(is_so, seconds=60):
    until = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.1)
    return found


def test_whoever_is_killed_no_row_is_lost_and_none_is_there_twice(cluster, tmp_path):
    city, log = make_city(tmp_path / "city", n=50, days=1), tmp_path / "log.sqlite"
    settings = yaml.safe_load((CONFIGS / "monitor.yaml").read_text()) | {"every_s": 0.5, "alerts": None}
    (tmp_path / "monitor.yaml").write_text(yaml.safe_dump(settings))
    config = ["--config", tmp_path / "monitor.yaml"]
    where = ["--log", cluster.url, "--store", tmp_path / "store.sqlite", "--repository", city.repository]
    forwarder = Program(tmp_path, "forward", *config, "--log", log, "--to", cluster.url)
    monitor = Program(tmp_path, "serve", *config, *where, "--port", 0)
    LogFile(log, 1.0).connection().close()
    with forwarder, monitor:
        with Logging(log) as logging:
            wait_until(lambda: (monitor.page("/api/health") or {}).get("n"))
            for part in (forwarder, cluster, monitor):
                part.kill()
                if part is cluster:
                    told = wait_until(lambda: (monitor.page("/api/now") or {}).get("trouble"))
                    assert "cannot be read" in told
                    assert PASSWORD not in told
                time.sleep(DOWN_S)
                part.start()
                time.sleep(DOWN_S)
        wait_until(lambda: in_table(cluster, "actuals")[0] == logging.n)
        for table in ("predictions", "actuals"):
            assert in_table(cluster, table) == (logging.n, logging.n)
        wait_until(lambda: (monitor.page("/api/health") or {}).get("n") == logging.n)
        assert monitor.page("/api/accuracy")["total"]["n_arrived"] == logging.n
        wait_until(lambda: monitor.page("/api/now")["trouble"] is None)
    assert logging.n > 5 * PER_S


def in_table(cluster, name):
    """Rows, and different request ids."""
    with psycopg.connect(cluster.url, password=PASSWORD) as connection:
        return connection.execute(f"SELECT count(*), count(DISTINCT request_id) FROM {name}").fetchone()


@contextmanager
def little_room(folder, megabytes):
    """A file system of so many megabytes; gives what makes it larger."""

    def mount(*options):
        return subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)

    folder.mkdir(exist_ok=True)
    if mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "none").returncode:
        pytest.skip("a small file system needs the right to mount one (root)")
    shutil.chown(folder, folder.parent.owner())
    try:
        yield lambda more: mount("-o", f"remount,size={more}m")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def city(tmp_path):
    return make_city(tmp_path / "city", n=50, days=1)


def asked(settings, now_s, path):
    page = TestClient(make_app(Watched(settings, lambda: now_s), None), base_url="http://localhost")
    return page.get(path).json()


def with_password(url):
    return url.replace("reader@", f"reader:{PASSWORD}@")


def test_a_postgresql_without_space_loses_nothing_and_the_page_says_that_nothing_comes(cluster, city, tmp_path):
    log, n, url = tmp_path / "log.sqlite", 40_000, with_password(cluster.url)
    write(log, answers(n))
    with little_room(cluster.folder / "small", 6) as make_room, closing(Server(cluster.url).owner) as owner:
        owner.execute(f"CREATE TABLESPACE small LOCATION '{cluster.folder / 'small'}'")
        owner.execute("ALTER ROLE reader SET default_tablespace = small")
        with pytest.raises(LogError, match=r"its rows stay where they are: .*No space left on device"):
            Forwarder(log, url).send()
        n_sent, last_s = owner.execute("SELECT count(*), max(requested_at_s) FROM predictions").fetchone()
        assert 0 < n_sent < n
        settings, now_s = page_settings(city, log=url, store=tmp_path / "store.sqlite"), last_s + 600.0
        Reading(settings, lambda: now_s).once()
        assert asked(settings, now_s, "/api/now")["stopped"].startswith("No request has come since 2026-01-12 ")
        make_room(64)
        Forwarder(log, url).send()
        assert in_table(cluster, "predictions") == (n, n)


def test_a_store_without_space_is_said_and_goes_on_with_room(city, tmp_path):
    with little_room(tmp_path / "small", 1) as make_room:
        settings = page_settings(city, store=tmp_path / "small" / "store.sqlite")
        reading = Reading(settings, lambda: city.now_s)
        reading.once()
        (tmp_path / "small" / "filler").write_bytes(bytes(room_in(tmp_path / "small")))
        with closing(LogFile(city.log, 1.0).connection()) as connection:
            connection.executemany(INSERT["predictions"], answers(2000, at_s=int(city.now_s) - 4000))
        with pytest.raises(LogError, match=r"is there room on its disk\?"):
            reading.once()
        told = asked(settings, city.now_s + 300, "/api/now")
        assert told["error"].endswith("(is there room on its disk?)")
        make_room(64)
        reading.once()
        assert asked(settings, city.now_s, "/api/now")["trouble"] is None


def room_in(folder):
    free = os.statvfs(folder)
    return free.f_bavail * free.f_frsize


def test_an_end_that_is_no_number_keeps_no_other_row_back(server, city, tmp_path):
    server.ask("DROP TABLE IF EXISTS predictions, shadow_predictions, actuals, log_files")
    log = tmp_path / "log.sqlite"
    write(log, answers(100), [("r1", "soon", None, 7), ("r2", 60.0, None, 8), ("r3", -1.0, None, 9)])
    url = with_password(server.url)
    Forwarder(log, url).send()
    settings = page_settings(city, log=url, store=tmp_path / "store.sqlite")
    Reading(settings, lambda: NOON_S + 8000.0).once()
    health = asked(settings, NOON_S + 8000.0, "/api/health")
    assert (health["n"], health["n_malformed"]) == (100, 2)
    assert asked(settings, NOON_S + 8000.0, "/api/accuracy")["total"]["n_arrived"] == 1
