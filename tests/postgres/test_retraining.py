"""The log of a retraining in PostgreSQL: the rows that a backend's file would give, and a training on them."""

import contextlib
import time

import pytest
from polars.testing import assert_frame_equal

from hailtime import clock
from hailtime.errors import DeployError
from hailtime.monitoring.forward import Forwarder
from hailtime.retraining.retrain import retrain
from hailtime.retraining.state import retrainings
from hailtime.sources.prediction_log import LogReader, answered, load
from tests.postgres.conftest import PASSWORD
from tests.retrained_city import make_town, offline_place, town_settings

pytestmark = pytest.mark.postgres


def test_forwarded_requests_are_learnt_from_as_those_of_the_file(server, password, small_run, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    server.ask("DROP TABLE IF EXISTS predictions, shadow_predictions, actuals, log_files")
    town = make_town(small_run.folder)
    place = offline_place(tmp_path, town)
    forwarder = Forwarder(place / "log.sqlite", server.url, password)
    while forwarder.send():
        pass

    span = (town.schema, 0.0, town.now_s)
    of_file, of_postgres = (answered(LogReader(log), *span) for log in (place / "log.sqlite", server.url))
    assert len(of_file) == len(town.rows)
    assert_frame_equal(of_postgres, of_file)
    assert_frame_equal(
        load(server.url, str(town.run), 0.0, town.now_s).table(),
        load(str(place / "log.sqlite"), str(town.run), 0.0, town.now_s).table(),
    )

    monkeypatch.setenv(clock.VARIABLE, str(clock.Played(town.now_s, 1, time.time())))
    settings = town_settings(place, "127.0.0.1:1", f"log={server.url}", "gates.scratch=false")
    with contextlib.suppress(DeployError):  # no server to go live on
        retrain(settings, because="a test")
    (one,) = retrainings(place / "retrain")
    assert one.state["steps"]["train"]["validation_mae_s"]["window"] > 0
    assert "judge" in one.state["steps"]
