"""The log in PostgreSQL: everything once, whoever is killed; the monitor reads it as it reads the file."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile
from hailtime.errors import ConfigError, LogError
from hailtime.monitoring.forward import Forwarder, Sent
from hailtime.monitoring.log_source import LogSource
from tests.postgres.conftest import PASSWORD

NOON_S = 1_768_219_200
TABLES = ("predictions", "shadow_predictions", "actuals", "log_files")
FORWARDING = """
import sys, time
from pathlib import Path
from hailtime.errors import LogError
from hailtime.monitoring.forward import Forwarder

pytestmark = pytest.mark.postgres
forward = Forwarder(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
print("ready", flush=True)
while True:
    try:
        forward.send()
    except LogError:
        pass
    time.sleep(0.005)
"""


@pytest.fixture
def empty(server):
    server.ask(f"DROP TABLE IF EXISTS {', '.join(TABLES)}")
    return server


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.sqlite"


def answers(n, first=0, at_s=NOON_S):
    return [
        (f"r{i}", (at_s + i) * 1_000_000, at_s + i, "1", "triton", 1.0, 2.0, 3.0 + i, 0.001, f'{{"i": {i}}}')
        for i in range(first, first + n)
    ]


def write(path, rows, ends=(), table="predictions"):
    with closing(LogFile(path, 5.0).connection()) as connection:
        connection.execute("BEGIN")
        connection.executemany(INSERT[table], rows)
        connection.executemany(INSERT_ACTUAL, ends)
        connection.execute("COMMIT")


def in_postgres(server, table="predictions", columns="request_id, requested_at_s, p90_s, features"):
    return sorted(server.ask(f"SELECT {columns} FROM {table}"))


def test_every_row_goes_over_once(empty, password, log):
    write(log, answers(12_000), [("r1", 400.0, None, 7), ("r2", None, 90.0, 8)])
    write(log, answers(3), table="shadow_predictions")
    forward = Forwarder(log, empty.url, password)
    assert forward.send() == Sent(12_000, 3, 2)
    assert forward.send() == Sent(0, 0, 0)
    with closing(sqlite3.connect(log)) as file:
        assert in_postgres(empty) == sorted(
            file.execute("SELECT request_id, requested_at_s, p90_s, features FROM predictions")
        )
    ends = in_postgres(empty, "actuals", "request_id, pickup_time_s, cancelled_after_s, n_changed, reported_at_us")
    assert ends == [("r1", 400.0, None, 0, 7), ("r2", None, 90.0, 0, 8)]


def test_a_later_word_replaces_the_first_and_is_seen_by_who_reads_on(empty, password, log):
    write(log, answers(2), [("r0", 400.0, None, 7), ("r1", 10.0, None, 7)])
    forward = Forwarder(log, empty.url, password)
    forward.send()
    ((before,),) = empty.ask("SELECT max(id) FROM actuals")
    write(log, [], [("r0", 500.0, None, 9)])
    forward.send()
    found = empty.ask(f"SELECT request_id, pickup_time_s, n_changed FROM actuals WHERE id > {before}")
    assert found == [("r0", 500.0, 1)]


def test_two_backends_have_positions_of_their_own(empty, password, tmp_path):
    for name, first in (("a", 0), ("b", 500)):
        write(tmp_path / name, answers(500, first))
        Forwarder(tmp_path / name, empty.url, password).send()
    (tmp_path / "a").unlink()
    write(tmp_path / "a", answers(10, 1000))  # a file made anew under the old name
    Forwarder(tmp_path / "a", empty.url, password).send()
    assert len({row[0] for row in in_postgres(empty)}) == len(in_postgres(empty)) == 1010


def test_two_forwarders_of_one_file_send_nothing_twice(empty, password, log):
    write(log, answers(20_000))
    both = [threading.Thread(target=Forwarder(log, empty.url, password).send) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(in_postgres(empty)) == 20_000


def test_forwarders_that_begin_at_once_make_the_tables_once(empty, password, tmp_path):
    """Twenty times on an empty database: each waits for the tables of the first, and no lock is left behind."""
    write(tmp_path / "log", answers(10))
    for _ in range(20):
        empty.ask(f"DROP TABLE IF EXISTS {', '.join(TABLES)}")
        forwarders = [Forwarder(tmp_path / "log", empty.url, password) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            sent = [done.result(20) for done in [pool.submit(one.send) for one in forwarders]]
        assert sum(one.predictions for one in sent) == 10


@pytest.mark.slow
def test_killed_and_cut_at_any_moment_no_row_is_lost_and_none_is_there_twice(empty, password, log):
    """200 rows a second are logged while the forwarder is killed nine times and its connection cut in between."""
    write(log, answers(1))
    n, is_over = [1], threading.Event()

    def keep_logging():
        with closing(LogFile(log, 5.0).connection()) as connection:
            while not is_over.wait(0.005):
                connection.execute(INSERT["predictions"], answers(1, n[0])[0])
                connection.execute(INSERT_ACTUAL, (f"r{n[0]}", 60.0, None, n[0]))
                n[0] += 1

    logging = threading.Thread(target=keep_logging)
    logging.start()
    program = [sys.executable, "-c", FORWARDING, str(log), empty.url, password]
    try:
        for kill in range(9):
            with subprocess.Popen(program, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
                process.stdout.readline()
                time.sleep(0.05 + 0.037 * kill)
                if kill % 3 == 1:
                    empty.cut()
                    time.sleep(0.1)
                os.kill(process.pid, signal.SIGKILL)
    finally:
        is_over.set()
        logging.join()
    Forwarder(log, empty.url, password).send()
    assert n[0] > 300
    expected = sorted(f"r{i}" for i in range(n[0]))
    assert [row[0] for row in in_postgres(empty)] == expected
    assert [row[0] for row in in_postgres(empty, "actuals", "request_id")] == expected[: len(expected)][1:]


def test_the_monitor_reads_postgresql_as_it_reads_the_file(empty, password, log):
    write(log, answers(4000), [(f"r{i}", 60.0 + i, None, 7) for i in range(0, 4000, 3)] + [("other", 1.0, None, 7)])
    Forwarder(log, empty.url, password).send()
    url = empty.url.replace("reader@", f"reader:{PASSWORD}@")
    ours, theirs = LogSource(log), LogSource(url)
    hours = [ours.hours_between((0, 0), ours.last_ids()), theirs.hours_between((0, 0), theirs.last_ids())]
    assert hours[0] == hours[1] == [NOON_S, NOON_S + 3600]
    frames = [source.hour(NOON_S).sort("request_id") for source in (ours, theirs)]
    assert frames[0].equals(frames[1])
    assert theirs.request("r3")["pickup_time_s"].to_list() == [63.0]
    assert theirs.unmatched_actuals(0, theirs.last_ids()[1]) == 1


def test_old_days_are_forgotten_when_they_were_sent(empty, password, log):
    write(log, answers(10, at_s=NOON_S) + answers(10, first=100, at_s=NOON_S + 5 * 86_400))
    forward = Forwarder(log, empty.url, password, keep_days=3)
    forward.send()
    write(log, answers(1, first=50))  # not sent yet
    assert forward.forget(today=date(2026, 1, 17)) == ["predictions_d20260112"]
    assert {row[1] // 86_400 for row in in_postgres(empty)} == {(NOON_S + 5 * 86_400) // 86_400}
    with closing(sqlite3.connect(log)) as file:
        left = pl.DataFrame(file.execute("SELECT request_id FROM predictions").fetchall(), orient="row")
    assert left.height == 11


def test_a_clock_that_ran_wild_makes_no_partitions(empty, password, log):
    write(log, answers(2, at_s=0) + answers(2, first=9, at_s=NOON_S))
    Forwarder(log, empty.url, password).send()
    names = {
        name for (name,) in empty.ask("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^predictions_d'")
    }
    assert names == {"predictions_d20260112"}
    assert len(in_postgres(empty)) == 4


def test_what_cannot_be_forwarded_is_told(empty, password, log, monkeypatch):
    with pytest.raises(LogError, match="is not there"):
        Forwarder(log, empty.url, password).send()
    write(log, answers(1))
    with pytest.raises(ConfigError, match="the environment variable NOBODY must hold the password"):
        Forwarder(log, empty.url, "NOBODY").send()
    monkeypatch.setenv(password, "wrong")
    with pytest.raises(LogError, match=r"rows stay where they are: .*password"):
        Forwarder(log, empty.url, password).send()
    with pytest.raises(ConfigError, match=r"keep_days must be from 1, got 0$"):
        Forwarder(log, empty.url, password, keep_days=0)
