"""The example backend: riders ask, the client answers, ends are told; and two pages to look at.

    app = make_app(Backend(make_client, log, run, tables))
    uvicorn.run(app)  # or: python scripts/example.py

What a backend of one's own copies is `Backend.ask`: the request with its conditions, through the client, into the log.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.middleware.gzip import GZipMiddleware

from hailtime import clock
from hailtime.client import AsyncEtaClient, PredictionLog
from hailtime.conditions import Conditions
from hailtime.errors import HailtimeError, LogError
from hailtime.example.condition_tables import ConditionTables
from hailtime.example.drawn_map import drawn_map
from hailtime.example.rides import Ride, Rides
from hailtime.monitoring.page.access import guard

log = logging.getLogger(__name__)

OWN, MONITORS = files("hailtime.example") / "page", files("hailtime.monitoring") / "page" / "files"
SHARED = ("page.css", "parts.js", "icon.svg")  # the monitor's: one look for all pages
ANSWERED = ("answered by triton", "answered by local", "answered by rule", "not answered")
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Hail(BaseModel):
    """Somebody who wants a car, on the rider's page."""

    lat: float = Field(ge=43.40, le=43.80)
    lon: float = Field(ge=-71.20, le=-70.65)
    product: Literal["standard", "xl", "accessible", "shared"]


class End(BaseModel):
    """How a ride ended: seconds from the request until the driver was there, or until the rider gave up."""

    request_id: str = Field(min_length=1, max_length=200)
    after_s: float = Field(ge=0, le=86_400)


class Backend:
    """What answers.

    - make_client: called within the event loop, to which the client then belongs
    - run: a run or prepared folder, for which conditions to join
    """

    def __init__(
        self,
        make_client: Callable[[PredictionLog], AsyncEtaClient],
        log: PredictionLog,
        run: Path,
        tables: ConditionTables,
        monitor_url: str | None = None,
    ) -> None:
        self._make_client, self.log, self.tables, self.monitor_url = make_client, log, tables, monitor_url
        self.rides, self._asked_s = Rides(), 0.0
        # as often in the city's time as a quarter of a minute is in ours
        refresh_s = max(15 / clock.speed(), 0.5)
        self.conditions = Conditions.of_folder(run, tables.read, refresh_s=refresh_s, clock=self._now_s)
        self._hails: dict[str, Hail] = {}

    @asynccontextmanager
    async def open(self, app: FastAPI) -> AsyncIterator[None]:
        with self.log, self.conditions:
            async with self._make_client(self.log) as self.client:
                yield
        self.tables.close()

    def _now_s(self) -> float:
        """By the newest request: a city that is played on a busy machine may be behind its clock."""
        return self._asked_s or clock.now()

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One ride: what is known around it, the model's answer, and the ride is under way."""
        try:
            self._asked_s = max(self._asked_s, float(request["requested_at"]))
            said = await self.client.predict(self.conditions.add_to(request), str(request["request_id"]))
            self.rides.add(ride := Ride.of(request, said), ride_is_hailed(said.request_id))
        except (HailtimeError, KeyError, TypeError, ValueError) as error:
            log.warning("no answer: %s: %s", type(error).__name__, error)
            return {"request_id": request.get("request_id"), "error": f"{type(error).__name__}: {error}"}
        return ride.told()

    def end(self, ends: Sequence[End], *, arrived: bool) -> int:
        """Tells the log, all at once, and then the pages. How many were under way. LogError: tell it again later."""
        known = [end for end in ends if end.request_id in self.rides.on_way]
        if arrived:
            self.log.report_actuals([(end.request_id, end.after_s) for end in known])
        else:
            for end in known:
                self.log.report_cancelled(end.request_id, end.after_s)
        return sum(self.rides.end(end.request_id, end.after_s, arrived) for end in known)

    def hail(self, hail: Hail) -> str:
        self._hails[request_id := f"hail-{uuid4().hex}"] = hail
        return request_id

    def take_hails(self) -> list[dict[str, Any]]:
        """Those nobody has taken yet: whoever asks here sends a driver."""
        taken, self._hails = self._hails, {}
        return [{"request_id": request_id, **hail.model_dump()} for request_id, hail in taken.items()]

    def roads(self) -> dict[str, Any]:
        """What time it is in the city, and which roads are closed."""
        now_s = clock.now()
        return {"now_s": now_s, "speed": clock.speed(), "closed": self.tables.closed_places(round(now_s * 1e6))}

    def city(self) -> dict[str, Any]:
        now_s = clock.now()
        self.rides.forget(now_s)
        counts = {name: self.client.counts[name] for name in ANSWERED}
        return {"counts": counts, **self.rides.told(now_s)}


def ride_is_hailed(request_id: str) -> bool:
    return request_id.startswith("hail-")


def make_app(backend: Backend) -> FastAPI:
    """For this machine alone: it asks nobody who he is."""
    app = FastAPI(title="Hailtime example", docs_url=None, redoc_url=None, openapi_url=None, lifespan=backend.open)
    app.add_middleware(GZipMiddleware, minimum_size=4000, compresslevel=1)
    guard(app, None)
    _add_pages(app, backend)

    @app.exception_handler(LogError)
    def again(request: Request, error: LogError) -> Response:
        return JSONResponse({"error": str(error)}, status_code=503, headers={"Retry-After": "1"})

    @app.post("/api/rides")
    async def rides(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*map(backend.ask, asked)))

    @app.post("/api/arrivals")
    async def arrivals(ends: list[End]) -> int:
        return backend.end(ends, arrived=True)

    @app.post("/api/cancellations")
    async def cancellations(ends: list[End]) -> int:
        return backend.end(ends, arrived=False)

    @app.post("/api/hails")
    async def hail(hail: Hail) -> dict[str, str]:
        return {"request_id": backend.hail(hail)}

    @app.get("/api/hails")
    async def hails() -> list[dict[str, Any]]:
        return backend.take_hails()

    @app.post("/api/hails/answered")
    async def answered(request_ids: list[str]) -> list[dict[str, Any] | None]:
        found = map(backend.rides.of_page, request_ids)
        return [ride.told() if ride else None for ride in found]

    @app.get("/api/roads")
    def roads() -> dict[str, Any]:
        return backend.roads()

    @app.get("/api/city")
    async def city() -> dict[str, Any]:
        return {**await run_in_threadpool(backend.roads), **backend.city()}

    return app


def _add_pages(app: FastAPI, backend: Backend) -> None:
    pages = {"/": "rider.html", "/driver": "driver.html"}

    def shower(name: str) -> Callable[[], str]:
        return lambda: (OWN / name).read_text().replace("{monitor}", backend.monitor_url or "")

    for path, name in pages.items():
        app.get(path, response_class=HTMLResponse, name=name)(shower(name))

    @app.get("/api/map")
    async def city_map() -> dict[str, Any]:
        return drawn_map()

    @app.get("/files/{name}")
    async def file(name: str) -> Response:
        known = {path.name: path for path in OWN.iterdir()} | {path: MONITORS / path for path in SHARED}
        kind = KINDS.get(f".{name.rpartition('.')[2]}")
        if name not in known or kind is None:
            return Response("no such file", status_code=404)
        return Response(known[name].read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})
