"""The simulated city: calibrated to New York's July 2026, honest about its own noise, dirty at the declared rates."""

import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hailtime.errors import ConfigError
from hailtime.sources import city_map
from hailtime.sources.city_dirt import FAULT_RATES, MISSING_RATES
from hailtime.sources.simulated_city import load, zones

N = 30_000
CLOSURE = "2026-02-23"
CLOSURE_US = datetime(2026, 2, 23, tzinfo=ZoneInfo("America/New_York")).timestamp() * 1e6


@pytest.fixture(scope="module")
def spotless():
    return load(n_requests=N, dirt=0)


@pytest.fixture(scope="module")
def dirty():
    return load(n_requests=N, dirt=1)


def pickup_time_s(trips):
    return (trips["arrived_at"] - trips["requested_at"]).to_numpy() / 1e6


def with_weather(data):
    """The trips with the weather report that was true last, whenever it became known."""
    reports = data.conditions["weather"].sort("observed_at", "known_at").drop("known_at")
    return data.trips.join_asof(reports, left_on="requested_at", right_on="observed_at")


def places(trips, whose):
    return city_map.to_places(trips[f"{whose}_lat"].to_numpy(), trips[f"{whose}_lon"].to_numpy())


def test_same_seed_gives_the_same_frames_and_another_seed_does_not():
    one, two, other = (load(n_requests=2_000, days=3, seed=seed) for seed in (5, 5, 6))
    assert_frame_equal(one.trips, two.trips)
    for name, frame in one.conditions.items():
        assert_frame_equal(frame, two.conditions[name])
    assert not one.trips.equals(other.trips)


@pytest.mark.parametrize(("quantile", "minutes"), [(0.5, 4.42), (0.9, 9.98), (0.99, 18.63)], ids=["P50", "P90", "P99"])
def test_waits_are_distributed_as_new_yorks_of_july_2026(spotless, quantile, minutes):
    wait_min = np.quantile(pickup_time_s(spotless.trips), quantile) / 60
    assert wait_min == pytest.approx(minutes, rel=0.10)


def test_late_waits_go_through_the_day_as_new_yorks(spotless):
    # share of waits above 10 minutes by hour of request, all boroughs, July 2026
    new_york = [14.3, 10.7, 11.9, 16.0, 19.7, 12.3, 10.2, 10.2, 10.9, 6.8, 5.7, 6.8]
    new_york += [8.5, 9.7, 9.7, 8.8, 8.9, 9.8, 7.6, 7.1, 8.9, 10.8, 14.3, 15.7]
    hours = pl.from_epoch(spotless.trips["requested_at"], "us").dt.replace_time_zone("UTC")
    hour = hours.dt.convert_time_zone("America/New_York").dt.hour().to_numpy()
    is_late = pickup_time_s(spotless.trips) > 600
    late = [100 * is_late[hour == h].mean() for h in range(24)]
    assert np.corrcoef(late, new_york)[0, 1] > 0.85


def test_best_possible_error_is_about_a_minute(spotless):
    y, median = pickup_time_s(spotless.trips), spotless.trips["true_median_s"].to_numpy()
    assert 58 < np.abs(y - median).mean() < 75
    assert 135 < np.abs(y - np.median(y)).mean() < 170  # what a constant reaches


@pytest.mark.parametrize("column", ["pickup_place", "product", "app"])
def test_true_median_is_the_median_in_every_slice(spotless, column):
    above = np.sign(pickup_time_s(spotless.trips) - spotless.trips["true_median_s"].to_numpy())
    slices = (
        spotless.trips.select(column, above=pl.Series(above)).group_by(column).agg(pl.len(), pl.col("above").mean())
    )
    assert len(slices) >= 3
    for _, n, mean_sign in slices.iter_rows():
        assert abs(mean_sign) < 4 / np.sqrt(n)  # four standard errors of a fair coin


def test_spotless_trips_are_complete_in_order_and_in_the_city(spotless):
    trips = spotless.trips
    assert trips.null_count().sum_horizontal().item() == 0
    assert trips["request_id"].n_unique() == N
    assert trips["requested_at"].is_sorted()
    assert pickup_time_s(trips).min() >= 20
    assert pickup_time_s(trips).max() <= 7200
    assert np.abs(places(trips, "pickup")).max() < city_map.CITY_RADIUS_KM + 0.01
    straight_m = 1000 * np.abs(places(trips, "driver") - places(trips, "pickup"))
    assert (straight_m / pickup_time_s(trips)).max() < 45


def test_columns_are_those_of_the_yaml_and_within_its_ranges(spotless):
    yaml = pytest.importorskip("yaml")
    path = Path(__file__).parents[1] / "configs/source/simulated_city.yaml"
    columns = yaml.safe_load(path.read_text())["schema"]["columns"]
    for name, column in columns.items():
        if column["role"] == "target":
            continue
        table = spotless.conditions[column["condition"]] if "condition" in column else spotless.trips
        if column["role"] == "numeric":
            low, high = column["range"]
            assert table[name].dtype == pl.Float64
            assert table[name].is_between(low, high).all(), name
        elif column["role"] in ("categorical", "id"):
            assert table[name].dtype == pl.String


def test_faults_come_at_their_declared_rates(dirty):
    trips = dirty.trips
    wait_s = trips["arrived_at"] - trips["requested_at"]
    found = {
        "arrived_before_asked": (wait_s < 0).sum(),
        "arrived_missing": trips["arrived_at"].null_count(),
        "coordinates_zero": (trips["pickup_lat"] == 0).sum(),
        "coordinates_swapped": (trips["pickup_lat"] < -60).sum(),
        "coordinates_far": trips["pickup_lat"].is_between(42, 43).sum(),
        "absurd_duration": (wait_s > 7200e6).sum(),
    }
    for name, rows in found.items():
        expected = FAULT_RATES[name] * N
        assert abs(rows - expected) < 4 * np.sqrt(expected) + 1, name
    sent_again = len(trips) - trips["request_id"].n_unique()
    assert sent_again == pytest.approx(N * (FAULT_RATES["sent_twice"] + FAULT_RATES["asked_again"]), rel=0.3)


def test_values_are_missing_at_their_declared_rates(dirty):
    for name, rate in MISSING_RATES.items():
        assert dirty.trips[name].null_count() == pytest.approx(rate * N, rel=0.3), name


def test_some_rows_arrive_late_and_most_in_order():
    trips = load(n_requests=N, days=3).trips  # one request in nine seconds: a late one is overtaken
    backwards = (trips["requested_at"].diff() < 0).sum()
    assert 0.005 * N < backwards < 0.02 * N


def test_a_closure_makes_the_corridor_slower_and_only_after_its_date(spotless):
    closed = load(n_requests=N, dirt=0, closure_at=CLOSURE).trips
    longer = (closed["true_median_s"] / spotless.trips["true_median_s"]).to_numpy()
    after = closed["requested_at"].to_numpy() >= CLOSURE_US
    near = city_map.closure_km(places(closed, "pickup")) < 1.5
    far = city_map.closure_km(places(closed, "pickup")) > 10
    assert (longer[~after] == 1).all()
    assert np.median(longer[after & near]) > 1.2
    assert np.median(longer[after & far]) < 1.01
    assert closed.drop("arrived_at", "true_median_s", "routing_eta_s", "driver_speed_mps").equals(
        spotless.trips.drop("arrived_at", "true_median_s", "routing_eta_s", "driver_speed_mps")
    )


def test_a_drive_along_the_highway_is_longer_by_more_once_it_is_closed(spotless):
    closed = load(n_requests=N, dirt=0, closure_at=CLOSURE).trips
    start, end = places(closed, "driver"), places(closed, "pickup")
    along_km = np.abs(city_map.highway_km(start) - city_map.highway_km(end))
    beside = (np.abs(start - city_map.highway_place(city_map.highway_km(start))) < 1.5) & (along_km > 3)
    in_closed_part = (city_map.closure_km(start) < 1.5) & (city_map.closure_km(end) < 1.5)
    after = closed["requested_at"].to_numpy() >= CLOSURE_US
    longer = (closed["true_median_s"] / spotless.trips["true_median_s"]).to_numpy()
    assert np.median(longer[after & beside & in_closed_part]) > 1.6


def test_conditions_are_never_known_before_they_are_observed(spotless):
    for name, frame in spotless.conditions.items():
        assert (frame["known_at"] > frame["observed_at"]).all(), name
        assert frame["known_at"].dtype == frame["observed_at"].dtype == pl.Int64
        assert frame["observed_at"].min() <= spotless.trips["requested_at"][0] - 6 * 3600e6


def test_some_conditions_are_corrected_later_and_some_come_twice(spotless):
    traffic = spotless.conditions["traffic"]
    by_time = traffic.unique().group_by("pickup_zone", "observed_at")
    counts = by_time.agg(pl.len(), pl.col("traffic_speed_ratio").n_unique().alias("values"))
    assert 0.008 < (counts["values"] > 1).mean() < 0.012
    assert 0.002 < traffic.is_duplicated().mean() / 2 < 0.004


def test_every_zone_reports_its_incidents_at_least_every_six_hours(spotless):
    feed = spotless.conditions["incidents"].sort("pickup_zone", "observed_at")
    silence_us = feed.select(pl.col("observed_at").diff().over("pickup_zone")).to_series()
    assert silence_us.max() <= 6 * 3600e6
    assert feed["pickup_zone"].n_unique() == 60


def test_rain_makes_waits_longer(spotless):
    trips = with_weather(spotless)
    is_late = pl.Series(pickup_time_s(trips) > 600)
    dry, wet = is_late.filter(trips["rain_mm_h"] == 0).mean(), is_late.filter(trips["rain_mm_h"] >= 0.5).mean()
    assert 0.005 < wet - dry < 0.05  # New York: 0.9 to 1.5 points


def test_the_local_clock_follows_daylight_saving():
    # 8 March 2026 has 23 hours: 48 hours from midnight to midnight would end an hour late
    trips = load(n_requests=5_000, start="2026-03-07", days=2, dirt=0).trips
    midnight = datetime(2026, 3, 9, tzinfo=ZoneInfo("America/New_York")).timestamp() * 1e6
    assert midnight - 600e6 < trips["requested_at"].max() < midnight


def test_a_crossing_goes_over_a_bridge_and_a_neighbour_does_not():
    bank = city_map.BRIDGES[1]
    south, north = np.array([bank - 0.5j]), np.array([bank + 0.5j])
    far_south = np.array([-3.0 - 6.0j])
    assert city_map.street_km(south, north) == pytest.approx(city_map.grid_km(south, north))
    assert city_map.street_km(south, far_south) == pytest.approx(city_map.grid_km(south, far_south))
    east = np.array([12.0 + 0.0j])  # the river is at y = -0.55 there: 2 km apart, 8.5 km from the bridge
    assert city_map.street_km(east, east - 2j).item() > 15


def test_bridges_lie_on_the_river_and_the_west_one_on_the_highway():
    for bridge in city_map.BRIDGES:
        assert city_map.is_north(np.array([bridge + 0.05j, bridge - 0.05j])).tolist() == [True, False]
    west = np.array([city_map.BRIDGES[0]])
    assert abs(west - city_map.highway_place(city_map.highway_km(west))) < 0.05


def test_zones_are_named_once_and_lie_in_the_city():
    frame = zones()
    assert frame["zone"].n_unique() == len(frame) == 60
    assert set(frame["group"]) == {"centre", "inner", "outer", "airport"}
    centres = city_map.to_places(frame["lat"].to_numpy(), frame["lon"].to_numpy())
    assert np.abs(centres).max() < city_map.CITY_RADIUS_KM
    assert city_map.zone_at(centres).tolist() == list(range(60))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_requests": 0}, "n_requests must be 1 or more, got 0"),
        ({"days": 0}, "days must be 1 or more, got 0"),
        ({"dirt": -1}, r"dirt must be 0 \(spotless\) to 10 times the usual faults, got -1"),
        ({"start": "soon"}, "start must be a date such as 2026-03-02, got 'soon'"),
        ({"closure_at": "never"}, "closure_at must be a date"),
    ],
    ids=["no_requests", "no_days", "negative_dirt", "no_date", "no_closure_date"],
)
def test_a_setting_that_cannot_work_is_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        load(**{"n_requests": 10, "days": 1} | wrong)


def test_50k_requests_take_about_a_second():
    began = time.process_time()
    load(n_requests=50_000, days=14)
    assert time.process_time() - began < 4  # measured: 0.4 s; the limit leaves room for a busy machine
