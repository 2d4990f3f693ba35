"""The rider's and the drivers' page in a real Chromium, over a real Triton, with the city playing against the backend.

The pictures are kept where HAILTIME_SCREENSHOTS says, to be looked at.
"""

import os
import time

import pytest

from hailtime import clock
from hailtime.client import AsyncEtaClient, PredictionLog
from hailtime.example.backend import Backend, make_app
from hailtime.example.condition_tables import ConditionTables
from hailtime.example.player import Player, write_history
from hailtime.example.world import Playing
from hailtime.serving.deploy import deploy
from hailtime.serving.triton import TritonServer
from hailtime.serving.triton_install import default_home, find_or_install, is_installed
from tests.browser.conftest import served
from tests.browser.test_page import LOOKS, keep_picture, opened

pytestmark = [pytest.mark.browser, pytest.mark.triton]
PAGES = {"rider": "/", "driver": "/driver"}
CLOSED_AFTER_S = 1200  # of the city, so that there are arrivals of before and after


@pytest.fixture(scope="module")
def triton(small_run, tmp_path_factory):
    if not (os.environ.get("HAILTIME_REQUIRE_TRITON") == "1" or is_installed(default_home())):
        pytest.skip("there is no Triton here: make triton")
    models = tmp_path_factory.mktemp("example") / "models"
    with TritonServer(models, grpc_port=0, metrics_port=0, installation=find_or_install()) as server:
        deploy(small_run.folder, models, server.url)
        yield server


@pytest.fixture(scope="module")
def city(triton, small_run, tmp_path_factory):
    """The address of the backend, while Rivermouth asks some 100 times a real second, 120 times as fast."""
    folder, playing = tmp_path_factory.mktemp("city"), Playing(speed=120, requests_a_day=70_000)
    os.environ[clock.VARIABLE] = str(clock.Played(playing.begins_s, playing.speed, time.time()))
    tables, live = ConditionTables(f"sqlite:///{folder / 'conditions.sqlite'}"), playing.city()
    live.switch_on("closure", playing.begins_s + CLOSED_AFTER_S)
    write_history(live, tables, playing.begins_s)
    backend = Backend(
        lambda log: AsyncEtaClient(triton.url, 5.0, batch_wait_s=0.005, log=log),
        PredictionLog(folder / "log.sqlite", "all"),
        small_run.folder,
        tables,
        "http://127.0.0.1:1/",
    )
    with served(make_app(backend)) as url, Player(live, url, tables, playing.begins_s) as player:
        while player.now_s < playing.begins_s + CLOSED_AFTER_S + 900:
            time.sleep(0.2)
        yield url
        assert player.n_failed == 0
    os.environ.pop(clock.VARIABLE)


def show(page, city, name):
    page.goto(city + PAGES[name])
    page.wait_for_selector("body[data-ready]")


def ask(page):
    """Asks for a car and waits for the answer."""
    page.get_by_role("button", name="Ask for a car").click()
    page.wait_for_selector("#answer .about")


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_each_page_renders_without_a_word_on_the_console(chromium, city, name, look):
    with opened(chromium, **LOOKS[look]) as (page, wrong):
        show(page, city, name)
        page.wait_for_selector("#map .closed")
        if name == "rider":
            ask(page)
        page.wait_for_timeout(700)
        keep_picture(page, f"example-{name}-{look}")
        assert page.evaluate("document.documentElement.scrollWidth") <= LOOKS[look]["viewport"]["width"]
        assert page.get_by_role("alert").count() == 0
    assert wrong == []


def test_a_click_on_the_map_moves_the_pin_and_the_answer_is_for_there(chromium, city):
    with opened(chromium) as (page, wrong):
        show(page, city, "rider")
        box = page.locator("#map").bounding_box()
        page.mouse.click(box["x"] + box["width"] * 0.79, box["y"] + box["height"] * 0.71)
        assert "Airport" in page.locator("#where").inner_text()
        page.get_by_role("radio", name="XL").check()
        ask(page)
        assert page.locator("#answer .about").inner_text().startswith("about ")
        assert "8 in 10 times between" in page.locator("#answer .between").inner_text()
        assert "version 1 of the model, on Triton" in page.locator("#answer .who").inner_text()
    assert wrong == []


def test_the_keyboard_alone_asks_and_the_driver_comes(chromium, city):
    with opened(chromium) as (page, wrong):
        show(page, city, "rider")
        before = page.locator("#where").inner_text()
        page.locator("#map").focus()
        for _ in range(4):
            page.keyboard.press("Shift+ArrowDown")
        assert page.locator("#where").inner_text() != before
        page.keyboard.press("Enter")
        page.wait_for_selector("#answer .about")
        page.wait_for_selector("text=Your driver was there after", timeout=60_000)
        keep_picture(page, "example-rider-there")
    assert wrong == []


def test_who_gives_up_is_told_so_and_it_is_in_the_list(chromium, city):
    with opened(chromium) as (page, wrong):
        show(page, city, "rider")
        ask(page)
        page.get_by_role("button", name="Cancel the ride").click()
        page.wait_for_selector("text=You gave up after")
        ask(page)
        assert "cancelled" in page.locator("#rides").inner_text()
    assert wrong == []


def test_the_drivers_page_goes_on_and_stops_when_told(chromium, city):
    with opened(chromium) as (page, wrong):
        show(page, city, "driver")
        first = page.locator("#status").inner_text()
        page.wait_for_function("old => document.getElementById('status').textContent !== old", arg=first)
        assert page.locator("#scatter circle").count() > 50
        assert page.locator("#latest tbody tr").count() == 12
        page.keyboard.press("p")
        assert page.locator("#pause").get_attribute("aria-pressed") == "true"
        stopped = page.locator("#latest").inner_text()
        page.wait_for_timeout(1500)
        assert page.locator("#latest").inner_text() == stopped
    assert wrong == []


@pytest.mark.parametrize("name", PAGES)
def test_light_and_dark_by_key(chromium, city, name):
    with opened(chromium) as (page, _):
        show(page, city, name)
        page.keyboard.press("t")
        page.keyboard.press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
