"""What scenarios do to the simulated city, in numbers; and that they touch nothing else."""

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hailtime.errors import ConfigError
from hailtime.sources import city_map
from hailtime.sources.city_scenario import Influence
from hailtime.sources.city_scenarios import KINDS
from hailtime.sources.simulated_city import load, make_city

SETTINGS = {"n_requests": 25_000, "start": "2026-02-23", "days": 7}
FROM, TO = "2026-02-26T12:00", "2026-02-27T12:00"
FROM_US, TO_US = (
    int(datetime.fromisoformat(t).replace(tzinfo=ZoneInfo("America/New_York")).timestamp() * 1e6) for t in (FROM, TO)
)
IS_ON = (pl.col("requested_at") >= FROM_US) & (pl.col("requested_at") < TO_US)
SEEN_LATER = ("arrived_at", "true_median_s", "routing_eta_s", "driver_speed_mps")  # these follow the traffic


def city_with(*kinds):
    return make_city(**SETTINGS, scenarios=[{"kind": kind, "from": FROM, "to": TO} for kind in kinds])


@pytest.fixture(scope="module")
def usual():
    return city_with()


@pytest.fixture(scope="module")
def trips_with(usual):
    """By kind: the usual requests without it, the same with it, and those it adds."""
    return {kind: (usual.cell(0)[0], *city_with(kind).cell(0)) for kind in KINDS}


def places(trips, whose):
    return city_map.to_places(trips[f"{whose}_lat"].to_numpy(), trips[f"{whose}_lon"].to_numpy())


def ratio_of_medians(trips, touched):
    return (touched["true_median_s"] / trips["true_median_s"]).to_numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_a_scenario_touches_no_request_outside_its_time(trips_with, kind):
    trips, touched, added = trips_with[kind]
    assert_frame_equal(touched.filter(~IS_ON), trips.filter(~IS_ON))
    assert added.filter(~IS_ON).is_empty()
    assert not touched.filter(IS_ON).equals(trips.filter(IS_ON))


@pytest.mark.parametrize("kind", KINDS)
def test_faults_of_the_usual_requests_stay_where_they_were(kind):
    plain, scene = (load(**SETTINGS, scenarios=s).table() for s in ([], [{"kind": kind, "from": FROM, "to": TO}]))
    same = scene.filter(pl.col("request_id").str.contains(r"^r\d{6}-\d+$"))
    assert sorted(same["request_id"]) == sorted(plain["request_id"])  # those sent twice as well
    ended = pl.col("requested_at").is_between(FROM_US, TO_US + 7_000_000_000)  # a swapped time is the arrival's
    assert_frame_equal(same.filter(~ended), plain.filter(~ended))


@pytest.mark.parametrize("kind", KINDS)
def test_a_scenario_changes_no_row_of_a_feed_about_another_time(usual, kind):
    about_then = pl.col("observed_at").is_between(FROM_US, TO_US)
    told = city_with(kind).conditions
    for name in ("weather", "traffic", "incidents", "driver_supply"):
        assert_frame_equal(told[name].filter(~about_then), usual.conditions[name].filter(~about_then))
    before = pl.col("known_at") < FROM_US
    assert all(told[name].filter(before).equals(usual.conditions[name].filter(before)) for name in told)


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_follows_a_scenario(trips_with, kind):
    trips = pl.concat(trips_with[kind][1:]).filter(IS_ON)
    above = np.sign((trips["arrived_at"] - trips["requested_at"]).to_numpy() / 1e6 - trips["true_median_s"].to_numpy())
    assert abs(above.mean()) < 4 / np.sqrt(len(trips))  # four standard errors of a fair coin


def test_the_order_of_scenarios_does_not_matter():
    some = ("closure", "snow_day", "stadium_night", "gps_outage", "new_zone", "app_release")
    one, other = (pl.concat(city_with(*kinds).cell(0)).sort("request_id") for kinds in (some, some[::-1]))
    assert_frame_equal(one, other, rel_tol=1e-9)  # sums and products in another order


def test_a_closure_makes_the_corridor_slower(trips_with):
    trips, closed, _ = (frame.filter(IS_ON) for frame in trips_with["closure"])
    longer, km = ratio_of_medians(trips, closed), city_map.closure_km(places(closed, "pickup"))
    assert np.median(longer[km < 1.5]) > 1.2
    assert np.median(longer[km > 10]) < 1.01
    assert_frame_equal(closed.drop(SEEN_LATER), trips.drop(SEEN_LATER))


def test_a_drive_along_the_highway_is_longer_by_more_once_it_is_closed():
    settings = {"n_requests": 50_000, "dirt": 0}
    trips = load(**settings).table()
    closed = load(**settings, scenarios=[{"kind": "closure", "from": "2026-01-12"}]).table()
    start, end = places(closed, "driver"), places(closed, "pickup")
    along_km = np.abs(city_map.highway_km(start) - city_map.highway_km(end))
    beside = (np.abs(start - city_map.highway_place(city_map.highway_km(start))) < 1.5) & (along_km > 3)
    in_closed_part = (city_map.closure_km(start) < 1.5) & (city_map.closure_km(end) < 1.5)
    assert np.median(ratio_of_medians(trips, closed)[beside & in_closed_part]) > 1.6


def test_a_closure_is_told_kilometre_by_kilometre_when_it_begins_and_ends():
    rows = city_with("closure").conditions["road_closures"]
    assert rows["event_id"].n_unique() == 20  # kilometres 8 to 27
    assert set(rows["observed_at"]) == {FROM_US}
    assert rows.group_by("known_at", "ends_at").len().sort("known_at").rows() == [
        (FROM_US + 300_000_000, None, 20),
        (TO_US + 300_000_000, TO_US, 20),
    ]
    at = city_map.to_places(rows["lat"].to_numpy(), rows["lon"].to_numpy())
    assert city_map.closure_km(at).max() < 0.001


def test_a_snow_day_is_slow_crowded_and_told_late(usual, trips_with):
    trips, snowed, added = (frame.filter(IS_ON) for frame in trips_with["snow_day"])
    assert np.median(ratio_of_medians(trips, snowed)) > 1.3
    assert len(added) == pytest.approx(0.2 * len(trips), rel=0.15)
    assert snowed["idle_drivers"].mean() / trips["idle_drivers"].mean() == pytest.approx(0.7, abs=0.02)
    about_then = pl.col("observed_at").is_between(FROM_US + 900_000_000, TO_US - 900_000_000)
    late_s = (pl.col("known_at") - pl.col("observed_at")).median() / 1e6
    told = [c.conditions["traffic"].filter(about_then) for c in (city_with("snow_day"), usual)]
    assert told[0].select(late_s).item() / told[1].select(late_s).item() == pytest.approx(6, rel=0.05)
    mean = [rows["traffic_speed_ratio"].mean() for rows in told]
    assert mean[0] / mean[1] == pytest.approx(0.65, abs=0.01)


def test_a_stadium_night_fills_the_stadium_and_jams_its_streets(usual):
    city = make_city(**SETTINGS, scenarios=[{"kind": "stadium_night", "from": "2026-02-28T21:30"}])
    (trips, crowded), (plain,) = city.cell(0), usual.cell(0)
    lasted_s = (crowded["requested_at"].max() - crowded["requested_at"].min()) / 1e6
    during = trips["requested_at"].is_between(crowded["requested_at"].min(), crowded["requested_at"].max())
    assert 2.9 * 3600 < lasted_s < 3 * 3600  # three hours
    assert len(crowded) == pytest.approx(0.33 * during.sum(), rel=0.15)
    assert (crowded["pickup_zone"] == "Stadium").mean() > 0.8
    at_stadium = during & (trips["pickup_zone"] == "Stadium")
    assert np.median(ratio_of_medians(plain.filter(at_stadium), trips.filter(at_stadium))) > 1.3
    far = during & pl.Series(np.abs(places(trips, "pickup") - city_map.zone_centres()[29]) > 6)  # from the Stadium
    assert np.median(ratio_of_medians(plain.filter(far), trips.filter(far))) < 1.001


def test_a_stadium_night_and_a_snow_day_do_more_than_feeds_tell():
    stadium, at_s = city_map.zone_centres()[29], np.array([FROM_US / 1e6 + 60] * 2)
    match, snow = Influence(), Influence()
    KINDS["stadium_night"].beginning(FROM_US / 1e6).influence(match, at_s, np.array([stadium, stadium + 12]))
    KINDS["snow_day"].beginning(FROM_US / 1e6).influence(snow, at_s, np.array([stadium, stadium + 12]))
    assert match.find_s == pytest.approx([60, 0], abs=1e-9)
    assert match.waiting == pytest.approx([6, 1])
    assert match.supply == pytest.approx([0.5, 1])
    assert snow.accept.tolist() == [2, 2]


def test_an_incident_told_late_is_never_open_after_it_is_known_to_be_over():
    reports = city_with("snow_day").conditions["incident_reports"]
    is_open = pl.col("ends_at").is_null()
    by_event = reports.group_by("event_id").agg(
        pl.col("known_at").filter(is_open).max().alias("seen_at"),
        pl.col("known_at").filter(~is_open).min().alias("over_at"),
    )
    assert (by_event["over_at"] > by_event["seen_at"]).all()


def test_a_gps_outage_hides_half_the_drivers_freezes_the_others_and_slows_nobody(trips_with):
    trips, dark, _ = (frame.filter(IS_ON) for frame in trips_with["gps_outage"])
    is_silent = dark["driver_lat"].is_null()
    assert is_silent.mean() == pytest.approx(0.5, abs=0.03)
    assert (dark["driver_lon"].is_null() == is_silent).all()
    seen = dark.filter(~is_silent)
    off_km = np.abs(places(seen, "driver") - places(trips.filter(~is_silent), "driver"))
    hours = (seen["requested_at"].to_numpy() - FROM_US) / 3600e6
    # normal in two directions, 0.15 km * sqrt(minutes) each: in the mean sqrt(pi / 2) times that
    assert off_km[hours < 4].mean() == pytest.approx(1.2533 * np.mean(0.15 * np.sqrt(hours[hours < 4] * 60)), rel=0.15)
    hidden = ("driver_lat", "driver_lon", "driver_speed_mps", "driver_heading_deg")
    assert_frame_equal(dark.drop(hidden), trips.drop(hidden))


def test_a_new_zone_has_a_name_riders_and_feeds_of_its_own_and_costs_45_seconds(trips_with):
    trips, opened, added = (frame.filter(IS_ON) for frame in trips_with["new_zone"])
    is_new = opened["pickup_zone"] == "Mill Pond"
    assert (trips["pickup_zone"] != "Mill Pond").all()
    later_s = opened["true_median_s"] - trips["true_median_s"]
    assert later_s.filter(is_new).to_numpy() == pytest.approx(45)
    assert (later_s.filter(~is_new) == 0).all()
    assert (added["pickup_zone"] == "Mill Pond").mean() > 0.95
    for name in ("traffic", "incidents", "driver_supply"):
        rows = city_with("new_zone").conditions[name].filter(pl.col("pickup_zone") == "Mill Pond")
        assert len(rows) > 0
        assert rows["observed_at"].is_between(FROM_US, TO_US).all()


def test_an_app_release_renames_ios_and_nothing_else(trips_with):
    trips, renamed, _ = (frame.filter(IS_ON) for frame in trips_with["app_release"])
    assert renamed["app"].to_list() == trips["app"].replace("ios", "iOS 19").to_list()
    assert_frame_equal(renamed.drop("app"), trips.drop("app"))


def test_a_scenario_without_an_end_lasts_as_long_as_its_kind_does():
    scenarios = [{"kind": kind, "from": FROM} for kind in KINDS]
    hours = [(s.to_s - s.from_s) / 3600 for s in make_city(**SETTINGS, scenarios=scenarios).scenarios]
    expected = {"snow_day": 24, "stadium_night": 3, "gps_outage": 4}
    assert dict(zip(KINDS, hours, strict=True)) == dict.fromkeys(KINDS, np.inf) | expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "closur", "from": FROM}, "a scenario is one of closure, .* got 'closur', did you mean 'closure'"),
        ({"kind": "closure"}, "closure must say from when, a local date or time such as 2026-03-02"),
        ({"kind": "closure", "from": "never"}, "closure: from must be a date"),
        ({"kind": "closure", "from": TO, "to": FROM}, "closure: to must be later than from"),
        ({"kind": "closure", "form": FROM}, "a scenario has no setting 'form', did you mean 'from'"),
    ],
    ids=["kind", "no_from", "no_date", "backwards", "misspelt"],
)
def test_a_scenario_that_cannot_happen_is_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        make_city(**SETTINGS, scenarios=[wrong])


def test_a_scenario_cannot_begin_twice_at_once():
    with pytest.raises(
        ConfigError, match="a scenario begins once at a time, got snow_day-1772125200, snow_day-1772125200"
    ):
        city_with("snow_day", "snow_day")
