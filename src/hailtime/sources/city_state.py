"""What Rivermouth is like at every moment: weather, traffic and incidents, as they really are.

Pickup times follow this state; what feeds tell of it, and when, is in `city_feeds`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from zlib import crc32
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from hailtime.sources import city_map
from hailtime.sources.city_map import Floats, Ints

STEP_S = 900
STEPS_PER_HOUR = 3600 // STEP_S
LEAD_S = 12 * 3600  # conditions begin this long before the first request, so that the first ones have a past
Conditions = dict[str, Floats]  # the actual ones, by column
KEY = 1 << 40  # (zone, second) as one sortable number: zone * KEY + second


def stream(seed: int, what: str, *numbers: int) -> np.random.Generator:
    """Chance for one purpose: more or fewer draws for another, or another order of them, never move it."""
    return np.random.default_rng([seed, crc32(what.encode()), *numbers])


@dataclass(frozen=True)
class Clock:
    """The time axis, one entry a quarter of an hour: UTC seconds, local hour (0 to 24) and whether it is a weekend."""

    utc_s: Ints
    hour: Floats
    is_weekend: NDArray[np.bool_]

    def place(self, utc_s: Floats) -> tuple[Ints, Floats]:
        """The steps these moments are in, and how far into them they are (0 to 1)."""
        position = (utc_s - self.utc_s[0]) / STEP_S
        step = position.astype(np.int64)
        return step, position - step


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
class Incidents:
    """Every incident (its zone, and when it began and ended, in UTC seconds), and what it makes of its zone's count.

    `key` (zone and second, see `KEY`) and `count` list every change of a zone's active incidents, with a heartbeat
    every six hours.
    """

    zone: Ints
    began_s: Ints
    ended_s: Ints
    key: Ints
    count: Ints

    def active(self, zone: Ints, utc_s: Ints) -> Ints:
        """How many are active in these zones at these moments."""
        return self.count[np.searchsorted(self.key, zone * KEY + utc_s, side="right") - 1]


@dataclass(frozen=True)
class CityState:
    """How it really is. Arrays are by step of the clock, `speed_ratio` by step and zone."""

    clock: Clock
    rain_mm_h: Floats
    temperature_c: Floats
    speed_ratio: Floats
    incidents: Incidents

    def at(self, utc_s: Floats, zone: Ints) -> Conditions:
        """The actual conditions at these moments in these zones, between two steps linearly."""
        step, part = self.clock.place(utc_s)
        n_zones = self.speed_ratio.shape[1]
        ratio, cell = self.speed_ratio.ravel(), step * n_zones + zone
        return {
            "rain_mm_h": between(self.rain_mm_h, step, part),
            "temperature_c": between(self.temperature_c, step, part),
            "traffic_speed_ratio": ratio[cell] + part * (ratio[cell + n_zones] - ratio[cell]),
            "incidents_active": self.incidents.active(zone, utc_s.astype(np.int64)).astype(np.float64),
        }


def between(by_step: Floats, step: Ints, part: Floats) -> Floats:
    """A straight line from each step's value to the next one's."""
    low: Floats = by_step[step]
    return low + part * (by_step[step + 1] - low)


def _wander(rng: np.random.Generator, n_steps: int, n_series: int, memory_steps: float) -> Floats:
    """Standard normal series that forget by 1/e in `memory_steps`: (n_steps, n_series)."""
    keep = np.exp(-1 / memory_steps)
    series = rng.standard_normal((n_steps, n_series))
    series[1:] *= np.sqrt(1 - keep**2)
    for step in range(1, n_steps):
        series[step] += keep * series[step - 1]
    return series


def draw_state(seed: int, clock: Clock) -> CityState:
    """Weather, incidents and traffic for the whole clock, scenarios left out."""
    rain_mm_h, temperature_c = _weather(stream(seed, "weather"), clock)
    incidents = _incidents(stream(seed, "incidents"), clock, rain_mm_h)
    zones = np.arange(len(city_map.ZONE_NAMES))
    counts = incidents.active(zones, clock.utc_s[:, None])
    rng = stream(seed, "traffic")
    wander = 0.055 * _wander(rng, len(clock.utc_s), len(zones), memory_steps=10)
    wander += 0.035 * _wander(rng, len(clock.utc_s), 1, memory_steps=16)
    slow = 0.015 * np.log1p(rain_mm_h) + 0.008 * np.maximum(0, -temperature_c)
    ratio = _usual_speed_ratio(clock) * np.exp(wander - slow[:, None] - 0.04 * np.minimum(counts, 3))
    return CityState(clock, rain_mm_h, temperature_c, np.clip(ratio, 0.2, 1.3), incidents)


def _weather(rng: np.random.Generator, clock: Clock) -> tuple[Floats, Floats]:
    """Rain (about one hour in six) and temperature by step, drawn by the hour and straight lines between."""
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


def _incidents(rng: np.random.Generator, clock: Clock, rain_mm_h: Floats) -> Incidents:
    """Five a zone in two days, more in the rush hours and the rain; they last 45 minutes, some much longer."""
    n_zones = len(city_map.ZONE_NAMES)
    busy = 0.4 + rush(clock.hour, 17.3, 3.0) + 0.8 * rush(clock.hour, 8.3, 2.0) + 0.4 * np.log1p(rain_mm_h)
    per_step = 0.13 / STEPS_PER_HOUR * np.outer(busy, np.ones(n_zones))
    step, zone = np.nonzero(rng.poisson(per_step))  # two in one step are told as one
    began = clock.utc_s[step] + rng.integers(0, STEP_S, len(step))
    ended = began + np.round(2700 * np.exp(0.6 * rng.standard_normal(len(step)))).astype(np.int64)
    beats = np.add.outer(np.arange(n_zones) * KEY, np.arange(clock.utc_s[0], clock.utc_s[-1], 6 * 3600)).ravel()
    keys = np.concatenate([zone * KEY + began, zone * KEY + ended, beats])
    change = np.repeat([1, -1, 0], [len(step), len(step), len(beats)])
    order = np.argsort(keys, kind="stable")
    keys, count = keys[order], np.cumsum(change[order])  # every incident ends, so each zone's sum starts at 0
    is_last = np.append(keys[1:] != keys[:-1], True)
    return Incidents(zone, began, ended, keys[is_last], count[is_last])
