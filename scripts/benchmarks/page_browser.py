"""How long a real Chromium takes to show the monitor's page: when its figures are there, and when its pictures are.

Each opening is a browser context of its own, so nothing is cached: that is a first visit.
"""

import os
import shutil
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hailtime.errors import HailtimeError
from hailtime.monitoring.page.app import make_app
from hailtime.monitoring.page.watched import Watched

OPENINGS = 7
# Milliseconds since the page was asked for, taken in the page itself: the first figure; the frame that has all pictures
WATCH = """
window.seen = {};
new MutationObserver(() => {
  if (!seen.figures && document.querySelector(".tile .figure")) seen.figures = performance.now();
  const plots = [...document.querySelectorAll(".plot")];
  if (seen.drawn || !plots.length || plots.some((plot) => !plot.dataset.drawn)) return;
  seen.drawn = true;
  requestAnimationFrame(() => setTimeout(() => {
    seen.pictures = performance.now();
    document.documentElement.dataset.complete = "yes";
  }));
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-drawn"] });
"""


def openings(watched: Watched, views: list[str]) -> dict[str, dict[str, float]]:
    """View → median seconds until its first figures, and until all of its pictures, are on the screen."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise HailtimeError("opening the page needs a Chromium (Debian: apt install chromium), or --no-browser")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none; it only opens our own page
    with _served(watched) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        found: dict[str, list[dict[str, float]]] = {view: [] for view in views}
        for _ in range(OPENINGS):  # in turn, so that other work on the machine meets all alike
            for view in views:
                found[view].append(_open(browser, f"{url}/#{view}"))
        browser.close()
    return {view: {name: _median(some, name) for name in ("figures", "pictures")} for view, some in found.items()}


def _open(browser: Any, url: str) -> dict[str, float]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(url)
    page.wait_for_selector("html[data-complete]")
    seen = page.evaluate("seen")
    context.close()
    return {name: seen[name] / 1000 for name in ("figures", "pictures") if name in seen}


def _median(openings: list[dict[str, float]], name: str) -> float:
    return statistics.median(one.get(name, one["pictures"]) for one in openings)


@contextmanager
def _served(watched: Watched) -> Iterator[str]:
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(watched, None), log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listening.close()
