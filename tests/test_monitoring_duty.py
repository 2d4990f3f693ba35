"""Duty over a real log: an alert begins, is told to everybody once, survives a restart and ends."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from hailtime.client.log_tables import LogFile
from hailtime.errors import ConfigError, LogError
from hailtime.monitoring.alerts import Rule
from hailtime.monitoring.duty import Duty
from hailtime.monitoring.log_source import LogSource
from hailtime.monitoring.lookout import Lookout
from hailtime.monitoring.telling import read_tellers
from hailtime.monitoring.watch import WatchedModel
from tests.test_monitoring_accuracy import NOON_S, log, model, report, trips, watch_of, write  # noqa: F401

RULE = Rule("late", "late_share", above=0.3, window_min=60, least=100, for_min=0)


@pytest.fixture
def hook():
    """A server that keeps what it is sent."""
    heard = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    server.server_close()


def logged(path, late_from_s):
    """Trips that arrive on time until a moment, and thrice as late after it."""
    table = trips(3000, hours=4)
    table["pickup_time_s"] = table["p50_s"] * (1 + 2.0 * (table["requested_at_s"] >= late_from_s))
    write(path, table, with_actuals=False)
    connection = LogFile(path, 1.0).connection()
    for row in table.to_dict("records"):
        at_us = int((row["requested_at_s"] + row["pickup_time_s"]) * 1e6)
        connection.execute(
            "INSERT INTO actuals (request_id, pickup_time_s, n_changed, reported_at_us) VALUES (?, ?, 0, ?)",
            (row["request_id"], row["pickup_time_s"], at_us),
        )
    connection.close()


def test_an_alert_is_told_to_everybody_once_and_survives_a_restart(log, model, hook):  # noqa: F811
    url, heard = hook
    logged(log, late_from_s=NOON_S + 2 * 3600)
    tellers = read_tellers({"webhook": url, "alertmanager": url})
    duty = Duty(watch_of(log, model), [RULE], tellers)
    assert duty.once(NOON_S + 2 * 3600) == []
    (message,) = duty.once(NOON_S + 3.5 * 3600)
    assert (message.kind, message.alerts, message.cause.kind) == ("firing", ("late",), "changed world")
    again = Duty(watch_of(log, model), [RULE], tellers)
    assert again.once(NOON_S + 3.6 * 3600) == []
    assert [path for path, _ in heard] == ["/", "/api/v2/alerts"]
    assert heard[0][1]["text"].startswith("the world changed: ")
    assert heard[1][1][0]["labels"] == {"source": "small_town", "alertname": "hailtime_late"}
    assert heard[1][1][0]["startsAt"] == "2026-01-12T15:30:00+00:00"
    assert [told["kind"] for told in again.watch.store.state("messages", [])] == ["firing"]


def test_a_teller_that_is_away_keeps_nobody_from_hearing(log, model, hook, caplog):  # noqa: F811
    url, heard = hook
    logged(log, late_from_s=NOON_S)
    duty = Duty(watch_of(log, model), [RULE], read_tellers({"webhook": "http://127.0.0.1:1", "alertmanager": url}))
    duty.once(NOON_S + 3 * 3600)
    assert len(heard) == 1
    assert "Webhook did not hear of late" in caplog.text


def test_a_log_that_is_gone_is_said_and_tried_again(log, model):  # noqa: F811
    logged(log, late_from_s=NOON_S + 9 * 3600)
    duty = Duty(watch_of(log, model), [RULE], [])
    hidden = log.rename(log.with_name("hidden"))
    with pytest.raises(LogError, match="cannot be read"):
        duty.once(NOON_S + 3600)
    hidden.rename(log)
    assert duty.once(NOON_S + 3700) == []


def test_a_release_reads_the_day_anew_only_where_training_looked_otherwise(log, model):  # noqa: F811
    logged(log, late_from_s=NOON_S + 9 * 3600)
    hours = []

    class Rows(LogSource):
        def asked(self, from_s, to_s):
            hours.append(from_s)
            return super().asked(from_s, to_s)

    def read_by(model, before=None):
        hours.clear()
        lookout = Lookout(Rows(log), model, [RULE], before)
        for _ in range(2):
            lookout.at(NOON_S + 4 * 3600)
        return len(hours), lookout

    n_read, first = read_by(model)
    assert n_read == 24
    same = WatchedModel(model.schema, json.loads(json.dumps(model.histograms)))
    assert read_by(same, first)[0] == 0
    speeds = {**model.histograms["speed_mps"], "edges": [1.0, 2.0], "counts": [5, 5, 5], "means": [0.5, 1.5, 2.5]}
    assert read_by(WatchedModel(model.schema, {**model.histograms, "speed_mps": speeds}), first)[0] == 24


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"webhok": "http://x"}, "did you mean 'webhook'"), ({"webhook": "ftp://x"}, "must be an http")],
)
def test_tellers_that_cannot_work_are_told(settings, message):
    with pytest.raises(ConfigError, match=message):
        read_tellers(settings)
