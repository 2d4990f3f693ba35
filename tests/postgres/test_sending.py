"""`scripts/monitor.py forward` as a loop, into a real PostgreSQL."""

import json
from contextlib import closing

import pytest

from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile
from hailtime.errors import LogError
from hailtime.monitoring.forward import DAY_S, Forwarder
from hailtime.monitoring.log_source import LogSource
from hailtime.monitoring.loops import Sending
from tests.postgres.conftest import PASSWORD

pytestmark = pytest.mark.postgres
NOW_S = 1_775_620_800


def write(path, first, n):
    with closing(LogFile(path, 1.0).connection()) as connection:
        for i in range(first, first + n):
            kept = json.dumps({"speed_mps": 1.0 * i})
            connection.execute(INSERT["predictions"], (f"r{i}", 0, NOW_S + i, "1", "triton", 1, 2, 3, 0.001, kept))
            connection.execute(INSERT_ACTUAL, (f"r{i}", 100.0, None, NOW_S * 1_000_000))


@pytest.fixture
def database(server):
    server.ask("DROP SCHEMA public CASCADE")
    server.ask("CREATE SCHEMA public")
    return server


def test_what_is_new_goes_over_once_and_old_days_are_dropped_once_a_day(database, password, tmp_path, monkeypatch):
    log, now_s = tmp_path / "log.sqlite", [float(NOW_S)]
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    sending = Sending(Forwarder(log, database.url, password, keep_days=3650), lambda: now_s[0])
    for first in (0, 30):
        write(log, first, 30)
        sending.once()
        sending.once()
    assert database.ask("SELECT count(*), count(DISTINCT request_id) FROM predictions") == [(60, 60)]
    assert LogSource(database.url).farthest_off(3)["pickup_time_s"].to_list() == [100.0] * 3
    write(log, -9000 * DAY_S, 1)
    sending.once()
    assert database.ask("SELECT count(*) FROM predictions") == [(61,)]
    with closing(LogFile(log, 1.0).connection()) as connection:
        assert connection.execute("SELECT count(*) FROM predictions").fetchone() == (61,)
        now_s[0] += DAY_S
        sending.once()
        assert connection.execute("SELECT count(*) FROM predictions").fetchone() == (60,)


def test_a_server_out_of_reach_is_an_error_to_try_again(password, tmp_path):
    write(tmp_path / "log.sqlite", 0, 1)
    with pytest.raises(LogError, match="stay where they are"):
        Sending(Forwarder(tmp_path / "log.sqlite", "postgresql://reader@127.0.0.1:1/x", password)).once()
