"""The monitor's page in a real Chromium: every view, in light, dark and narrow, with nothing from another host.

The pictures are kept where HAILTIME_SCREENSHOTS says, to be looked at.
"""

import os
import re
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hailtime.client.log_tables import INSERT, INSERT_ACTUAL, LogFile
from hailtime.monitoring.loops import Reading
from hailtime.monitoring.page.app import make_app
from hailtime.monitoring.page.watched import Watched
from tests.browser.conftest import served
from tests.monitored_city import make_city, page_settings

pytestmark = pytest.mark.browser
VIEWS = {
    "now": ["now-error", "now-rate", "now-latency"],
    "accuracy": ["grid", "said-by-hour", "error-by-version", "bias"],
    "places": ["map", "error-by-hour"],
    "intervals": ["coverage", "coverage-by-zone", "coverage-by-weather"],
    "drift": ["drift-psi", "drift-missing"],
    "releases": ["release-requests", "release-error"],
    "health": ["health-ends"],
    "request": [],
}
LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
}
SHAPES = ".scatterlayer path, .barlayer path, .heatmaplayer image"


@contextmanager
def opened(chromium, **look):
    """A tab, and what went wrong in it: words on the console, errors, answers of other hosts."""
    context = chromium.new_context(**(look or LOOKS["light"]))
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("request", lambda request: own(request.url) or wrong.append(f"another host: {request.url}"))
    yield page, wrong
    context.close()


def own(url):
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def show(page, url, view):
    page.goto(f"{url}/#{view}")
    page.wait_for_selector(f"main[data-view='{view.split('/')[0]}']")
    wait_for_pictures(page)


def wait_for_pictures(page):
    page.wait_for_selector(".plot:not([data-drawn])", state="detached")


def keep_picture(page, name):
    if folder := os.environ.get("HAILTIME_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_renders(chromium, url, view, look):
    with opened(chromium, **LOOKS[look]) as (page, wrong):
        show(page, url, view)
        assert [plot.get_attribute("id") for plot in page.query_selector_all(".plot")] == VIEWS[view]
        for name in VIEWS[view]:
            axes = page.locator(f"#{name} .xtitle, #{name} .ytitle").all_text_contents()
            assert len(axes) == 2, f"{name} has the axis titles {axes}"
            assert page.locator(f"#{name}").locator(SHAPES).count() > 0
        assert page.evaluate("document.documentElement.scrollWidth") <= LOOKS[look]["viewport"]["width"]
        assert page.get_by_role("alert").count() == 0
        assert wrong == []
        keep_picture(page, f"{view}_{look}")


def test_time_axes_name_the_citys_zone_and_have_the_releases(chromium, url):
    with opened(chromium) as (page, _):
        for view, name in (
            ("accuracy", "bias"),
            ("intervals", "coverage"),
            ("drift", "drift-psi"),
            ("health", "health-ends"),
        ):
            show(page, url, view)
            assert "America/New_York" in page.locator(f"#{name} .xtitle").text_content()
            notes = page.locator(f"#{name} .annotation-text").all_text_contents()
            assert {"deploy 1", "canary 2, 10 %", "promote 2"} <= set(notes)


def test_a_request_is_found_by_typing_its_id(chromium, url):
    with opened(chromium) as (page, wrong):
        show(page, url, "now")
        page.keyboard.press("/")
        page.wait_for_selector("main[data-view='request'] #request-id:focus")
        page.keyboard.type("r260405-0000017")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=What was asked")
        text = page.inner_text("main")
        assert re.search(r"Said \(P50\)\s+\d+:\d\d min", text)
        assert re.search(r"Happened\s+(\d+:\d\d min|cancelled)", text)
        assert "rain_mm_h" in text
        assert page.url.endswith("#request/r260405-0000017")
        page.fill("#request-id", "<img src=x onerror=alert(1)>")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=No request <img src=x")
        assert page.locator("main img").count() == 0
        assert wrong == []
        keep_picture(page, "request_unknown")


@pytest.mark.parametrize("look", LOOKS)
def test_what_a_shadow_would_have_said_is_shown(chromium, city, url, look):
    with closing(sqlite3.connect(city.log)) as connection:
        (name,) = connection.execute(
            "SELECT request_id FROM shadow_predictions JOIN actuals USING (request_id)"
        ).fetchone()
    with opened(chromium, **LOOKS[look]) as (page, wrong):
        show(page, url, f"request/{name}")
        page.wait_for_selector("text=What a shadow would have said")
        assert re.search(r"3\s+\d+:\d\d min\s.*\d+ s too (much|little)", page.inner_text("main"))
        assert page.evaluate("document.documentElement.scrollWidth") <= LOOKS[look]["viewport"]["width"]
        assert wrong == []
        keep_picture(page, f"request_shadow_{look}")


def test_keys_open_views_and_change_the_span_and_the_colours(chromium, url):
    with opened(chromium) as (page, wrong):
        show(page, url, "now")
        for number, view in enumerate(VIEWS, 1):
            page.keyboard.press(str(number))
            page.wait_for_selector(f"main[data-view='{view}']")
            assert page.locator("nav a[aria-current]").get_attribute("href") == f"#{view}"
        page.keyboard.press("2")
        page.wait_for_selector("main[data-view='accuracy']")
        with page.expect_response(lambda answer: "days=30" in answer.url):
            page.keyboard.press("+")
        wait_for_pictures(page)
        colors = []
        for wanted in ("light", "dark", None):
            page.keyboard.press("t")
            assert page.evaluate("document.documentElement.dataset.theme ?? null") == wanted
            colors.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert colors[0] == colors[2] != colors[1]
        assert wrong == []


def test_the_chosen_colours_stay_and_reach_the_pictures(chromium, url):
    with opened(chromium) as (page, _):
        show(page, url, "places")
        before = page.locator("#map .xtitle").evaluate("text => getComputedStyle(text).fill")
        page.keyboard.press("t")
        page.keyboard.press("t")
        page.reload()
        wait_for_pictures(page)
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.locator("#map .xtitle").evaluate("text => getComputedStyle(text).fill") != before


def test_figures_are_there_before_plotly(chromium, url):
    """The first view's numbers come with the page: they are shown while the bundle is still on its way."""
    with opened(chromium) as (page, _):
        page.route("**/plotly-*.js", lambda route: None)  # never answered
        page.goto(url, wait_until="commit")
        page.wait_for_selector("text=Error, last complete hour")
        assert re.search(r"Error, last complete hour\s+\d+ s", page.inner_text("main"))


@pytest.mark.parametrize("changes", [{"store": "/nowhere/none.sqlite"}, {"log": "postgresql://127.0.0.1:1/x"}], ids=str)
def test_what_is_not_there_is_said_and_breaks_nothing(chromium, city, changes):
    app = make_app(Watched(page_settings(city, **changes), lambda: city.now_s), None)
    with served(app) as url, opened(chromium) as (page, wrong):
        for view in VIEWS:
            show(page, url, view)
            words = page.get_by_role("alert").all_inner_texts()
            if "store" in changes and view != "request":
                assert "Nothing has been read yet" in words[0]
            elif "log" in changes and view in ("health", "request"):
                assert "cannot be read" in words[0]
            keep_picture(page, f"{view}_without_{next(iter(changes))}")
        # Chromium itself says on the console that an answer had status 503
        assert [one for one in wrong if "503" not in one] == []


def test_faults_are_said_in_plain_words(chromium, city, tmp_path):
    """An end that is no number, a clock that has jumped a day, and a monitor that has stopped reading since."""
    log, now_s = tmp_path / "log.sqlite", city.now_s
    log.write_bytes(city.log.read_bytes())
    with closing(LogFile(log, 1.0).connection()) as connection:
        connection.execute(INSERT_ACTUAL, ("r260405-0000017", "soon", None, int(now_s * 1e6)))
        row = (int(now_s * 1e6), int(now_s) + 86_400, "2", "triton", 60.0, 90.0, 120.0, 0.001, None)
        connection.executemany(INSERT["predictions"], [(f"jumped-{i}", *row) for i in range(37)])
    settings = page_settings(city, log=log, store=tmp_path / "store.sqlite")
    Reading(settings, lambda: now_s).once()
    with served(make_app(Watched(settings, lambda: now_s + 240), None)) as url, opened(chromium) as (page, wrong):
        show(page, url, "health")
        stale, malformed = page.get_by_role("alert").all_inner_texts()
        assert stale.startswith("Nothing was read since 2026-04-08 00:00:15")
        assert malformed.startswith("Of the ends that were reported 1 is no time a ride can take")
        keep_picture(page, "health_faults")
        show(page, url, "now")
        stale, ahead = page.get_by_role("alert").all_inner_texts()
        assert "37 requests carry times ahead of this clock, up to 2026-04-09 00:00" in ahead
        keep_picture(page, "now_faults")
        assert wrong == []


def test_before_anything_has_arrived_every_view_can_be_opened(chromium, tmp_path):
    city = make_city(tmp_path, n=300, days=1)
    with closing(sqlite3.connect(city.log)) as connection:
        connection.execute("DELETE FROM actuals")
        connection.commit()
    city.read()
    app = make_app(Watched(page_settings(city), lambda: city.now_s), None)
    with served(app) as url, opened(chromium) as (page, wrong):
        for view in VIEWS:
            show(page, url, view)
            assert "NaN" not in page.inner_text("main")
            assert "undefined" not in page.inner_text("main")
            if view in ("accuracy", "places", "intervals"):
                assert "No trip of these days has come true yet" in page.get_by_role("alert").inner_text()
            keep_picture(page, f"{view}_before_arrivals")
        assert wrong == []


def test_a_monitor_that_ended_is_said(chromium, city):
    with opened(chromium) as (page, _):
        with served(make_app(Watched(page_settings(city), lambda: city.now_s), None)) as url:
            show(page, url, "now")
        page.keyboard.press("3")
        page.wait_for_selector("text=The monitor does not answer")


def test_the_token_is_asked_for_once(chromium, city):
    token = "a-token-of-the-tests-0123456789"
    with (
        served(make_app(Watched(page_settings(city), lambda: city.now_s), token)) as url,
        opened(chromium) as (page, _),
    ):
        page.goto(url)
        keep_picture(page, "token")
        page.fill("input[name=token]", token)
        page.keyboard.press("Enter")
        page.wait_for_selector("main[data-view='now']")
        wait_for_pictures(page)
        show(page, url, "drift")
