"""What can happen to Rivermouth beyond its usual days: `scenarios: [{kind: snow_day, from: 2026-02-10}, ...]`.

Each kind is a class that says what it touches; everything else stays the same to the last bit, because no chance of
the usual city is drawn after a scenario has been looked at. Scenarios meet in any order and number.

What a feed tells of one (slow traffic, a report of rain) a model can see. What it does not (riders in a crowd, drivers
who hesitate to accept) is in `true_median_s` alone, and the model is wrong until it is trained anew.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.errors import ConfigError, did_you_mean
from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources import city_map
from hailtime.sources.city_map import Floats, Places
from hailtime.sources.city_scenario import Influence, Scenario
from hailtime.sources.city_state import CityState, Clock


class Closure(Scenario):
    """A large part of the highway is closed: those who would drive on it use the streets beside it."""

    kind = "closure"

    def change(self, state: CityState) -> CityState:
        crowding = np.outer(self.covers(state.clock), city_map.closure_crowding(city_map.zone_centres()))
        return replace(state, speed_ratio=np.maximum(state.speed_ratio * (1 - 0.22 * crowding), 0.2))

    def influence(self, on: Influence, utc_s: Floats, pickup: Places) -> None:
        on.is_closed = np.maximum(on.is_closed, self.is_on(utc_s))

    def tell(self, conditions: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """A row for every kilometre closed, five minutes after the first cone; one more when it opens again."""
        km = np.arange(city_map.CLOSED_FROM_KM, city_map.CLOSED_TO_KM + 0.5)
        lat, lon = city_map.to_degrees(city_map.highway_place(km))
        ids = [f"{self.name}-km{k:02.0f}" for k in km]
        rows = pl.DataFrame({"event_id": ids, "lat": lat, "lon": lon}).with_columns(
            _at(self.from_s, "observed_at"), pl.lit(None, pl.Int64).alias("ends_at"), _at(self.from_s + 300, "known_at")
        )
        if math.isfinite(self.to_s):
            rows = rows.vstack(rows.with_columns(_at(self.to_s, "ends_at"), _at(self.to_s + 300, "known_at")))
        return conditions | {"road_closures": _in_order(conditions["road_closures"], rows)}


class SnowDay(Scenario):
    """Slow roads, a fifth more riders, fewer drivers who hesitate, and feeds that come late."""

    kind, lasts_h = "snow_day", 24.0

    def change(self, state: CityState) -> CityState:
        is_on = self.covers(state.clock) > 0
        return replace(
            state,
            rain_mm_h=np.where(is_on, np.maximum(state.rain_mm_h, 1.5), state.rain_mm_h),  # as melted
            temperature_c=np.where(is_on, np.minimum(state.temperature_c, -4.0), state.temperature_c),
            speed_ratio=np.where(is_on[:, None], np.maximum(state.speed_ratio * 0.65, 0.2), state.speed_ratio),
        )

    def influence(self, on: Influence, utc_s: Floats, pickup: Places) -> None:
        is_on = self.is_on(utc_s)
        on.supply = on.supply * np.where(is_on, 0.7, 1)
        on.waiting = on.waiting * np.where(is_on, 1.5, 1)
        on.accept = on.accept * np.where(is_on, 2.0, 1)

    def more_requests(self, clock: Clock) -> Floats:
        return np.where(self.is_on(clock.utc_s), 0.2, 0.0)

    def feed_delay(self, observed_s: Floats) -> Floats:
        return np.where(self.is_on(observed_s), 6.0, 1.0)


class StadiumNight(Scenario):
    """A match ends: a third more requests than the city's usual, all around the Stadium, in a jam and a crowd."""

    kind, lasts_h = "stadium_night", 3.0
    place = complex(city_map.zone_centres()[city_map.ZONE_NAMES.index("Stadium")])

    def _near(self, places: Places) -> Floats:
        """1 at the Stadium, e^-1 two kilometres from it."""
        return np.asarray(np.exp(-((np.abs(places - self.place) / 2.0) ** 2)))

    def change(self, state: CityState) -> CityState:
        jam = np.outer(self.covers(state.clock), self._near(city_map.zone_centres()))
        return replace(state, speed_ratio=np.maximum(state.speed_ratio * (1 - 0.45 * jam), 0.2))

    def influence(self, on: Influence, utc_s: Floats, pickup: Places) -> None:
        crowd = np.where(self.is_on(utc_s), self._near(pickup), 0.0)
        on.supply = on.supply * (1 - 0.5 * crowd)
        on.waiting = on.waiting * (1 + 5 * crowd)
        on.find_s = on.find_s + 60 * crowd

    def more_requests(self, clock: Clock) -> Floats:
        return np.where(self.is_on(clock.utc_s), 0.33, 0.0)

    def more_pickups(self, rng: np.random.Generator, n: int) -> Places:
        return _around(rng, self.place, 0.5, n)


class GpsOutage(Scenario):
    """Half of the drivers send no position; the others' stays where they were when it began. Waits are as usual."""

    kind, lasts_h = "gps_outage", 4.0

    def show(self, rng: np.random.Generator, trips: pl.DataFrame) -> pl.DataFrame:
        n = len(trips)
        requested_s = trips["requested_at"].to_numpy() / MICROSECONDS_PER_SECOND
        is_on, is_silent = self.is_on(requested_s), rng.random(n) < 0.5
        # a driver who roams is 0.15 km * sqrt(minutes) away: 1.2 km in an hour (a guess)
        moved_km = 0.15 * np.sqrt(np.maximum(0, requested_s - self.from_s) / 60) * is_on
        north_km, east_km = moved_km * rng.standard_normal((2, n))
        seen = trips.with_columns(
            driver_lat=(trips["driver_lat"] + north_km / city_map.KM_PER_DEG_LAT).round(5),
            driver_lon=(trips["driver_lon"] + east_km / city_map.KM_PER_DEG_LON).round(5),
        )
        known = pl.Series(~(is_on & is_silent))
        names = ("driver_lat", "driver_lon", "driver_speed_mps", "driver_heading_deg")
        return seen.with_columns(pl.when(known).then(pl.col(name)) for name in names)


class NewZone(Scenario):
    """A district is built: its zone has a name nobody has seen, riders of its own and doors that are hard to find."""

    kind = "new_zone"
    zone_name, radius_km = "Mill Pond", 1.3
    place = complex(city_map.zone_centres()[city_map.ZONE_NAMES.index("Quarry Hill")])

    def influence(self, on: Influence, utc_s: Floats, pickup: Places) -> None:
        on.find_s = on.find_s + np.where(self.is_on(utc_s) & self._is_inside(pickup), 45.0, 0.0)

    def _is_inside(self, places: Places) -> NDArray[np.bool_]:
        return np.asarray(np.abs(places - self.place) < self.radius_km)

    def more_requests(self, clock: Clock) -> Floats:
        return np.where(self.is_on(clock.utc_s), 0.03, 0.0)

    def more_pickups(self, rng: np.random.Generator, n: int) -> Places:
        return _around(rng, self.place, 0.4, n)

    def show(self, rng: np.random.Generator, trips: pl.DataFrame) -> pl.DataFrame:
        requested_s = trips["requested_at"].to_numpy() / MICROSECONDS_PER_SECOND
        pickup = city_map.to_places(trips["pickup_lat"].to_numpy(), trips["pickup_lon"].to_numpy())
        is_new = pl.Series(self.is_on(requested_s) & self._is_inside(pickup))
        return trips.with_columns(pickup_zone=pl.when(is_new).then(pl.lit(self.zone_name)).otherwise("pickup_zone"))

    def tell(self, conditions: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """Feeds by zone tell of the new one what they tell of the zone it lies in."""
        around = city_map.ZONE_NAMES[int(city_map.zone_at(np.array([self.place])).item())]
        from_us, to_us = self.from_s * MICROSECONDS_PER_SECOND, self.to_s * MICROSECONDS_PER_SECOND
        is_told = (pl.col("pickup_zone") == around) & (pl.col("observed_at") >= from_us)
        is_told &= pl.col("observed_at") < to_us
        named = pl.lit(self.zone_name).alias("pickup_zone")
        by_zone = {name: rows for name, rows in conditions.items() if "pickup_zone" in rows.columns}
        return conditions | {
            n: _in_order(rows, rows.filter(is_told).with_columns(named)) for n, rows in by_zone.items()
        }


class AppRelease(Scenario):
    """A release of the app calls itself by another name: `ios` becomes `iOS 19`. Nothing else changes."""

    kind = "app_release"

    def show(self, rng: np.random.Generator, trips: pl.DataFrame) -> pl.DataFrame:
        requested_s = trips["requested_at"].to_numpy() / MICROSECONDS_PER_SECOND
        is_renamed = pl.Series(self.is_on(requested_s)) & (trips["app"] == "ios")
        return trips.with_columns(app=pl.when(is_renamed).then(pl.lit("iOS 19")).otherwise("app"))


KINDS: dict[str, type[Scenario]] = {
    scenario.kind: scenario for scenario in (Closure, SnowDay, StadiumNight, GpsOutage, NewZone, AppRelease)
}


def read_scenario(settings: Mapping[str, Any]) -> Scenario:
    """One entry of `scenarios`."""
    for name in settings:
        if name not in ("kind", "from", "to"):
            raise ConfigError(f"a scenario has no setting {name!r}{did_you_mean(name, ('kind', 'from', 'to'))}")
    kind, began = settings.get("kind"), settings.get("from")
    if kind not in KINDS:
        raise ConfigError(f"a scenario is one of {', '.join(KINDS)}, got {kind!r}{did_you_mean(str(kind), KINDS)}")
    if began is None:
        raise ConfigError(f"{kind} must say from when, a local date or time such as 2026-03-02, got {dict(settings)}")
    from_s, end = local_time(f"{kind}: from", began).timestamp(), settings.get("to")
    to_s = None if end is None else local_time(f"{kind}: to", end).timestamp()
    if to_s is not None and to_s <= from_s:
        raise ConfigError(f"{kind}: to must be later than from, got {began} to {end}")
    return KINDS[kind].beginning(from_s, to_s)


def local_time(name: str, when: str | date) -> datetime:
    """A date or time on the city's clock."""
    try:
        time = datetime.fromisoformat(str(when))
    except ValueError as error:
        raise ConfigError(f"{name} must be a date such as 2026-03-02, got {when!r}") from error
    zone = ZoneInfo(city_map.TIMEZONE)
    return time.astimezone(zone) if time.tzinfo else time.replace(tzinfo=zone)


def _at(second: float, name: str) -> pl.Expr:
    return pl.lit(int(second * MICROSECONDS_PER_SECOND), pl.Int64).alias(name)


def _in_order(rows: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows, more]).sort("known_at", maintain_order=True)


def _around(rng: np.random.Generator, place: complex, spread_km: float, n: int) -> Places:
    return np.asarray(place + spread_km * (rng.standard_normal(n) + 1j * rng.standard_normal(n)))
