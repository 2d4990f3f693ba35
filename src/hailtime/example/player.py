"""The city that plays against the backend: riders ask, drivers arrive, some give up, feeds write what they know.

    write_history(live, tables, since_s)  # live = LiveCity(make_city(...))
    with Player(live, "http://127.0.0.1:8000", tables, since_s) as player:  # plays from now on, by the clock
        player.live.switch_on("closure", clock.now())

It is the drivers' phones, the dispatch and the feeds in one, and the only one who knows the truth (`truth`).
"""

import http.client
import json
import logging
import threading
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from zlib import crc32

import polars as pl

from hailtime import clock
from hailtime.example.condition_tables import ConditionTables
from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources.city_live import LiveCity, Moment

log = logging.getLogger(__name__)

STEP_S = 1 / 6  # real seconds between two moments: ten seconds of a city that is played 60 times as fast
HISTORY_S = 24 * 3600  # of conditions, from before the first request
GIVES_UP = 40  # one rider of so many, who waits GIVES_UP_S or longer, cancels half way (a guess)
GIVES_UP_S = 120.0
DEADLINE_S = 30.0  # of one call of the backend, which has deadlines of its own

End = dict[str, Any]


class Player:
    """Plays in a thread of its own from the clock's now on until `close`.

    - since_s: up to when the feeds' rows are in the tables already
    - counts: requests by who answered: "triton", "local", "rule", or the error's name
    - truth: what came of every request that arrived
    """

    def __init__(self, live: LiveCity, backend_url: str, tables: ConditionTables, since_s: float) -> None:
        self.live, self._tables = live, tables
        self._backend = _Caller(backend_url)
        self.counts: Counter[str] = Counter()
        self.begins_s = self.now_s = clock.now()
        tables.write(live.conditions_known(since_s, self.now_s))
        self._truth: list[pl.DataFrame] = []
        self._hailed: list[End] = []
        self._untold: list[tuple[str, list[End]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="hailtime-city", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_S)
        self._backend.close()

    @property
    def is_playing(self) -> bool:
        return self._thread.is_alive()

    @property
    def n_failed(self) -> int:
        """Requests that were not answered by the served model."""
        return sum(self.counts.values()) - self.counts["triton"]

    def truth(self) -> pl.DataFrame:
        """request_id, pickup_time_s and true_median_s of all that arrived so far."""
        return pl.concat(self._truth).select("request_id", "pickup_time_s", "true_median_s")

    def _play(self) -> None:
        step_s = STEP_S * clock.speed()
        to_s = self.live.city.span_s[1] - step_s
        for moment in self.live.play(self.now_s, to_s, 1.0, step_s, now=clock.now, sleep=clock.sleep):
            if self._stop.is_set():
                return
            try:
                self._happen(moment)
            except Exception:  # the city goes on whatever one moment of it does; it is told, and counted where it asked
                log.exception("a moment of the city failed")
            self.now_s = moment.to_s

    def _happen(self, moment: Moment) -> None:
        self._tables.write({name: rows for name, rows in moment.conditions.items() if len(rows)})
        requested_at = (pl.col("requested_at") / MICROSECONDS_PER_SECOND).floor()
        asked = moment.requests.drop("routing_eta_s").with_columns(requested_at).to_dicts()
        self._ask([*asked, *self._hails(moment.to_s)])
        self._truth.append(moment.outcomes)
        self._tell(moment)

    def _ask(self, asked: list[dict[str, Any]]) -> None:
        if not asked:
            return
        try:
            answers = self._backend.post("/api/rides", asked)
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.warning("%d requests failed: %s", len(asked), error)
            self.counts[f"{type(error).__name__} of the backend"] += len(asked)
            return
        self.counts.update(answer.get("path") or answer["error"].split(":")[0] for answer in answers)

    def _hails(self, at_s: float) -> Iterable[dict[str, Any]]:
        """A driver for everybody on the rider's page; when he will be there is kept."""
        try:
            hails = self._backend.get("/api/hails")
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.warning("nobody could be asked who waits on the page: %s", error)
            return
        for hail in hails:
            request, arrival = self.live.hail(hail["request_id"], at_s, hail["lat"], hail["lon"], hail["product"])
            self._hailed.append({"at_s": at_s + arrival["pickup_time_s"], **_end(arrival)})
            yield {**{k: v for k, v in request.items() if k != "routing_eta_s"}, "requested_at": at_s}

    def _tell(self, moment: Moment) -> None:
        """What ended in this moment, and what the backend could not write before."""
        ended = [_end(arrival) for arrival in moment.outcomes.iter_rows(named=True)]
        due = [hail for hail in self._hailed if hail["at_s"] < moment.to_s]
        self._hailed = [hail for hail in self._hailed if hail["at_s"] >= moment.to_s]
        arrived = [end for end in ended if not gives_up(end)] + [{k: hail[k] for k in _END} for hail in due]
        # told when he would have come: giving up half way is then an end like any other, a few minutes late
        given_up = [{**end, "after_s": end["after_s"] / 2} for end in ended if gives_up(end)]
        self._untold += [("/api/arrivals", arrived), ("/api/cancellations", given_up)]
        while self._untold:
            path, ends = self._untold[0]
            try:
                if ends:
                    self._backend.post(path, ends)
            except (OSError, http.client.HTTPException, ValueError) as error:
                log.warning("%d ends are told later: %s", len(ends), error)
                return
            self._untold.pop(0)


def write_history(live: LiveCity, tables: ConditionTables, now_s: float) -> None:
    """What the feeds have told in the last day; a backend needs it before its first request."""
    tables.write(live.conditions_known(max(now_s - HISTORY_S, live.city.span_s[0]), now_s))


_END = ("request_id", "after_s")


def _end(arrival: dict[str, Any]) -> End:
    return {"request_id": arrival["request_id"], "after_s": arrival["pickup_time_s"]}


def gives_up(end: End) -> bool:
    """The same riders every time."""
    return bool(end["after_s"] >= GIVES_UP_S and crc32(end["request_id"].encode()) % GIVES_UP == 0)


class _Caller:
    """One connection to the backend, opened anew where it broke. Of one thread."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=DEADLINE_S)

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> Any:
        return self._call("GET", path, None)

    def post(self, path: str, content: Any) -> Any:
        return self._call("POST", path, json.dumps(content))

    def _call(self, method: str, path: str, body: str | None) -> Any:
        try:
            self._connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        if answer.status != 200:
            raise ValueError(f"{method} {path} was answered {answer.status}: {content[:300].decode(errors='replace')}")
        return json.loads(content)
