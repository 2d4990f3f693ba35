"""The page's views over HTTP, against a plain recomputation on the same log."""

import gzip
import hashlib
import json
import re
import sqlite3
from contextlib import closing
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile
from hailtime.errors import ConfigError
from hailtime.monitoring.arrivals import N_BINS, added, grid_of
from hailtime.monitoring.loops import Reading
from hailtime.monitoring.page.app import PLOTLY, VIEWS, make_app
from hailtime.monitoring.page.watched import Watched
from tests.monitored_city import make_city, page_settings

NEW_YORK = ZoneInfo("America/New_York")
ALL = ["/api/now", *(f"/api/{name}?days={days}" for name in VIEWS for days in (7, 30)), "/api/farthest"]


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    city = make_city(
        tmp_path_factory.mktemp("city"), n=7500, start="2026-04-05", days=3, closed_from="2026-04-07T12:00"
    )
    city.read()
    return city


@pytest.fixture(scope="module")
def log(city):
    """The log as pandas sees it, with what is known of each end."""
    with closing(sqlite3.connect(city.log)) as connection:
        said = pd.read_sql_query("SELECT * FROM predictions", connection)
        ends = pd.read_sql_query("SELECT * FROM actuals", connection).drop(columns="id")
    said = said.join(pd.json_normalize(said["features"].map(json.loads))).drop(columns="features")
    rows = said.merge(ends, on="request_id", how="left")
    error = rows["p50_s"] - rows["pickup_time_s"]
    return rows.assign(error_s=error, abs_s=error.abs(), hour_s=rows["requested_at_s"] // 3600 * 3600)


def page_of(city, token=None, **changes):
    watched = Watched(page_settings(city, **changes), lambda: city.now_s)
    return TestClient(make_app(watched, token), base_url="http://127.0.0.1:8050")


@pytest.fixture(scope="module")
def page(city):
    return page_of(city)


def told(page, path):
    answer = page.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_now_tells_the_last_complete_hour(page, city, log):
    data = told(page, "/api/now")
    complete = log[log["hour_s"] + 3600 + 7200 <= city.now_s].dropna(subset="pickup_time_s")
    last = complete[complete["hour_s"] == complete["hour_s"].max()]
    assert data["complete"]["mae_s"] == pytest.approx(last["abs_s"].mean())
    assert data["complete"]["bias_s"] == pytest.approx(last["error_s"].mean())
    band = 1.96 * last["abs_s"].std(ddof=0) / np.sqrt(len(last))
    assert data["complete"]["mae_high_s"] == pytest.approx(last["abs_s"].mean() + band, rel=1e-4)
    newest = log[log["hour_s"] >= log["hour_s"].max() - 3600]
    assert data["newest"]["n"] == len(newest)
    assert data["newest"]["latency_p99_s"] == pytest.approx(newest["latency_s"].quantile(0.99), rel=0.1)
    assert data["newest"]["arrived"] == pytest.approx(newest["pickup_time_s"].notna().mean())
    assert data["plan"] == "version 2 answers everybody"
    assert data["stopped"] is None


def test_the_expected_error_is_held_against_what_came_true(page, city, log):
    expected = told(page, "/api/now")["expected"]
    complete = log[log["hour_s"] + 3600 + 7200 <= city.now_s].dropna(subset="pickup_time_s")
    day = complete[complete["hour_s"] >= log["hour_s"].max() + 3600 - 24 * 3600]
    assert expected["proved_s"] == pytest.approx(day["abs_s"].mean())
    assert expected["ratio"] == pytest.approx(
        day["abs_s"].mean() / (0.311296 * (day["p90_s"] - day["p10_s"])).mean(), 1e-3
    )
    assert expected["ratio"] > 1.1  # the highway closed at noon


def test_predicted_against_actual(page, log):
    data, arrived = told(page, "/api/accuracy?days=7"), log.dropna(subset="pickup_time_s")
    assert data["total"]["mae_s"] == pytest.approx(arrived["abs_s"].mean())
    edges = np.geomspace(30, 7200, 33)
    np.testing.assert_allclose(data["grid"]["edges_s"], edges, atol=0.05)
    clipped = [np.clip(arrived[name], 30.001, 7199.9) for name in ("p50_s", "pickup_time_s")]
    wanted, _, _ = np.histogram2d(*clipped, bins=[edges, edges])
    np.testing.assert_array_equal(data["grid"]["counts"], wanted)
    hour = pd.to_datetime(arrived["requested_at_s"], unit="s", utc=True).dt.tz_convert(NEW_YORK).dt.hour
    by_hour = arrived.groupby(hour)[["p50_s", "pickup_time_s"]].mean()
    assert data["hours"]["local_hour"] == by_hour.index.to_list()
    np.testing.assert_allclose(data["hours"]["said_s"], by_hour["p50_s"], atol=1e-3)
    np.testing.assert_allclose(data["hours"]["actual_s"], by_hour["pickup_time_s"], atol=1e-3)
    assert list(data["versions"]) == ["1", "2"]


def test_zones_lie_where_their_pickups_are(page, log):
    zones = told(page, "/api/places?days=7")["zones"]
    wanted = log.groupby("pickup_zone")[["pickup_lat", "pickup_lon", "abs_s"]].mean().loc[zones["value"]]
    assert len(wanted) > 50
    np.testing.assert_allclose(zones["lat"], wanted["pickup_lat"], atol=0.002)
    np.testing.assert_allclose(zones["lon"], wanted["pickup_lon"], atol=0.002)
    np.testing.assert_allclose(zones["mae_s"], wanted["abs_s"], atol=1e-3)


def test_intervals_hold_what_they_hold(page, log):
    data, arrived = told(page, "/api/intervals?days=7"), log.dropna(subset="pickup_time_s")
    inside = arrived["pickup_time_s"].between(arrived["p10_s"], arrived["p90_s"])
    assert data["total"]["coverage"][0] == pytest.approx(inside.mean(), abs=1e-4)
    weather = dict(zip(data["slices"]["weather"]["value"], data["slices"]["weather"]["coverage"], strict=True))
    assert weather["wet"] == pytest.approx(inside[arrived["rain_mm_h"] >= 0.1].mean(), abs=1e-4)


def test_drift_names_the_feed_that_fell_silent(page, log):
    data = told(page, "/api/drift?days=7")
    place = data["columns"].index("incidents_active")
    day = pd.to_datetime(log["requested_at_s"], unit="s", utc=True).dt.tz_convert(NEW_YORK).dt.date
    missing = log["incidents_active"].isna().groupby(day).mean()
    assert data["days"] == [str(day) for day in missing.index]
    np.testing.assert_allclose(data["missing"][place], missing, atol=1e-4)
    assert any(one["text"].startswith("incidents_active is missing in") for one in data["sentences"])
    assert all(psi < 0.1 for psi in data["psi"][data["columns"].index("pickup_zone")])


def test_a_day_with_few_requests_shows_no_drift(tmp_path):
    city = make_city(tmp_path, n=600, days=1)
    city.read()
    data = told(page_of(city), "/api/drift?days=7")
    assert {psi for row in data["psi"] for psi in row} == {None}
    assert data["sentences"] == []


def test_releases_are_marked_on_every_time_axis(page):
    for name in VIEWS:
        marks = told(page, f"/api/{name}?days=7")["marks"]
        assert [mark["text"] for mark in marks] == ["deploy 1", "canary 2, 10 %", "promote 2"]
    standings = told(page, "/api/releases?days=7")["standings"]
    assert [(one["version"], one["state"]) for one in standings] == [("2", "stable"), ("1", "retired")]


def test_a_request_is_told_whole(page, log):
    row = log[log["pickup_time_s"].notna()].iloc[17]
    (answer,) = told(page, f"/api/request?id={row['request_id']}")["answers"]
    assert [answer[n] for n in ("p10_s", "p50_s", "p90_s", "pickup_time_s")] == pytest.approx(
        row[["p10_s", "p50_s", "p90_s", "pickup_time_s"]].to_list()
    )
    inputs = {one["name"]: (one["value"], one["unit"]) for one in answer["features"]}
    assert inputs["rain_mm_h"] == (row["rain_mm_h"], "mm/h")
    asked = datetime.fromtimestamp(int(row["requested_at_s"]), NEW_YORK)
    assert answer["asked_at"] == f"{asked:%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize("request_id", ["nobody", "x' OR '1'='1", '"; DROP TABLE predictions; --'])
def test_an_unknown_request_has_no_answers(page, request_id):
    assert told(page, "/api/request?id=" + request_id.replace(";", "%3B"))["answers"] == []


def test_the_farthest_off_of_the_newest_come_first(page, log):
    found = told(page, "/api/farthest")["requests"]
    assert len(found) == 8
    off = [abs(one["p50_s"] - one["pickup_time_s"]) for one in found]
    assert off == sorted(off, reverse=True)


def test_nothing_is_written(city, page):
    def prints():
        names = ("predictions.sqlite", "monitor.sqlite")
        return [hashlib.sha256((city.folder / name).read_bytes()).hexdigest() for name in names]

    before = prints()
    for path in ["/", *ALL]:
        assert page.get(path).status_code == 200
    assert prints() == before
    assert {page.post(path).status_code for path in ALL} == {405}


def test_the_page_has_its_first_figures_inside(page):
    text = page.get("/").text
    first = text.split('id="first">')[1].split("</script>")[0]
    assert json.loads(first) == told(page, "/api/now")


def test_what_is_told_cannot_end_the_script_it_is_in(city):
    text = page_of(city, store="/nowhere/</script><b>.sqlite").get("/").text
    first = text.split('id="first">')[1].split("</script>")[0]
    assert "</script><b>.sqlite" in json.loads(first)["error"]


def test_plotly_is_its_makers_own_bundle(page):
    """npm's plotly.js-cartesian-dist-min 4.1.1, byte for byte."""
    answer = page.get(f"/files/{PLOTLY}")
    assert answer.headers["content-encoding"] == "gzip"
    published = "79542150855a52c567260e3137095dbe2b744e6d702a5cabe67da246942fba7a"
    assert hashlib.sha256(answer.content).hexdigest() == published
    assert "immutable" in answer.headers["cache-control"]


def test_json_comes_compressed(page):
    with page.stream("GET", "/api/accuracy", headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert len(raw) < 0.5 * len(gzip.decompress(raw))


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e/app.py", "..%2fapp.py", "index.html", "nothing.js"])
def test_only_the_pages_own_files_are_served(page, name):
    assert page.get(f"/files/{name}").status_code == 404


@pytest.mark.parametrize(
    "path", ["/api/accuracy?days=0", "/api/accuracy?days=nan", "/api/accuracy?days=x", "/api/request"]
)
def test_what_makes_no_sense_is_refused(page, path):
    assert page.get(path).status_code == 422


def test_a_store_that_is_not_there_is_told(city, tmp_path):
    page = page_of(city, store=tmp_path / "none.sqlite")
    for path in ALL[:-1]:
        answer = page.get(path)
        assert answer.status_code == 503
        assert "Nothing has been read yet" in answer.json()["error"]
    assert not (tmp_path / "none.sqlite").exists()
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    answer = page_of(city, store=tmp_path / "text.sqlite").get("/api/now")
    assert (answer.status_code, "cannot be used" in answer.json()["error"]) == (503, True)


def test_a_log_without_a_request_is_told(city, tmp_path):
    LogFile(tmp_path / "log.sqlite", 1.0).connection().close()
    settings = page_settings(city, log=tmp_path / "log.sqlite", store=tmp_path / "store.sqlite")
    Reading(settings, lambda: city.now_s).once()
    answer = page_of(city, log=tmp_path / "log.sqlite", store=tmp_path / "store.sqlite").get("/api/now")
    assert answer.json()["error"].startswith("No request is in the log yet")


def test_a_log_out_of_reach_leaves_what_is_known(city):
    page = page_of(city, log="postgresql://me:secret@127.0.0.1:1/x")
    assert told(page, "/api/now")["complete"]
    health = page.get("/api/health")
    assert "cannot be read" in health.json()["log_error"]
    assert "secret" not in health.text
    assert page.get("/api/farthest").status_code == 503


def test_without_a_repository_errors_are_still_told(city, tmp_path):
    page = page_of(city, repository=tmp_path)
    data = told(page, "/api/now")
    assert (data["plan"], data["timezone"], data["marks"]) == ("nothing is deployed", "UTC", [])
    assert "nothing is deployed" in page.get("/api/drift").json()["error"]


def page_at(settings, now_s):
    return TestClient(make_app(Watched(settings, lambda: now_s), None), base_url="http://localhost")


@pytest.mark.slow
@pytest.mark.parametrize(("after_s", "words"), [(5 * 86_400, "5 days ago"), (900, "15 minutes ago"), (60, None)])
def test_requests_that_stopped_are_told(city, log, tmp_path, after_s, words):
    """A quarter of an hour is enough where 80 should have come in it by the rate of the hour before."""
    settings = page_settings(city, store=tmp_path / "store.sqlite")
    now_s = int(log["requested_at_s"].max()) + after_s
    Reading(settings, lambda: now_s).once()
    data = told(page_at(settings, now_s), "/api/now")
    assert words in data["stopped"] if words else data["stopped"] is None
    assert data["trouble"] is None
    assert data["complete"]


def test_a_monitor_that_stopped_reading_is_told_by_every_view(city):
    page = page_at(page_settings(city), city.now_s + 300)
    for path in ALL[:-1]:
        assert told(page, path)["trouble"].startswith("Nothing was read since ")
    assert told(page, "/api/now")["stopped"] is None  # nobody has looked whether any came


def test_requests_a_second_are_of_the_last_five_minutes(page, city, log):
    pace = told(page, "/api/now")["pace"]
    recent = log["requested_at_s"].between(city.now_s - 300, city.now_s, inclusive="right").sum()
    assert recent > 5
    assert (pace["rate"], pace["minutes"]) == (pytest.approx(recent / 300), 5)


def test_times_ahead_of_the_clock_are_told(city, tmp_path):
    settings = page_settings(city, store=tmp_path / "store.sqlite")
    before_s = city.now_s - 3600  # what came in the last hour is of a clock that goes an hour fast
    Reading(settings, lambda: before_s).once()
    data = told(page_at(settings, before_s), "/api/now")
    assert re.match(r"\d+ requests carry times ahead of this clock, up to 2026-04-0\d", data["ahead"])
    assert told(page_at(page_settings(city), city.now_s), "/api/now")["ahead"] is None


def test_ends_that_are_odd_are_counted(tmp_path):
    city = make_city(tmp_path, n=300, days=1)
    city.read()
    with closing(LogFile(city.log, 1.0).connection()) as connection:
        known = [name for (name,) in connection.execute("SELECT request_id FROM actuals LIMIT 3")]
        late_us = int(city.now_s * 1e6) + 10 * 3600 * 1_000_000
        for name in [*known, "of-nobody", "of-nobody-else"]:
            connection.execute(INSERT_ACTUAL, (name, 777.0, None, late_us))
    page = page_of(city)
    assert told(page, "/api/health?days=7")["unread"] == 5
    Reading(page_settings(city), lambda: city.now_s).once()
    data = told(page, "/api/health?days=7")
    assert [data[n] for n in ("unread", "n_changed", "n_unmatched", "n_late")] == [0, 3, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("pickup_time_s", ["soon", -5.0, 1e300, float("inf"), b"x"], ids=repr)
def test_ends_that_are_no_time_are_counted_and_left_out(city, log, tmp_path, pickup_time_s):
    """As somebody writes them who goes around the client, which refuses them."""
    copy = tmp_path / "log.sqlite"
    copy.write_bytes(city.log.read_bytes())
    with closing(LogFile(copy, 1.0).connection()) as connection:
        connection.execute(INSERT_ACTUAL, (log["request_id"].iloc[-1], pickup_time_s, None, int(city.now_s * 1e6)))
    settings = page_settings(city, log=copy, store=tmp_path / "store.sqlite")
    Reading(settings, lambda: city.now_s).once()
    page = page_at(settings, city.now_s)
    assert told(page, "/api/health?days=7")["n_malformed"] == 1
    assert all(one["pickup_time_s"] for one in told(page, "/api/farthest")["requests"])
    arrived = log.iloc[:-1].dropna(subset="pickup_time_s")
    assert told(page, "/api/accuracy?days=7")["total"]["mae_s"] == pytest.approx(arrived["abs_s"].mean())


def test_what_a_shadow_would_have_said_is_beside_the_answer(city, log, tmp_path):
    copy, asked = tmp_path / "log.sqlite", log.iloc[17]
    copy.write_bytes(city.log.read_bytes())
    with closing(LogFile(copy, 1.0).connection()) as connection:
        row = (asked["request_id"], 5, int(asked["requested_at_s"]), "3", "triton", 90.0, 120.0, 240.0, 0.002, None)
        connection.execute(INSERT["shadow_predictions"], row)
    found = told(page_of(city, log=copy), f"/api/request?id={asked['request_id']}")
    (shadow,) = found["shadows"]
    assert [shadow[n] for n in ("version", "p10_s", "p50_s", "p90_s")] == ["3", 90.0, 120.0, 240.0]
    assert len(found["answers"]) == 1
    assert told(page_of(city, log=copy), f"/api/request?id={log['request_id'].iloc[3]}")["shadows"] == []


def test_a_point_of_many_days_is_a_local_day(city, tmp_path):
    """Clocks go forward on 8 March 2026: that day has 23 hours."""
    log = tmp_path / "log.sqlite"
    first = int(datetime(2026, 3, 1, tzinfo=NEW_YORK).timestamp())
    with closing(LogFile(log, 1.0).connection()) as connection:
        hours = [0, *range(6 * 24, 9 * 24 - 1), 12 * 24 - 2]
        rows = [(f"r{h}", 0, first + h * 3600, "1", "triton", 1, 2, 3, 0.001, None) for h in hours]
        connection.executemany(INSERT["predictions"], rows)
    settings = page_settings(city, log=log, store=tmp_path / "store.sqlite")
    Reading(settings, lambda: city.now_s).once()
    watched = Watched(settings, lambda: first + 12 * 86_400 - 3600)
    data = told(TestClient(make_app(watched, None), base_url="http://127.0.0.1"), "/api/accuracy?days=30")
    found = dict(zip(data["time"]["time"], data["time"]["n"], strict=True))
    assert data["is_daily"]
    assert found == {"2026-03-01": 1, "2026-03-07": 24, "2026-03-08": 23, "2026-03-09": 24, "2026-03-12": 1}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1:x", "", "10.0.0.1:8050"])
def test_another_sites_name_is_not_answered(page, host):
    assert page.get("/api/now", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:8050", "127.0.0.1", "[::1]:8050"])
def test_this_machines_names_are_answered(page, host):
    assert page.get("/api/farthest", headers={"host": host}).status_code == 200


TOKEN = "a-token-of-the-tests-0123456789"


def test_with_a_token_nobody_sees_anything_without_it(city):
    page = page_of(city, token=TOKEN)
    for path in ["/", *ALL, "/files/page.js", f"/files/{PLOTLY}"]:
        for headers in ({}, {"authorization": "Bearer nonsense"}, {"authorization": f"Bearer {TOKEN[:-1]}"}):
            answer = page.get(path, headers=headers)
            assert answer.status_code == 401
            assert "mae_s" not in answer.text
        assert page.get(path, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_token_given_once_is_kept_as_a_cookie_that_does_not_tell_it(city):
    page = page_of(city, token=TOKEN)
    assert page.post("/token", data={"token": "nonsense"}).status_code == 401
    answer = page.post("/token", data={"token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert page.get("/api/now").status_code == 200  # the client keeps cookies


def test_every_answer_forbids_other_hosts(page):
    for path in ("/", "/api/now", "/files/page.js", "/nothing"):
        policy = page.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self'")
        assert "http" not in policy


def test_a_page_beyond_loopback_needs_a_token(city, monkeypatch):
    with pytest.raises(ConfigError, match=r"needs a token, host is 0\.0\.0\.0"):
        page_settings(city, host="0.0.0.0").token()
    monkeypatch.setenv("PAGE_TOKEN", "short")
    with pytest.raises(ConfigError, match="a token of 16 characters or more, got 5"):
        page_settings(city, host="0.0.0.0", token_env="PAGE_TOKEN").token()
    monkeypatch.setenv("PAGE_TOKEN", TOKEN)
    assert page_settings(city, host="0.0.0.0", token_env="PAGE_TOKEN").token() == TOKEN
    assert page_settings(city, host="::1").token() is None


def test_the_grid_counts_what_is_beyond_its_edges():
    grid = grid_of(np.array([1.0, 9e9, 100.0]), np.array([9e9, 1.0, 100.0]))
    assert grid[0, N_BINS - 1] == grid[N_BINS - 1, 0] == 1
    assert added([grid, grid]).sum() == 6
    assert added([]).sum() == 0


def test_a_firing_alert_is_on_the_page_and_in_the_metrics(city, tmp_path):
    rule = "late: {measure: late_share, above: 0.15, window_min: 300, least: 50, for_min: 0}"
    (tmp_path / "alerts.yaml").write_text(rule)
    changes = {"store": tmp_path / "store.sqlite", "alerts": tmp_path / "alerts.yaml"}
    Reading(page_settings(city, **changes), lambda: city.now_s).once()
    page = page_of(city, **changes)
    (alert,) = told(page, "/api/now")["alerts"]
    assert alert["since"] == f"{datetime.fromtimestamp(city.now_s, NEW_YORK):%Y-%m-%d %H:%M}"
    (message,) = told(page, "/api/health")["messages"]
    assert (message["kind"], message["text"]) == ("firing", alert["text"])
    assert 'hailtime_alert_firing{alert="late"} 1.0' in page.get("/metrics").text
