"""Rivermouth, a city that never was: trips whose best possible prediction is known.

A pickup time is `true_median_s` times noise whose median is exactly 1, and the median is a function of what a model
can see: the columns of the request, the local clock and the conditions. So the best possible mean absolute error is
the mean of |pickup_time_s - true_median_s| over clean rows. One thing keeps a model from it: the city follows its
conditions as they are at the moment of the request, the model has the latest ones known (measured: 0.7 % more error).

Its distributions are set by New York's high-volume trips of July 2026 (wait P50 4.42, P90 9.98, P99 18.63 minutes).
"""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from hailtime.errors import ConfigError
from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources import RawData, city_map
from hailtime.sources.city_conditions import CityState, draw_state, known_conditions, make_clock, zone_names
from hailtime.sources.city_dirt import MAX_DIRT, add_dirt
from hailtime.sources.city_map import TIMEZONE, Floats, Ints, zones
from hailtime.sources.city_times import draw_noise, draw_routing_eta_s, drive_s, median_s
from hailtime.sources.city_trips import APPS, PLACES, PRODUCTS, Requests, draw_requests, draw_times

__all__ = ["load", "zones"]

WAIT_S = (20.0, 7000.0)  # nobody waits longer or is there sooner: 1 of 1,000,000 would; no median is near either end
BLOCK = 250_000  # requests made at a time, so that what is needed beside the result does not grow with it


def load(
    n_requests: int = 300_000,
    start: str | date = "2026-01-12",
    days: int = 84,
    seed: int = 7,
    dirt: float = 1.0,
    closure_at: str | date | None = None,
) -> RawData:
    """`n_requests` trips in `days` days from local midnight of `start`, and the conditions around them.

    `dirt` multiplies the usual rates of faults (0: spotless). From `closure_at` on (local midnight, or a time of day)
    a large part of the highway is closed; nothing else changes, so two loads differ by the closure alone.
    """
    _check(n_requests, days, dirt)
    first_day = _local_time("start", start).replace(hour=0, minute=0, second=0, microsecond=0)
    start_s, end_s = int(first_day.timestamp()), int((first_day + timedelta(days=days)).timestamp())
    closure_s = None if closure_at is None else int(_local_time("closure_at", closure_at).timestamp())
    rng_city, rng_feeds, rng_trips, rng_dirt = np.random.default_rng(seed).spawn(4)
    state = draw_state(rng_city, make_clock(start_s, end_s), closure_s)
    times = draw_times(rng_trips, state, start_s, end_s, n_requests)
    blocks = []
    for at in range(0, n_requests, BLOCK):
        numbers = np.arange(at, min(at + BLOCK, n_requests)) + 1
        trips = _draw_trips(rng_trips, state, times[at : at + BLOCK], closure_s)
        trips.insert_column(0, _request_ids(first_day, numbers))
        blocks.append(add_dirt(rng_dirt, trips, dirt))
    return RawData(pl.concat(blocks, rechunk=True), known_conditions(rng_feeds, state))


def _check(n_requests: int, days: int, dirt: float) -> None:
    if n_requests < 1:
        raise ConfigError(f"n_requests must be 1 or more, got {n_requests}")
    if days < 1:
        raise ConfigError(f"days must be 1 or more, got {days}")
    if not 0 <= dirt <= MAX_DIRT:
        raise ConfigError(f"dirt must be 0 (spotless) to {MAX_DIRT:g} times the usual faults, got {dirt}")


def _local_time(name: str, when: str | date) -> datetime:
    """A date or time on the city's clock."""
    try:
        time = datetime.fromisoformat(str(when))
    except ValueError as error:
        raise ConfigError(f"{name} must be a date such as 2026-03-02, got {when!r}") from error
    zone = ZoneInfo(TIMEZONE)
    return time.astimezone(zone) if time.tzinfo else time.replace(tzinfo=zone)


def _request_ids(first_day: datetime, numbers: Ints) -> pl.Series:
    """`r260112-0000001`: the first day is in it, so that loads of different months do not share ids."""
    prefix = f"r{first_day:%y%m%d}-"
    return (prefix + pl.Series("request_id", numbers).cast(pl.String).str.zfill(7)).alias("request_id")


def _draw_trips(rng: np.random.Generator, state: CityState, utc_s: Floats, closure_s: int | None) -> pl.DataFrame:
    """Spotless trips for requests at these seconds."""
    seen = draw_requests(rng, state, utc_s)
    now = state.at(seen.utc_s, seen.zone)
    is_closed = np.zeros(len(utc_s)) if closure_s is None else (utc_s >= closure_s).astype(np.float64)
    driving_s = drive_s(seen, now, is_closed)
    true_median_s = median_s(seen, now, driving_s)
    pickup_time_s = np.clip(true_median_s * draw_noise(rng, seen, now), *WAIT_S)
    requested_at = (utc_s * MICROSECONDS_PER_SECOND).astype(np.int64)
    arrived_at = requested_at + np.round(pickup_time_s).astype(np.int64) * MICROSECONDS_PER_SECOND
    routing_eta_s = draw_routing_eta_s(rng, seen, driving_s)
    return _columns(seen).with_columns(
        requested_at=requested_at, arrived_at=arrived_at, routing_eta_s=routing_eta_s, true_median_s=true_median_s
    )


def _columns(seen: Requests) -> pl.DataFrame:
    """What is seen of the requests, as the schema names it."""
    pickup_lat, pickup_lon = city_map.to_degrees(seen.pickup)
    driver_lat, driver_lon = city_map.to_degrees(seen.driver)
    return pl.DataFrame(
        {
            "requested_at": np.zeros(len(seen.utc_s), dtype=np.int64),
            "pickup_lat": pickup_lat.round(5),
            "pickup_lon": pickup_lon.round(5),
            "driver_lat": driver_lat.round(5),
            "driver_lon": driver_lon.round(5),
            "driver_speed_mps": seen.driver_speed_mps,
            "driver_heading_deg": seen.driver_heading_deg,
            "driver_busy_s": seen.driver_busy_s,
            "idle_drivers": seen.idle_drivers,
            "open_requests": seen.open_requests,
            "pickup_zone": zone_names(seen.zone),
            "pickup_area": pl.Series(list(city_map.GROUPS)).gather(city_map.ZONE_GROUP[seen.zone]),
            "product": pl.Series(list(PRODUCTS)).gather(seen.product),
            "pickup_place": pl.Series(list(PLACES)).gather(seen.place),
            "app": pl.Series(list(APPS)).gather(seen.app),
        }
    )
