"""The page over HTTP: one HTML file, its scripts, and the views as JSON. It only reads.

uvicorn.run(make_app(Watched(settings), token=None), host="127.0.0.1", port=8050)
"""

import gzip
import json
import math
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.middleware.gzip import GZipMiddleware

from hailtime.errors import HailtimeError
from hailtime.monitoring.exposition import exposition
from hailtime.monitoring.page import state
from hailtime.monitoring.page.access import guard
from hailtime.monitoring.page.errors import accuracy, intervals, places
from hailtime.monitoring.page.inputs import drift
from hailtime.monitoring.page.now import now
from hailtime.monitoring.page.watched import DAILY_FROM, FILES, Watched

Days = Annotated[float, Query(gt=0, le=3660)]
View = Callable[[Watched, float], dict[str, Any]]
VIEWS: dict[str, View] = {
    "accuracy": accuracy,
    "places": places,
    "intervals": intervals,
    "drift": drift,
    "releases": state.releases,
    "health": state.health,
}
# Plotly's own bundle of the charts that have axes: a third of the whole one, which a browser needs a second to read
PLOTLY = "plotly-cartesian-4.1.1.min.js"  # of npm's plotly.js-cartesian-dist-min
_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def make_app(watched: Watched, token: str | None) -> FastAPI:
    """The page of what is watched; `token` as in `access.guard`."""
    app = FastAPI(title="Hailtime monitor", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, minimum_size=2000, compresslevel=5)
    guard(app, token)

    @app.exception_handler(HailtimeError)
    def say(request: Request, error: HailtimeError) -> Response:
        return JSONResponse({"error": str(error)}, status_code=503)

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return (FILES / "index.html").read_text().replace("{first}", _first(watched)).replace("{plotly}", PLOTLY)

    @app.get("/api/now")
    def of_now() -> dict[str, Any]:
        return now(watched)

    @app.get("/api/request")
    def of_request(id: Annotated[str, Query(min_length=1, max_length=200)]) -> dict[str, Any]:
        return state.request(watched, id.strip())

    @app.get("/api/farthest")
    def of_farthest() -> dict[str, Any]:
        return state.farthest(watched)

    @app.get("/metrics")
    def metrics() -> Response:
        try:
            text = exposition(watched.store(), watched.now_s(), watched.settings.label_delay_s)
        except ImportError as error:
            return Response(str(error), status_code=501, media_type="text/plain")
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    for name, view in VIEWS.items():
        app.get(f"/api/{name}", name=name)(_endpoint(view, watched))

    @app.get("/files/{name}")
    def file(name: str) -> Response:
        known = {path.name: path for path in FILES.iterdir()}
        if name == PLOTLY:
            return Response(plotly_js(), media_type="text/javascript", headers=_PLOTLY_HEADERS)
        if name not in known or known[name].suffix not in _KINDS:
            return Response("no such file", status_code=404)
        kind = _KINDS[known[name].suffix]
        return Response(known[name].read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})

    return app


_PLOTLY_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",  # its name holds its version
    "Content-Encoding": "gzip",
    "Vary": "Accept-Encoding",
}


@lru_cache(maxsize=1)
def plotly_js() -> bytes:
    """Compressed: 0.5 MB instead of 1.5."""
    return gzip.compress((FILES / PLOTLY).read_bytes(), 6, mtime=0)


def _endpoint(view: View, watched: Watched) -> Callable[..., dict[str, Any]]:
    """A picture of 90 days may be 90 seconds old: it takes half a second to make, for each who looks."""
    kept: dict[float, tuple[float, dict[str, Any]]] = {}
    making = threading.Lock()

    def answer(days: Days = 7) -> dict[str, Any]:
        if days < DAILY_FROM:
            return view(watched, days)
        with making:
            at_s, told = kept.get(days, (-math.inf, {}))
            if time.monotonic() - at_s > days:
                kept.clear()
                kept[days] = (time.monotonic(), told := view(watched, days))
            return told

    return answer


def _first(watched: Watched) -> str:
    """The first view's figures, in the page itself: they are there before any script has run."""
    try:
        told = now(watched)
    except HailtimeError as error:
        told = {"error": str(error)}
    return json.dumps(told).replace("<", "\\u003c")
