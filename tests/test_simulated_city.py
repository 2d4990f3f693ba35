"""The simulated city: honest about its own noise, dirty at the declared rates, the same block after block."""

import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from polars.testing import assert_frame_equal

from hailtime.errors import ConfigError
from hailtime.sources import city_map
from hailtime.sources.city_dirt import FAULT_RATES, MISSING_RATES
from hailtime.sources.simulated_city import BLOCK, load

N = 30_000


@pytest.fixture(scope="module")
def city():
    return load(n_requests=N, dirt=0)


@pytest.fixture(scope="module")
def spotless(city):
    return city.table()


@pytest.fixture(scope="module")
def dirty():
    return load(n_requests=N, dirt=1).table()


def pickup_time_s(trips):
    return (trips["arrived_at"] - trips["requested_at"]).to_numpy() / 1e6


def places(trips, whose):
    return city_map.to_places(trips[f"{whose}_lat"].to_numpy(), trips[f"{whose}_lon"].to_numpy())


DRAW = """
import hashlib
from hailtime.sources.simulated_city import load
raw = load(n_requests=30_000)
frames = [raw.table(), *(raw.conditions[name] for name in sorted(raw.conditions))]
print(hashlib.sha256("".join(frame.write_csv() for frame in frames).encode()).hexdigest())
"""


@pytest.mark.slow
def test_a_processor_without_the_newest_instructions_draws_the_same_city():
    found = [name for name in __cpu_dispatch__ if __cpu_features__[name]]
    if not found:
        pytest.skip("this processor has no instructions that numpy could leave out")
    said = [
        subprocess.run([sys.executable, "-c", DRAW], env=os.environ | more, check=True, capture_output=True).stdout
        for more in ({}, {"NPY_DISABLE_CPU_FEATURES": " ".join(found)})
    ]
    assert said[0] == said[1] != b""


def test_same_seed_gives_the_same_frames_and_another_seed_does_not():
    one, two, other = (load(n_requests=2_000, days=3, seed=seed) for seed in (5, 5, 6))
    assert_frame_equal(one.table(), two.table())
    for name, frame in one.conditions.items():
        assert_frame_equal(frame, two.conditions[name])
    assert not one.table().equals(other.table())


def test_best_possible_error_is_about_a_minute(spotless):
    y, median = pickup_time_s(spotless), spotless["true_median_s"].to_numpy()
    assert 60 < np.abs(y - median).mean() < 65
    assert 140 < np.abs(y - np.median(y)).mean() < 160  # what a constant reaches


@pytest.mark.slow
def test_trips_come_in_blocks_that_are_the_same_every_time():
    data = load(n_requests=BLOCK + 1_000, days=7, dirt=1)
    blocks = list(data.trips)
    assert [block["request_id"].n_unique() for block in blocks] == [BLOCK, 1_000]
    assert_frame_equal(data.table(), pl.concat(blocks))
    assert blocks[0]["requested_at"].max() < blocks[1]["requested_at"].min() + 7200e6  # a swapped time is late


@pytest.mark.parametrize("column", ["pickup_place", "product", "app"])
def test_true_median_is_the_median_in_every_slice(spotless, column):
    above = np.sign(pickup_time_s(spotless) - spotless["true_median_s"].to_numpy())
    slices = spotless.select(column, above=pl.Series(above)).group_by(column).agg(pl.len(), pl.col("above").mean())
    assert len(slices) >= 3
    for _, n, mean_sign in slices.iter_rows():
        assert abs(mean_sign) < 4 / np.sqrt(n)  # four standard errors of a fair coin


def test_spotless_trips_are_complete_in_order_and_in_the_city(spotless):
    trips = spotless
    assert trips.null_count().sum_horizontal().item() == 0
    assert trips["request_id"].n_unique() == N
    assert trips["requested_at"].is_sorted()
    assert pickup_time_s(trips).min() >= 20
    assert pickup_time_s(trips).max() <= 7200
    assert np.abs(places(trips, "pickup")).max() < city_map.CITY_RADIUS_KM + 0.01
    straight_m = 1000 * np.abs(places(trips, "driver") - places(trips, "pickup"))
    assert (straight_m / pickup_time_s(trips)).max() < 45


def test_columns_are_those_of_the_yaml_and_within_its_ranges(city, spotless):
    yaml = pytest.importorskip("yaml")
    path = Path(__file__).parents[1] / "configs/source/simulated_city.yaml"
    columns = yaml.safe_load(path.read_text())["schema"]["columns"]
    for name, column in columns.items():
        if column["role"] == "target":
            continue
        table = city.conditions[column["condition"]] if "condition" in column else spotless
        if column["role"] == "numeric":
            low, high = column["range"]
            assert table[name].dtype == pl.Float64
            assert table[name].is_between(low, high).all(), name
        elif column["role"] in ("categorical", "id"):
            assert table[name].dtype == pl.String


def test_faults_come_at_their_declared_rates(dirty):
    trips = dirty
    wait_s = trips["arrived_at"] - trips["requested_at"]
    found = {
        "arrived_before_asked": (wait_s < 0).sum(),
        "arrived_missing": trips["arrived_at"].null_count(),
        "coordinates_zero": (trips["pickup_lat"] == 0).sum(),
        "coordinates_swapped": (trips["pickup_lat"] < -60).sum(),
        "coordinates_far": trips["pickup_lat"].is_between(42, 43).sum(),
        "absurd_duration": (wait_s > 10_800e6).sum(),
    }
    for name, rows in found.items():
        expected = FAULT_RATES[name] * N
        assert abs(rows - expected) < 4 * np.sqrt(expected) + 1, name
    sent_again = len(trips) - trips["request_id"].n_unique()
    assert sent_again == pytest.approx(N * (FAULT_RATES["sent_twice"] + FAULT_RATES["asked_again"]), rel=0.3)


def test_values_are_missing_at_their_declared_rates(dirty):
    for name, rate in MISSING_RATES.items():
        assert dirty[name].null_count() == pytest.approx(rate * N, rel=0.3), name


def test_some_rows_arrive_late_and_most_in_order():
    trips = load(n_requests=N, days=3).table()  # one request in nine seconds: a late one is overtaken
    backwards = (trips["requested_at"].diff() < 0).sum()
    assert 0.005 * N < backwards < 0.02 * N


def test_conditions_are_never_known_before_they_are_observed(city, spotless):
    for name, frame in city.conditions.items():
        assert (frame["known_at"] > frame["observed_at"]).all(), name
        assert frame["known_at"].dtype == frame["observed_at"].dtype == pl.Int64
        assert frame["known_at"].is_sorted()
        if name != "road_closures":  # there is none
            assert frame["observed_at"].min() <= spotless["requested_at"][0] - 6 * 3600e6


def test_some_conditions_are_corrected_later_and_some_come_twice(city):
    traffic = city.conditions["traffic"]
    by_time = traffic.unique().group_by("pickup_zone", "observed_at")
    counts = by_time.agg(pl.len(), pl.col("traffic_speed_ratio").n_unique().alias("values"))
    assert 0.008 < (counts["values"] > 1).mean() < 0.012
    assert 0.002 < traffic.is_duplicated().mean() / 2 < 0.004


def test_every_zone_reports_its_incidents_at_least_every_six_hours(city):
    feed = city.conditions["incidents"].sort("pickup_zone", "observed_at")
    silence_us = feed.select(pl.col("observed_at").diff().over("pickup_zone")).to_series()
    assert silence_us.max() <= 6 * 3600e6
    assert feed["pickup_zone"].n_unique() == 60


def test_incident_reports_tell_of_the_incidents_that_the_zones_count(city):
    reports = city.conditions["incident_reports"].unique("event_id", keep="last", maintain_order=True)
    zone = city_map.zone_at(places(reports.rename({"lat": "at_lat", "lon": "at_lon"}), "at"))
    counts = (
        city.conditions["incidents"]
        .sort("observed_at", "known_at")
        .unique(["pickup_zone", "observed_at"], keep="last", maintain_order=True)
    )
    for noon_us in range(1_768_323_600_000_000, 1_775_000_000_000_000, 7 * 86_400_000_000):  # from 13 January, weekly
        is_active = (reports["observed_at"] <= noon_us) & (reports["ends_at"].fill_null(noon_us + 1) > noon_us)
        placed = np.bincount(zone[is_active.to_numpy()], minlength=60)
        latest = counts.filter(pl.col("observed_at") <= noon_us).unique("pickup_zone", keep="last", maintain_order=True)
        counted = dict(latest.select("pickup_zone", "incidents_active").iter_rows())
        assert [counted[name] for name in city_map.ZONE_NAMES] == placed.tolist()


def test_an_incident_is_open_until_it_is_known_to_be_over(city):
    reports = city.conditions["incident_reports"]
    is_open = reports["ends_at"].is_null()
    assert (reports.filter(~is_open)["known_at"] - reports.filter(~is_open)["ends_at"]).max() <= (360 + 5400) * 1e6
    by_event = (
        reports.unique()
        .group_by("event_id")
        .agg(
            pl.col("known_at").filter(pl.col("ends_at").is_null()).max().alias("seen_at"),
            pl.col("known_at").filter(pl.col("ends_at").is_not_null()).min().alias("over_at"),
            pl.col("ends_at").drop_nulls().n_unique().alias("n_ends"),
        )
    )
    assert (by_event["over_at"] > by_event["seen_at"]).all()
    assert 0.005 < (by_event["n_ends"] > 1).mean() < 0.02  # corrected
    assert 0.001 < reports.is_duplicated().mean() / 2 < 0.005


def test_driver_supply_counts_the_drivers_that_requests_see(city, spotless):
    supply = (
        city.conditions["driver_supply"].group_by("pickup_zone").agg(pl.col("idle_drivers").mean().alias("counted"))
    )
    seen = spotless.group_by("pickup_zone").agg(pl.col("idle_drivers").mean())
    both = seen.join(supply, on="pickup_zone")
    assert len(both) == 60
    assert np.corrcoef(both["idle_drivers"], both["counted"])[0, 1] > 0.97
    times = city.conditions["driver_supply"]["observed_at"].unique().sort()
    assert times.diff().drop_nulls().unique().to_list() == [900_000_000]


def test_the_local_clock_follows_daylight_saving():
    # 8 March 2026 has 23 hours: 48 hours from midnight to midnight would end an hour late
    trips = load(n_requests=5_000, start="2026-03-07", days=2, dirt=0).table()
    midnight = datetime(2026, 3, 9, tzinfo=ZoneInfo("America/New_York")).timestamp() * 1e6
    assert midnight - 600e6 < trips["requested_at"].max() < midnight


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_requests": 0}, "n_requests must be 1 or more, got 0"),
        ({"days": 0}, "days must be 1 or more, got 0"),
        ({"dirt": -1}, r"dirt must be 0 \(spotless\) to 10 times the usual faults, got -1"),
        ({"start": "soon"}, "start must be a date such as 2026-03-02, got 'soon'"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
    ids=["no_requests", "no_days", "negative_dirt", "no_date", "negative_seed"],
)
def test_a_setting_that_cannot_work_is_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        load(**{"n_requests": 10, "days": 1} | wrong)


def test_50k_requests_take_about_a_second():
    began = time.process_time()
    load(n_requests=50_000, days=14).table()
    assert time.process_time() - began < 4  # measured: 0.4 s; the limit leaves room for a busy machine
