"""Reading on and on, the settings, the report, and scripts/monitor.py as one runs it."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from hailtime.errors import ConfigError, DataError, DeployError, LogError
from hailtime.histograms import reference_histograms
from hailtime.monitoring.loops import Reading, repeat
from hailtime.monitoring.page.inputs import drift
from hailtime.monitoring.page.report import report_of_day, report_of_version
from hailtime.monitoring.page.svg import _steps
from hailtime.monitoring.page.watched import Watched
from hailtime.monitoring.settings import MonitorSettings
from hailtime.monitoring.store import MonitorStore
from hailtime.rollout import Rollout
from hailtime.serving.config_file import write_config
from hailtime.serving.places import CONFIG, model_folder
from tests.monitored_city import CONFIGS, make_city, page_settings, write_model

SCRIPT = Path(__file__).parents[1] / "scripts" / "monitor.py"


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    city = make_city(
        tmp_path_factory.mktemp("city"), n=4500, start="2026-04-06", days=2, closed_from="2026-04-07T08:00"
    )
    city.read()
    return city


@pytest.fixture
def small(tmp_path):
    return make_city(tmp_path, n=200, days=1)


def test_a_pass_says_when_it_was_and_what_went_wrong(small):
    settings, now_s = page_settings(small), small.now_s
    n_new = Reading(settings, lambda: now_s).once()
    store = MonitorStore(settings.store)
    with closing(sqlite3.connect(small.log)) as connection:
        (n_logged,) = connection.execute("SELECT (SELECT count(*) FROM predictions) + count(*) FROM actuals").fetchone()
    assert (n_new, store.state("read_at_s", None), store.state("trouble", 1)) == (n_logged, now_s, None)
    (model_folder(small.repository) / CONFIG).unlink()
    with pytest.raises(DeployError, match="nothing is deployed"):
        Reading(settings, lambda: now_s + 60).once()
    assert "nothing is deployed" in store.state("trouble", None)
    assert store.state("read_at_s", None) == now_s
    assert len(store.sums()) > 0


def test_a_row_that_nobody_of_ours_wrote_is_told_and_ends_nothing(small):
    with closing(sqlite3.connect(small.log)) as connection:
        connection.execute("UPDATE predictions SET features = '{no json' WHERE id = 7")
        connection.commit()
    reading = Reading(page_settings(small), lambda: small.now_s)
    with pytest.raises(LogError, match="a pass failed"):
        reading.once()
    assert MonitorStore(small.store).state("trouble", None)
    with closing(sqlite3.connect(small.log)) as connection:
        connection.execute("UPDATE predictions SET features = NULL WHERE id = 7")
        connection.commit()
    assert reading.once() > 0
    assert MonitorStore(small.store).state("trouble", 1) is None


def test_a_store_that_was_deleted_is_made_anew(small):
    reading = Reading(page_settings(small), lambda: small.now_s)
    reading.once()
    before = MonitorStore(small.store).sums()
    for file in small.folder.glob("monitor.sqlite*"):
        file.unlink()
    reading.once()
    order = ["hour_s", "version", "path"]
    assert MonitorStore(small.store).sums().sort(order).equals(before.sort(order))


def test_old_hours_leave_the_store_back_from_the_newest(small):
    Reading(page_settings(small), lambda: small.now_s).once()
    store = MonitorStore(small.store)
    first, last = store.span()
    store.forget(last - 5 * 3600)
    assert store.span() == (last - 5 * 3600, last)
    Reading(page_settings(small, keep_days=1), lambda: small.now_s + 1000 * 86_400).once()
    assert store.span() == (last - 5 * 3600, last)
    assert first == last - 23 * 3600


def test_a_release_in_between_leaves_the_drift_of_the_days_before(tmp_path):
    """Version 3 has other bins; the hours that were counted under version 2 are in those of version 2."""
    city = make_city(tmp_path, n=2500, days=1)
    city.read()
    watched = Watched(page_settings(city), lambda: city.now_s)
    before = drift(watched, 7)
    with closing(sqlite3.connect(city.log)) as connection:
        rows = pd.read_sql_query("SELECT * FROM predictions", connection)
    inputs = pd.json_normalize(rows["features"].map(json.loads).to_list()).head(700)
    frame = pl.from_pandas(inputs.assign(pickup_time_s=1.0)).with_columns(pl.col("pickup_lat") + 1.0)
    write_model(city.repository, 3, city.schema, reference_histograms(city.schema, frame))
    (model_folder(city.repository) / CONFIG).write_text(write_config(city.schema, (2, 3), Rollout(3)))
    after = drift(watched, 7)
    place = before["columns"].index("pickup_lat")
    assert after["psi"][place] == before["psi"][place]


def test_work_that_fails_is_tried_again_until_it_works(caplog):
    stop, n = threading.Event(), 0

    def work():
        nonlocal n
        n += 1
        if n < 3:
            raise LogError("no disk")
        stop.set()

    caplog.set_level("INFO")
    repeat(work, 0.0, _Impatient(stop))
    assert n == 3
    assert [record.getMessage() for record in caplog.records] == ["LogError: no disk", "it works again"]


class _Impatient:
    """An event that does not wait."""

    def __init__(self, event):
        self.event, self.is_set = event, event.is_set

    def wait(self, seconds):
        return self.event.is_set()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("labeldelay_s: 3\n", "did you mean 'label_delay_s'"),
        ("log: x\n", "must have a value for store, repository"),
        ("[1", "cannot be read"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, text, words):
    (tmp_path / "monitor.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        MonitorSettings.read(tmp_path / "monitor.yaml")


@pytest.mark.parametrize(("name", "value"), [("every_s", 0), ("keep_days", True), ("port", "x"), ("label_delay_s", -1)])
def test_a_number_out_of_range_is_named(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be a number from"):
        MonitorSettings.read(CONFIGS / "monitor.yaml", {name: value})


def test_a_report_of_a_day_is_one_file_with_the_days_figures(city):
    text = report_of_day(Watched(page_settings(city), lambda: city.now_s), "2026-04-07")
    with closing(sqlite3.connect(city.log)) as connection:
        rows = pd.read_sql_query("SELECT * FROM predictions LEFT JOIN actuals USING (request_id)", connection)
    local = pd.to_datetime(rows["requested_at_s"], unit="s", utc=True).dt.tz_convert("America/New_York")
    day = rows[local.dt.date.astype(str) == "2026-04-07"].dropna(subset="pickup_time_s")
    error = (day["p50_s"] - day["pickup_time_s"]).abs().mean()
    assert f'<div class="figure">{error:,.0f} s</div>' in text
    assert "Tuesday, 7 April 2026" in text
    assert "<script" not in text
    assert re.findall(r"(?:src|href|url)\s*[=(]", text) == []
    assert len(text) < 100_000


def test_a_report_of_a_version_is_of_its_answers_alone(city):
    watched = Watched(page_settings(city), lambda: city.now_s)
    with closing(sqlite3.connect(city.log)) as connection:
        counts = dict(connection.execute("SELECT version, count(*) FROM predictions GROUP BY 1"))
    for version, n in counts.items():
        text = report_of_version(watched, version)
        assert f'<dt>Requests</dt><dd><div class="figure">{n:,}</div>' in text
    assert "trained on March, &lt;b&gt;careful&lt;/b&gt;" not in text  # of the canary, not of what it became
    with pytest.raises(ConfigError, match="version 9 has answered no request that was read; 1, 2 has"):
        report_of_version(watched, "9")


@pytest.mark.parametrize(
    ("day", "error"), [("yesterday", "must be written as 2026-04-07"), ("2020-01-01", "no request of that time")]
)
def test_a_day_that_cannot_be_told_is_refused(city, day, error):
    with pytest.raises(ConfigError, match=error):
        report_of_day(Watched(page_settings(city), lambda: city.now_s), day)


def test_a_report_without_a_store_says_how_to_make_one(city, tmp_path):
    with pytest.raises(DataError, match=r"scripts/monitor\.py read"):
        report_of_day(Watched(page_settings(city, store=tmp_path / "no.sqlite")), "2026-04-07")


@pytest.mark.parametrize(("most", "steps"), [(146, (50, 150)), (1.0, (0.2, 1.0)), (7.3, (2, 8)), (100, (20, 100))])
def test_axes_have_round_numbers(most, steps):
    assert _steps(most) == pytest.approx(steps)


def run(*arguments):
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


@pytest.mark.slow
def test_the_script_reads_reports_and_serves(city, tmp_path):
    where = ["--log", city.log, "--store", tmp_path / "new.sqlite", "--repository", city.repository]
    done = subprocess.run(run("read", *where), capture_output=True, text=True, check=True)
    assert re.match(r"8,\d\d\d new rows", done.stdout)
    out = tmp_path / "day.html"
    subprocess.run(run("report", *where, "--day", "2026-04-06", "--out", out), check=True, capture_output=True)
    assert "Monday, 6 April 2026" in out.read_text()
    serving = subprocess.Popen(run("serve", *where, "--port", 0), stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://127\.0\.0\.1:\d+", serving.stdout.readline())[0]
        assert b'"mae_s"' in wait_for(f"{url}/api/now")
    finally:
        serving.send_signal(signal.SIGINT)
        assert serving.wait(20) == 0
        serving.stdout.close()


def wait_for(url, seconds=20):
    for _ in range(int(seconds * 10)):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read()
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--host", "0.0.0.0"], "needs a token"),
        (["forward"], "forward_to in the settings"),
        (["report", "--day", "2026-04-07", "--store", "/nowhere/none.sqlite"], "Nothing has been read yet"),
    ],
    ids=["serve", "forward", "report"],
)
def test_the_script_says_what_is_missing(arguments, words):
    done = subprocess.run(run(*arguments), capture_output=True, text=True)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
