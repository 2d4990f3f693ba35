"""The rides that are under way and those that ended: what the pages show. The prediction log has all of them."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hailtime.client import Prediction

LATEST, WINDOW_S = 60_000, 1800.0  # ends kept; the figures are of the last half hour
FORGET_S = 7200.0  # nobody waits longer: an end that was not told by then never is
SHOWN_ON_WAY, SHOWN_ARRIVED = 1500, 250


@dataclass
class Ride:
    """A car on its way. Times are UTC seconds."""

    request_id: str
    requested_s: float
    pickup: tuple[float, float]
    driver: tuple[float, float]
    zone: str
    product: str
    said: Prediction
    pickup_time_s: float | None = None
    ended_s: float | None = None

    @classmethod
    def of(cls, asked: Mapping[str, Any], said: Prediction) -> "Ride":
        pickup, driver = ((float(asked[f"{who}_lat"]), float(asked[f"{who}_lon"])) for who in ("pickup", "driver"))
        zone, product = str(asked["pickup_zone"]), str(asked["product"])
        return cls(str(asked["request_id"]), float(asked["requested_at"]), pickup, driver, zone, product, said)

    def told(self) -> dict[str, Any]:
        """As the rider's page reads it."""
        return {
            "request_id": self.request_id,
            "requested_s": self.requested_s,
            "driver": self.driver,
            "zone": self.zone,
            "p10_s": self.said.p10_s,
            "p50_s": self.said.p50_s,
            "p90_s": self.said.p90_s,
            "version": self.said.version,
            "path": self.said.path,
            "pickup_time_s": self.pickup_time_s,
            "cancelled_s": None if self.ended_s is None or self.pickup_time_s else self.ended_s - self.requested_s,
        }


class Rides:
    """Belongs to one thread or event loop."""

    def __init__(self) -> None:
        self.on_way: dict[str, Ride] = {}
        self._ended: deque[Ride] = deque(maxlen=LATEST)
        self._of_riders: dict[str, Ride] = {}  # those asked for on the rider's page are kept for it

    def add(self, ride: Ride, is_of_page: bool) -> None:
        self.on_way[ride.request_id] = ride
        if is_of_page:
            self._of_riders[ride.request_id] = ride

    def end(self, request_id: str, after_s: float, is_arrival: bool) -> bool:
        """The driver arrived or the rider gave up. False when it is not under way."""
        ride = self.on_way.pop(request_id, None)
        if ride is None:
            return False
        ride.ended_s, ride.pickup_time_s = ride.requested_s + after_s, after_s if is_arrival else None
        if is_arrival:
            self._ended.append(ride)
        return True

    def of_page(self, request_id: str) -> Ride | None:
        return self._of_riders.get(request_id)

    def forget(self, now_s: float) -> None:
        """Rides so old that their end will not be told any more."""
        for ride in [ride for ride in self.on_way.values() if ride.requested_s < now_s - FORGET_S]:
            del self.on_way[ride.request_id]

    def told(self, now_s: float) -> dict[str, Any]:
        """As the drivers' page reads it: the newest cars on their way, the latest arrivals, figures of both."""
        recent = [ride for ride in reversed(self._ended) if (ride.ended_s or 0) > now_s - WINDOW_S]
        on_way = list(self.on_way.values())[-SHOWN_ON_WAY:]
        return {
            "n_on_way": len(self.on_way),
            "on_way": [_car(ride) for ride in on_way],
            "arrived": [_arrival(ride) for ride in recent[:SHOWN_ARRIVED]],
            "figures": _figures(recent),
            "by_version": {v: _figures([r for r in recent if r.said.version == v]) for v in _versions(recent)},
        }


def _versions(rides: Iterable[Ride]) -> list[str]:
    return sorted({ride.said.version for ride in rides})


def _figures(arrived: list[Ride]) -> dict[str, float | int | None]:
    """Mean error and bias (below 0: drivers came later than was said), and the share later than P90."""
    n = len(arrived)
    if not n:
        return {"n": 0, "mae_s": None, "bias_s": None, "late": None}
    off_s = [ride.said.p50_s - (ride.pickup_time_s or 0.0) for ride in arrived]
    late = sum((ride.pickup_time_s or 0.0) > ride.said.p90_s for ride in arrived)
    return {"n": n, "mae_s": sum(map(abs, off_s)) / n, "bias_s": sum(off_s) / n, "late": late / n}


def _car(ride: Ride) -> list[Any]:
    """request_id, asked, pickup, driver, P50, P90, version; a list, because there are a thousand of them."""
    places = (round(degree, 5) for place in (ride.pickup, ride.driver) for degree in place)
    said = ride.said
    return [ride.request_id, ride.requested_s, *places, round(said.p50_s), round(said.p90_s), said.version]


def _arrival(ride: Ride) -> dict[str, Any]:
    """What was said against what happened."""
    said = {"p10_s": ride.said.p10_s, "p50_s": ride.said.p50_s, "p90_s": ride.said.p90_s, "version": ride.said.version}
    ended = {"request_id": ride.request_id, "zone": ride.zone, "product": ride.product, "ended_s": ride.ended_s}
    return {**ended, **said, "pickup_time_s": ride.pickup_time_s}
