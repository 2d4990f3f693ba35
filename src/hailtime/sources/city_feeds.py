"""What is known of Rivermouth, and when: every feed's rows as they arrive.

Each row says when it was true (`observed_at`) and when it could be known (`known_at`, later). A few rows are corrected
later, a few arrive twice, as feeds do.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources import city_map
from hailtime.sources.city_map import Floats, Ints
from hailtime.sources.city_scenario import Influence, Scenario
from hailtime.sources.city_state import KEY, STEPS_PER_HOUR, CityState, stream
from hailtime.sources.city_trips import Course, idle_drivers

_WRONG = 0.01  # share of rows that are wrong at first and corrected 20 to 90 minutes later
_TWICE = 0.003


def known_conditions(
    seed: int, state: CityState, course: Course, scenarios: tuple[Scenario, ...]
) -> dict[str, pl.DataFrame]:
    """All feeds, each in order of `known_at`.

    - weather; traffic, incidents, driver_supply: by `pickup_zone`
    - incident_reports, road_closures: by `event_id`, with `lat`, `lon` and `ends_at` (null while it lasts); a row known
      later with the same id corrects the one before
    """
    tables = {
        "weather": _weather(_Feed(seed, "weather feed", scenarios), state),
        "traffic": _traffic(_Feed(seed, "traffic feed", scenarios), state),
        "incidents": _incidents(_Feed(seed, "incident feed", scenarios), state),
        "driver_supply": _driver_supply(_Feed(seed, "driver feed", scenarios), state, course, scenarios),
        "incident_reports": _incident_reports(_Feed(seed, "incident reports", scenarios), state),
        "road_closures": _no_events(),
    }
    for scenario in scenarios:
        tables = scenario.tell(tables)
    return tables


class _Feed:
    """Makes rows of what was true: late, sometimes wrong at first, sometimes twice."""

    def __init__(self, seed: int, name: str, scenarios: tuple[Scenario, ...]) -> None:
        self.rng = stream(seed, name)
        self.scenarios = scenarios

    def rows(
        self, true: pl.DataFrame, wrong: Mapping[str, Floats | pl.Series], delay_s: tuple[int, int]
    ) -> pl.DataFrame:
        """The feed of `true` (with `known_at`, when it can be known at the earliest): rows in order of arrival.

        In 1 % of the rows the values `wrong`, if any, come first and the true ones 20 to 90 minutes later; 0.3 % come
        twice.
        """
        n = len(true)
        happened_s = true["known_at"].to_numpy() / MICROSECONDS_PER_SECOND
        late_s = self.rng.integers(*delay_s, n, endpoint=True).astype(np.float64)
        for scenario in self.scenarios:
            late_s *= scenario.feed_delay(happened_s)
        true = true.with_columns(known_at=_us(happened_s + late_s))
        twice = self.rng.choice(n, int(n * _TWICE), replace=False)
        late = np.sort(self.rng.choice(n, int(n * _WRONG) if wrong else 0, replace=False))
        mended_s = (happened_s + late_s)[late] + self.rng.integers(1200, 5400, len(late))
        first = true[late].with_columns(pl.Series(name, values[late]) for name, values in wrong.items())
        kept = np.delete(np.arange(n), late)
        rows = [true[kept], first, true[late].with_columns(known_at=_us(mended_s)), true[twice]]
        return pl.concat(rows).sort("known_at", maintain_order=True)


def _us(seconds: Floats | Ints) -> pl.Series:
    return pl.Series((seconds * MICROSECONDS_PER_SECOND).astype(np.int64))


def _by_time(seconds: Ints, zone: Ints | None = None) -> pl.DataFrame:
    """The key and the two clocks of rows that can be known as soon as they are true."""
    times = pl.DataFrame({"observed_at": _us(seconds), "known_at": _us(seconds)})
    return times if zone is None else times.insert_column(0, city_map.named(city_map.ZONE_NAMES, zone, "pickup_zone"))


def _weather(feed: _Feed, state: CityState) -> pl.DataFrame:
    """A station's report on the hour, 4 to 15 minutes later."""
    hourly = slice(0, None, STEPS_PER_HOUR)
    rain, temperature = state.rain_mm_h[hourly].round(1), state.temperature_c[hourly].round(1)
    true = _by_time(state.clock.utc_s[hourly]).with_columns(rain_mm_h=rain, temperature_c=temperature)
    wrong = np.maximum(0, rain + feed.rng.normal(0, 1.0, len(true))).round(1)
    return feed.rows(true, {"rain_mm_h": wrong}, delay_s=(240, 900))


def _zones_by_step(state: CityState) -> tuple[Ints, Ints]:
    """Every zone at every step: seconds and zones."""
    n_steps, n_zones = state.speed_ratio.shape
    return np.repeat(state.clock.utc_s, n_zones), np.tile(np.arange(n_zones), n_steps)


def _traffic(feed: _Feed, state: CityState) -> pl.DataFrame:
    """The mean speed of a zone's probe cars every quarter of an hour, 1 to 4 minutes later."""
    ratio = state.speed_ratio.ravel()
    true = _by_time(*_zones_by_step(state)).with_columns(traffic_speed_ratio=ratio.round(3))
    wrong = np.clip(ratio * np.exp(feed.rng.normal(0, 0.15, len(ratio))), 0.2, 1.4).round(3)
    return feed.rows(true, {"traffic_speed_ratio": wrong}, delay_s=(60, 240))


def _incidents(feed: _Feed, state: CityState) -> pl.DataFrame:
    """A row whenever a zone's count changes and every six hours, 1 to 6 minutes later."""
    zone, seconds = np.divmod(state.incidents.key, KEY)
    here = seconds <= state.clock.utc_s[-1]
    count = state.incidents.count[here].astype(np.float64)
    true = _by_time(seconds[here], zone[here]).with_columns(incidents_active=count)
    return feed.rows(true, {"incidents_active": count + 1}, delay_s=(60, 360))


def _driver_supply(feed: _Feed, state: CityState, course: Course, scenarios: tuple[Scenario, ...]) -> pl.DataFrame:
    """The idle drivers counted in a zone every quarter of an hour, half a minute to two later."""
    seconds, zone = _zones_by_step(state)
    supply = np.repeat(course.supply, len(city_map.ZONE_NAMES))
    counted = feed.rng.poisson(idle_drivers(zone, supply)).astype(np.float64)
    on = Influence(rounding=feed.rng.random(len(counted)))
    for scenario in scenarios:
        scenario.influence(on, seconds.astype(np.float64), city_map.zone_centres()[zone])
    true = _by_time(seconds, zone).with_columns(idle_drivers=on.count(counted, on.supply))
    return feed.rows(true, {"idle_drivers": counted + feed.rng.integers(1, 6, len(counted))}, delay_s=(30, 120))


def _incident_reports(feed: _Feed, state: CityState) -> pl.DataFrame:
    """The same incidents with their places: a row when one is seen, one more when it is over, 1 to 6 minutes later.

    What is over before it is reported is never reported as open, so the row known last is always right.
    """
    events, end_s = state.incidents, state.clock.utc_s[-1]
    lat, lon = city_map.to_degrees(city_map.draw_places(feed.rng, events.zone))
    ids = "i" + pl.Series(events.began_s * 100 + events.zone).cast(pl.String)
    began = pl.DataFrame(
        {"event_id": ids, "lat": lat.round(5), "lon": lon.round(5), "observed_at": _us(events.began_s)}
    )
    over = began.with_columns(ends_at=_us(events.ended_s), known_at=_us(events.ended_s))
    seen = over.with_columns(known_at=_us(events.began_s)).filter(events.began_s <= end_s)
    seen = feed.rows(seen, {}, delay_s=(60, 360)).filter(pl.col("known_at") < pl.col("ends_at"))
    over = over.filter(events.ended_s <= end_s)
    wrong = over["ends_at"] + _us(feed.rng.integers(300, 3600, len(over)))
    over = feed.rows(over, {"ends_at": wrong}, delay_s=(60, 360))
    return pl.concat([seen.with_columns(ends_at=pl.lit(None, pl.Int64)), over]).sort("known_at", maintain_order=True)


def _no_events() -> pl.DataFrame:
    """A feed of events in which none happens."""
    names = {"event_id": pl.String, "lat": pl.Float64, "lon": pl.Float64}
    return pl.DataFrame(schema=names | dict.fromkeys(("observed_at", "ends_at", "known_at"), pl.Int64))
