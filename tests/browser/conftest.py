"""A real Chromium without a window, and a page that is really served."""

import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from playwright.sync_api import sync_playwright

from hailtime.monitoring.page.app import make_app
from hailtime.monitoring.page.watched import Watched
from tests.monitored_city import make_city, page_settings


@pytest.fixture(scope="module")
def chromium():
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        assert os.environ.get("HAILTIME_REQUIRE_BROWSER") != "1", "HAILTIME_REQUIRE_BROWSER=1, and there is no chromium"
        pytest.skip("there is no Chromium here (Debian: apt install chromium)")
    # root, as in a container, has no sandbox; it only opens the page of this test
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    city = make_city(
        tmp_path_factory.mktemp("city"), n=7500, start="2026-04-05", days=3, closed_from="2026-04-07T12:00"
    )
    city.read()
    return city


@contextmanager
def served(app):
    """The address of an app that is served until the end."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


@pytest.fixture(scope="module")
def url(city):
    with served(make_app(Watched(page_settings(city), lambda: city.now_s), None)) as url:
        yield url
