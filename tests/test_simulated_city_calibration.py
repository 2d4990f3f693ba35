"""The simulated city against New York's high-volume trips of July 2026 (20.9 M of them).

The figures are those of `hvfhv_2026-07_population_stats.json` and `hvfhv_2026-07_late_share_by_borough_hour.csv`; where
these files are, it is checked that they still say so.
"""

import json

import numpy as np
import polars as pl
import pytest

from hailtime.sources.city_dirt import FAULT_RATES
from hailtime.sources.simulated_city import make_city
from tests.test_nyc_hvfhv import NEEDS_REAL, REAL

WAIT_MIN = {"p50": 4.42, "p90": 9.98, "p99": 18.63}
# share of waits above 10 minutes by hour of request, all boroughs together, in per cent
LATE = [14.3, 10.7, 11.9, 16.0, 19.7, 12.3, 10.2, 10.2, 10.9, 6.8, 5.7, 6.8]
LATE += [8.5, 9.7, 9.7, 8.8, 8.9, 9.8, 7.6, 7.1, 8.9, 10.8, 14.3, 15.7]
# what rain adds to that share, in points, compared within the hour of the day
RAIN_POINTS = {0.5: 1.08, 2.5: 1.54}  # by mm/h or more
FAULTS = {"arrived_before_asked": 366_752, "coordinates_far": 1_245, "absurd_duration": 44}
TRIPS = 20_921_249


@pytest.fixture(scope="module")
def waits():
    """Hour, wait and rain of 400,000 spotless trips, 100,000 in each of four winters: rain comes in few spells."""
    return pl.concat(waits_of(make_city(n_requests=100_000, seed=seed)) for seed in (1, 2, 3, 4))


def waits_of(city):
    trips = pl.concat(city.cell(k)[0] for k in range(city.n_cells))
    requested_s = trips["requested_at"].to_numpy() / 1e6
    rain = city.state.at(requested_s, np.zeros(len(trips), dtype=int))["rain_mm_h"]
    hour = city.clock.hour[city.clock.place(requested_s)[0]].astype(int)
    wait_min = (trips["arrived_at"] - trips["requested_at"]).to_numpy() / 60e6
    return pl.DataFrame({"hour": hour, "wait_min": wait_min, "is_late": wait_min > 10, "rain_mm_h": rain})


@NEEDS_REAL
def test_the_figures_here_are_the_published_ones():
    told = json.loads((REAL / "hvfhv_2026-07_population_stats.json").read_text())
    assert {name: told["wait_min_pickup_minus_request"]["ALL"][name] for name in WAIT_MIN} == WAIT_MIN
    points = told["rain_effect_points_on_gt10"]
    assert {limit: points[f"ge_{limit}mm_h_within_hour"] for limit in RAIN_POINTS} == RAIN_POINTS
    faults = told["data_faults"]
    names = ("rows", "on_scene_before_request", "unknown_pickup_zone_265", "wait_gt_180min")
    assert [faults[name] for name in names] == [TRIPS, *FAULTS.values()]
    late = pl.read_csv(REAL / "hvfhv_2026-07_late_share_by_borough_hour.csv")
    n_late = (pl.col("share_wait_gt_10min") * pl.col("n_trips")).sum()
    by_hour = late.group_by("hour_of_request").agg(100 * n_late / pl.col("n_trips").sum()).sort("hour_of_request")
    assert by_hour.to_series(1).round(1).to_list() == LATE


@pytest.mark.parametrize("quantile", WAIT_MIN)
def test_waits_are_distributed_as_new_yorks(waits, quantile):
    wait_min = waits["wait_min"].quantile(int(quantile[1:]) / 100)
    assert wait_min == pytest.approx(WAIT_MIN[quantile], rel=0.06)  # measured: 5 %, 0 % and 0 % off


def test_late_waits_go_through_the_day_as_new_yorks(waits):
    late = 100 * waits.group_by("hour").agg(pl.col("is_late").mean()).sort("hour")["is_late"].to_numpy()
    assert np.corrcoef(late, LATE)[0, 1] > 0.98  # measured: 0.997
    assert np.abs(late - LATE).max() < 2.5  # points; measured: 1.2
    assert 100 * waits["is_late"].mean() == pytest.approx(10.02, abs=0.5)


@pytest.mark.parametrize("limit_mm_h", RAIN_POINTS)
def test_rain_makes_as_many_more_late_as_in_new_york(waits, limit_mm_h):
    is_wet = pl.col("rain_mm_h") >= limit_mm_h
    late = pl.col("is_late")
    by_hour = waits.group_by("hour").agg(
        is_wet.sum().alias("n"), (late.filter(is_wet).mean() - late.filter(~is_wet).mean()).alias("more")
    )
    points = 100 * (by_hour["more"] * by_hour["n"]).sum() / by_hour["n"].sum()
    assert points == pytest.approx(RAIN_POINTS[limit_mm_h], abs=0.5)  # half a point: four winters' chance


def test_faults_that_new_york_has_come_at_its_rates():
    assert {name: FAULT_RATES[name] * TRIPS for name in FAULTS} == pytest.approx(FAULTS)
