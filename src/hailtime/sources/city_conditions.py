"""What Rivermouth is like at every moment: weather, traffic and incidents, and what is known of them when.

`CityState` holds how it really is, which is what pickup times follow. `known_conditions` gives what feeds tell of it:
every row says when it was true (`observed_at`) and when it arrived (`known_at`, later). A few rows are corrected later,
a few arrive twice, as feeds do.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources import city_map
from hailtime.sources.city_map import Floats, Ints

STEP_S = 900
STEPS_PER_HOUR = 3600 // STEP_S
LEAD_S = 12 * 3600  # conditions begin this long before the first request, so that the first ones have a past
_KEY = 1 << 40  # (zone, second) as one sortable number: zone * _KEY + second


@dataclass(frozen=True)
class Clock:
    """The time axis, one entry a quarter of an hour: UTC seconds, local hour (0 to 24) and whether it is a weekend."""

    utc_s: Ints
    hour: Floats
    is_weekend: NDArray[np.bool_]


def make_clock(start_s: int, end_s: int) -> Clock:
    """From `LEAD_S` before the first request to two hours after the last; daylight saving is the zone's."""
    utc_s = np.arange(start_s - LEAD_S, end_s + 2 * 3600, STEP_S, dtype=np.int64)
    zone = ZoneInfo(city_map.TIMEZONE)
    hours = [datetime.fromtimestamp(second, UTC).astimezone(zone) for second in utc_s[::STEPS_PER_HOUR].tolist()]
    within = np.arange(len(utc_s)) % STEPS_PER_HOUR / STEPS_PER_HOUR
    hour = np.repeat([float(time.hour) for time in hours], STEPS_PER_HOUR)[: len(utc_s)] + within
    weekend = np.repeat([time.weekday() >= 5 for time in hours], STEPS_PER_HOUR)[: len(utc_s)]
    return Clock(utc_s, hour, weekend)


def rush(hour: Floats, at: float, width_h: float) -> Floats:
    """A smooth bump of the day: 1 at the hour `at`, e^-1 `width_h` before and after, round the clock."""
    away = (hour - at + 12) % 24 - 12
    return np.asarray(np.exp(-((away / width_h) ** 2)))


@dataclass(frozen=True)
class CityState:
    """How it really is. Arrays are by step of the clock, `speed_ratio` by step and zone.

    `incident_key` (zone and second, see `_KEY`) and `incident_count` list every change of a zone's active incidents,
    with a heartbeat every six hours.
    """

    clock: Clock
    rain_mm_h: Floats
    temperature_c: Floats
    speed_ratio: Floats
    incident_key: Ints
    incident_count: Ints

    def at(self, utc_s: Floats, zone: Ints) -> dict[str, Floats]:
        """The actual conditions at these moments in these zones, between two steps linearly."""
        position = (utc_s - self.clock.utc_s[0]) / STEP_S
        step = position.astype(np.int64)
        part = position - step
        n_zones = self.speed_ratio.shape[1]
        ratio, cell = self.speed_ratio.ravel(), step * n_zones + zone
        last = np.searchsorted(self.incident_key, zone * _KEY + utc_s.astype(np.int64), side="right") - 1
        return {
            "rain_mm_h": _between(self.rain_mm_h[step], self.rain_mm_h[step + 1], part),
            "temperature_c": _between(self.temperature_c[step], self.temperature_c[step + 1], part),
            "traffic_speed_ratio": _between(ratio[cell], ratio[cell + n_zones], part),
            "incidents_active": self.incident_count[last].astype(np.float64),
        }


def _between(low: Floats, high: Floats, part: Floats) -> Floats:
    return low + part * (high - low)


def _wander(rng: np.random.Generator, n_steps: int, n_series: int, memory_steps: float) -> Floats:
    """Standard normal series that forget by 1/e in `memory_steps`: (n_steps, n_series)."""
    keep = np.exp(-1 / memory_steps)
    series = rng.standard_normal((n_steps, n_series))
    series[1:] *= np.sqrt(1 - keep**2)
    for step in range(1, n_steps):
        series[step] += keep * series[step - 1]
    return series


def draw_state(rng: np.random.Generator, clock: Clock, closure_s: int | None) -> CityState:
    """Weather, incidents and traffic for the whole clock. A closure changes traffic, and draws nothing."""
    rain_mm_h, temperature_c = _weather(rng, clock)
    incident_key, incident_count, counts = _incidents(rng, clock, rain_mm_h)
    wander = 0.055 * _wander(rng, len(clock.utc_s), len(city_map.ZONE_NAMES), memory_steps=10)
    wander += 0.035 * _wander(rng, len(clock.utc_s), 1, memory_steps=16)
    slow = 0.03 * np.log1p(rain_mm_h) + 0.008 * np.maximum(0, -temperature_c)
    ratio = _usual_speed_ratio(clock) * np.exp(wander - slow[:, None] - 0.04 * np.minimum(counts, 3))
    if closure_s is not None:
        crowding = city_map.closure_crowding(city_map.zone_centres())
        ratio *= 1 - 0.22 * crowding * (clock.utc_s >= closure_s + STEP_S)[:, None]
    return CityState(clock, rain_mm_h, temperature_c, np.clip(ratio, 0.2, 1.3), incident_key, incident_count)


def _weather(rng: np.random.Generator, clock: Clock) -> tuple[Floats, Floats]:
    """Rain (about one hour in seven) and temperature by step, drawn by the hour and straight lines between."""
    n_hours = -(-len(clock.utc_s) // STEPS_PER_HOUR) + 1
    wetness = _wander(rng, n_hours, 1, memory_steps=6)[:, 0]
    rain = np.round(2.2 * np.expm1(1.2 * np.maximum(0, wetness - 1.05)), 1)
    air = _wander(rng, n_hours, 1, memory_steps=60)[:, 0]
    hours = np.arange(len(clock.utc_s)) / STEPS_PER_HOUR
    day_of_year = clock.utc_s / 86400 % 365.25
    season = 8.5 - 13.0 * np.cos(2 * np.pi * (day_of_year - 20) / 365.25)  # inland Maine: -5 in January, 22 in July
    afternoon = 4.0 * np.cos(2 * np.pi * (clock.hour - 15) / 24)
    temperature = season + afternoon + 4.5 * np.interp(hours, range(n_hours), air)
    return np.interp(hours, range(n_hours), rain), temperature


def _usual_speed_ratio(clock: Clock) -> Floats:
    """Speed over free flow by step and zone as local hour and weekday make it, before weather and chance."""
    evening, morning = rush(clock.hour, 17.3, 2.3), rush(clock.hour, 8.3, 1.5)
    midday, night = rush(clock.hour, 13.0, 3.5), rush(clock.hour, 3.0, 3.0)
    #                    centre inner outer airport
    loss_morning = np.array([0.26, 0.24, 0.15, 0.10])[city_map.ZONE_GROUP]
    loss_evening = np.array([0.32, 0.26, 0.14, 0.20])[city_map.ZONE_GROUP]
    loss_midday = np.array([0.18, 0.10, 0.05, 0.06])[city_map.ZONE_GROUP]
    week = np.outer(morning, loss_morning) + np.outer(evening, loss_evening) + np.outer(midday, loss_midday)
    shopping, going_out = rush(clock.hour, 15.0, 4.0), rush(clock.hour, 23.5, 2.0)
    weekend = np.outer(shopping, loss_midday + 0.05) + np.outer(going_out, loss_midday)
    return 0.95 + 0.1 * night[:, None] - np.where(clock.is_weekend[:, None], weekend, week)


def _incidents(rng: np.random.Generator, clock: Clock, rain_mm_h: Floats) -> tuple[Ints, Ints, Ints]:
    """Changes of active incidents (key, count), and the count by step and zone."""
    n_zones = len(city_map.ZONE_NAMES)
    busy = 0.4 + rush(clock.hour, 17.3, 3.0) + 0.8 * rush(clock.hour, 8.3, 2.0) + 0.4 * np.log1p(rain_mm_h)
    per_step = 0.13 / STEPS_PER_HOUR * np.outer(busy, np.ones(n_zones))
    step, zone = np.nonzero(np.minimum(rng.poisson(per_step), 1))
    began = clock.utc_s[step] + rng.integers(0, STEP_S, len(step))
    ended = began + np.round(2700 * np.exp(0.6 * rng.standard_normal(len(step)))).astype(np.int64)
    beats = np.add.outer(np.arange(n_zones) * _KEY, np.arange(clock.utc_s[0], clock.utc_s[-1], 6 * 3600)).ravel()
    keys = np.concatenate([zone * _KEY + began, zone * _KEY + ended, beats])
    change = np.repeat([1, -1, 0], [len(step), len(step), len(beats)])
    order = np.argsort(keys, kind="stable")
    keys, count = keys[order], np.cumsum(change[order])  # every incident ends, so each zone's sum starts at 0
    is_last = np.append(keys[1:] != keys[:-1], True)
    keys, count = keys[is_last], count[is_last]
    grid = np.arange(n_zones) * _KEY + clock.utc_s[:, None]
    return keys, count, count[np.searchsorted(keys, grid, side="right") - 1]


def known_conditions(rng: np.random.Generator, state: CityState) -> dict[str, pl.DataFrame]:
    """The three feeds as they arrive, in order of `known_at`."""
    return {
        "weather": _weather_feed(rng, state),
        "traffic": _traffic_feed(rng, state),
        "incidents": _incident_feed(rng, state),
    }


def _weather_feed(rng: np.random.Generator, state: CityState) -> pl.DataFrame:
    """A station's report on the hour, 4 to 15 minutes later."""
    hourly = slice(0, None, STEPS_PER_HOUR)
    values = {"rain_mm_h": state.rain_mm_h[hourly].round(1), "temperature_c": state.temperature_c[hourly].round(1)}
    seconds = state.clock.utc_s[hourly]
    wrong = {"rain_mm_h": np.maximum(0, values["rain_mm_h"] + rng.normal(0, 1.0, len(seconds))).round(1)}
    return _feed(rng, None, seconds, values, wrong, delay_s=(240, 900))


def _traffic_feed(rng: np.random.Generator, state: CityState) -> pl.DataFrame:
    """The mean speed of a zone's probe cars every quarter of an hour, 1 to 4 minutes later."""
    n_steps, n_zones = state.speed_ratio.shape
    zone, seconds = np.tile(np.arange(n_zones), n_steps), np.repeat(state.clock.utc_s, n_zones)
    ratio = state.speed_ratio.ravel()
    values = {"traffic_speed_ratio": ratio.round(3)}
    wrong = {"traffic_speed_ratio": np.clip(ratio * np.exp(rng.normal(0, 0.15, len(ratio))), 0.2, 1.4).round(3)}
    return _feed(rng, zone, seconds, values, wrong, delay_s=(60, 240))


def _incident_feed(rng: np.random.Generator, state: CityState) -> pl.DataFrame:
    """A row whenever a zone's count changes and every six hours, 1 to 6 minutes later."""
    zone, seconds = np.divmod(state.incident_key, _KEY)
    here = seconds <= state.clock.utc_s[-1]
    zone, seconds, count = zone[here], seconds[here], state.incident_count[here].astype(np.float64)
    return _feed(rng, zone, seconds, {"incidents_active": count}, {"incidents_active": count + 1}, delay_s=(60, 360))


def _feed(
    rng: np.random.Generator,
    zone: Ints | None,
    seconds: Ints,
    values: dict[str, Floats],
    wrong: dict[str, Floats],
    delay_s: tuple[int, int],
) -> pl.DataFrame:
    """One feed: in 1 % of the rows `wrong` comes first and the true value 20 to 90 minutes later; 0.3 % come twice."""
    n = len(seconds)
    known_s = seconds + rng.integers(*delay_s, n, endpoint=True)
    columns = {"observed_at": seconds * MICROSECONDS_PER_SECOND, "known_at": known_s * MICROSECONDS_PER_SECOND}
    frame = pl.DataFrame(columns | values)
    if zone is not None:
        frame = frame.insert_column(0, zone_names(zone))
    again = rng.choice(n, n * 3 // 1000, replace=False)
    late = np.sort(rng.choice(n, n // 100, replace=False))
    corrections = frame[late].with_columns(
        known_at=pl.Series((known_s[late] + rng.integers(1200, 5400, len(late))) * MICROSECONDS_PER_SECOND)
    )
    first = frame[late].with_columns(pl.Series(name, value[late]) for name, value in wrong.items())
    kept = np.delete(np.arange(n), late)
    return pl.concat([frame[kept], first, corrections, frame[again]]).sort("known_at", maintain_order=True)


def zone_names(zone: Ints) -> pl.Series:
    """Zone indices as the column `pickup_zone`."""
    return pl.Series("pickup_zone", list(city_map.ZONE_NAMES)).gather(zone)
