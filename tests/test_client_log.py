"""The prediction log: every answer is in it, nothing about it fails an answer, and what came true counts once."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from hailtime.client import EtaClient, PredictionLog
from hailtime.errors import ConfigError, LogError
from tests.small_town import NOON_S, ROW, Clock, StandIn

KILLED = """
import sys
sys.path.insert(0, {root!r})
from hailtime.client import EtaClient, PredictionLog
from tests.small_town import ROW, StandIn
client = EtaClient(transport=StandIn(), log=PredictionLog({path!r}))
while True:
    print(client.predict(ROW).request_id, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.sqlite"


def rows_of(path, query="SELECT * FROM predictions ORDER BY id"):
    """Read by a connection of its own, as a forwarder would."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def test_answer_is_in_the_file_before_the_caller_has_it(path):
    with PredictionLog(path) as log:
        answer = EtaClient(transport=StandIn(), log=log).predict({**ROW, "request_id": "r1"})
        (row,) = rows_of(path)
    assert (row["request_id"], row["requested_at_s"], row["version"], row["path"]) == ("r1", NOON_S, "1", "triton")
    assert (row["p10_s"], row["p50_s"], row["p90_s"]) == (answer.p10_s, answer.p50_s, answer.p90_s)
    assert 0 < row["latency_s"] < 1
    assert row["answered_at_us"] > NOON_S * 1e6
    assert row["features"] is None


def test_rows_are_read_on_from_the_last_id(path):
    with PredictionLog(path) as log:
        client = EtaClient(transport=StandIn(), log=log)
        client.predict([ROW] * 3, request_id="a")
        last = rows_of(path)[-1]["id"]
        client.predict(ROW, request_id="b")
        later = rows_of(path, f"SELECT * FROM predictions WHERE id > {last}")
    assert [row["request_id"] for row in later] == ["b"]


@pytest.mark.parametrize(
    ("features", "kept"),
    [
        ("none", None),
        ("all", {"pickup_lat": 43.5, "speed_mps": None, "product": "xl"}),
        (["product"], {"product": "xl"}),
    ],
)
def test_no_more_of_a_request_is_kept_than_wanted(path, features, kept):
    with PredictionLog(path, features) as log:
        EtaClient(transport=StandIn(), log=log).predict({**ROW, "pickup_lat": 43.5, "speed_mps": None})
        (row,) = rows_of(path)
    assert (json.loads(row["features"]) if row["features"] else None) == kept


def test_column_that_is_not_there_is_told_and_left_out(path, caplog):
    with PredictionLog(path, ["produkt", "product"]) as log:
        EtaClient(transport=StandIn(), log=log).predict(ROW)
        (row,) = rows_of(path)
    assert json.loads(row["features"]) == {"product": "xl"}
    assert "the log cannot keep 'produkt', it is no input column, did you mean 'product'?" in caplog.text


def test_eight_threads_lose_no_row(path):
    with PredictionLog(path) as log:
        client = EtaClient(transport=StandIn(), log=log)
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: client.predict(ROW), range(400)))
    assert sorted(row["request_id"] for row in rows_of(path)) == sorted(answer.request_id for answer in answers)


def test_kill_9_loses_no_answer_that_was_given(path):
    code = KILLED.format(root=str(Path.cwd()), path=str(path))
    backend = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    given = [backend.stdout.readline().strip() for _ in range(200)]
    backend.send_signal(signal.SIGKILL)
    given += backend.stdout.read().split("\n")[:-1]  # a half line was not given
    backend.wait()
    backend.stdout.close()
    kept = {row["request_id"] for row in rows_of(path)}
    assert len(given) >= 200
    assert set(given) <= kept


@pytest.mark.parametrize("gone", ["file", "folder"])
def test_log_that_is_deleted_is_made_anew(tmp_path, gone):
    path = tmp_path / "logs" / "log.sqlite"
    with PredictionLog(path) as log:
        client = EtaClient(transport=StandIn(), log=log)
        client.predict(ROW)
        if gone == "file":
            path.unlink()
        else:
            shutil.rmtree(path.parent)
        answer = client.predict(ROW)
        assert [row["request_id"] for row in rows_of(path)] == [answer.request_id]


def test_disk_that_is_full_fails_no_answer_and_its_rows_come_later(path, caplog):
    clock = Clock()
    with PredictionLog(path, clock=clock) as log:
        client = EtaClient(transport=StandIn(), log=log)
        client.predict(ROW)
        limit = log._file.connection().execute("PRAGMA max_page_count = 1").fetchone()  # the pages it has
        n = 300
        answers = [client.predict(ROW) for _ in range(n)]
        assert 0 < log.n_waiting <= n
        assert caplog.text.count("cannot be written") == 1
        assert "full" in caplog.text, limit
        clock.now += 1
        client.predict(ROW)  # opens the file anew, without the limit
        assert (log.n_waiting, log.n_lost) == (0, 0)
    assert {answer.request_id for answer in answers} <= {row["request_id"] for row in rows_of(path)}
    assert len(rows_of(path)) == n + 2


def test_file_that_another_process_holds_lets_the_answer_go_and_the_row_follows(path):
    with PredictionLog(path) as log, closing(sqlite3.connect(path, isolation_level=None)) as other:
        client = EtaClient(transport=StandIn(), log=log)
        other.execute("BEGIN IMMEDIATE")
        client.predict(ROW)
        assert log.n_waiting == 1
        other.execute("COMMIT")
        client.predict(ROW)
        assert (log.n_waiting, log.n_written) == (0, 2)


def test_rows_that_found_no_room_are_counted(path, monkeypatch):
    monkeypatch.setattr("hailtime.client.prediction_log.MAX_WAITING", 10)
    with PredictionLog(path) as log, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        EtaClient(transport=StandIn(), log=log).predict([ROW] * 25)
        assert (log.n_waiting, log.n_lost) == (10, 15)
        other.execute("COMMIT")
    assert len(rows_of(path)) == 10


def test_actual_counts_once_and_a_correction_is_seen(path):
    with PredictionLog(path) as log:
        for seconds in (400, 400, 412.5, 412.5):
            log.report_actual("r1", seconds)
        log.report_actual("r2", 100)
    found = rows_of(path, "SELECT id, request_id, pickup_time_s FROM actuals ORDER BY id")
    assert [(row["request_id"], row["pickup_time_s"]) for row in found] == [("r1", 412.5), ("r2", 100.0)]
    assert found[0]["id"] > 1  # who read the first word sees the second


def test_a_cancelled_ride_is_no_arrival_and_contradictions_are_counted(path):
    with PredictionLog(path) as log:
        log.report_cancelled("r1", after_s=300)
        log.report_actual("r2", 100)
        log.report_cancelled("r2", after_s=90)
        log.report_actual("r2", 110)
    found = rows_of(path, "SELECT request_id, pickup_time_s, cancelled_after_s, n_changed FROM actuals ORDER BY id")
    assert [tuple(row.values()) for row in found] == [("r1", None, 300.0, 0), ("r2", 110.0, None, 2)]


def test_many_actuals_are_in_the_file_together_or_not_at_all(path):
    with PredictionLog(path) as log:
        log.report_actuals((f"r{i}", 60.0 + i) for i in range(1000))
        with pytest.raises(LogError, match="got 's2' and -1"):
            log.report_actuals([("s1", 5.0), ("s2", -1.0)])
    assert len(rows_of(path, "SELECT * FROM actuals")) == 1000


def test_log_of_release_1_is_read_on(path):
    with PredictionLog(path) as log:
        log.report_actual("r1", 400)
    with closing(sqlite3.connect(path)) as old:
        old.executescript(
            "DROP TABLE actuals; UPDATE schema_version SET version = 1; CREATE TABLE actuals (id INTEGER PRIMARY KEY "
            "AUTOINCREMENT, request_id TEXT NOT NULL UNIQUE, pickup_time_s REAL NOT NULL, reported_at_us INTEGER);"
            "INSERT INTO actuals VALUES (7, 'r1', 400, 5)"
        )
    with PredictionLog(path) as log:
        log.report_cancelled("r2", 10)
    assert [row["id"] for row in rows_of(path, "SELECT id FROM actuals ORDER BY id")] == [7, 8]


@pytest.mark.parametrize(
    "actual", [("", 1.0), ("r1", -1.0), ("r1", float("nan")), ("r1", None), (7, 1.0), ("r1", True)]
)
def test_impossible_actual_is_refused(path, actual):
    with PredictionLog(path) as log, pytest.raises(LogError, match="an actual is a request id and seconds from 0"):
        log.report_actual(*actual)


def test_actual_that_could_not_be_written_is_told(path):
    with PredictionLog(path) as log:
        path.unlink()
        path.mkdir()
        with pytest.raises(LogError, match="1 actuals from r1 on could not be written"):
            log.report_actual("r1", 1.0)


def test_actuals_and_answers_of_two_processes_meet_in_one_file(path):
    with PredictionLog(path) as one, PredictionLog(path) as other:
        client = EtaClient(transport=StandIn(), log=one)
        reporting = threading.Thread(target=lambda: [other.report_actual(f"r{i}", i) for i in range(200)])
        reporting.start()
        for i in range(200):
            client.predict(ROW, request_id=f"r{i}")
        reporting.join()
    assert len(rows_of(path, "SELECT * FROM predictions JOIN actuals USING (request_id)")) == 200


def test_journal_does_not_grow_for_ever(path, monkeypatch):
    monkeypatch.setattr("hailtime.client.prediction_log.CHECKPOINT_ROWS", 50)
    with PredictionLog(path) as log:
        client, sizes = EtaClient(transport=StandIn(), log=log), []
        for _ in range(40):
            for _ in range(50):
                client.predict(ROW)
            time.sleep(0.005)  # a moment without requests, for the thread that empties the journal
            sizes.append(path.with_name("log.sqlite-wal").stat().st_size)
    assert sizes[-1] < 2000 * 8192 / 2  # half of what 2,000 rows write


@pytest.mark.parametrize("content", [b"no database, but longer than a header" * 30, None], ids=["text", "folder"])
def test_file_that_is_no_log_is_refused_at_the_start(path, content):
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="must be a SQLite file one can write"):
        PredictionLog(path)


def test_log_of_another_release_is_refused(path):
    PredictionLog(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(ConfigError, match="a log of version 99, this release writes 2"):
        PredictionLog(path)


def test_features_must_be_a_choice_or_a_list(path):
    with pytest.raises(ConfigError, match="features must be 'none', 'all' or a list of columns, got 'product'"):
        PredictionLog(path, "product")
