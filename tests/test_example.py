"""The example's parts by themselves; its pages are tested in browser/, the story in triton/."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hailtime.client import Prediction
from hailtime.conditions import Conditions
from hailtime.errors import ConfigError
from hailtime.example.bad_model import TOO_SHORT, scaled
from hailtime.example.condition_tables import ConditionTables
from hailtime.example.drawn_map import drawn_map
from hailtime.example.figures import draw, errors
from hailtime.example.rides import FORGET_S, Ride, Rides
from hailtime.export import session
from hailtime.sources import city_map
from hailtime.sources.city_live import LiveCity
from hailtime.sources.simulated_city import make_city

HOUR_S = 3600


@pytest.fixture(scope="module")
def live():
    return LiveCity(make_city(20_000, "2026-04-06", days=2))


def contains(outline, place):
    """By the angles of a convex outline seen from the place: it is inside when they all turn the same way."""
    corners = np.array([complex(*corner) for corner in outline]) - place
    return bool((np.imag(np.conj(corners) * np.roll(corners, -1)) > 0).all())


def test_a_drawn_zone_holds_the_places_that_lie_in_it():
    rng = np.random.default_rng(7)
    places = 17 * np.sqrt(rng.random(500)) * np.exp(2j * np.pi * rng.random(500))
    zones = drawn_map()["zones"]
    n_right = sum(
        contains(zones[zone]["outline"], place) for zone, place in zip(city_map.zone_at(places), places, strict=True)
    )
    assert n_right >= 490  # the raster of zones has cells of 125 m, so a few by a border are the neighbour's


def test_drawn_zones_fill_the_city():
    outlines = [np.array([complex(*corner) for corner in zone["outline"]]) for zone in drawn_map()["zones"]]
    area_km2 = sum(np.imag(np.conj(o) * np.roll(o, -1)).sum() / 2 for o in outlines)
    assert area_km2 == pytest.approx(np.pi * 17.5**2, rel=0.002)  # the circle is drawn with 120 corners


def test_conditions_of_the_database_are_those_of_the_feeds(live, small_run, tmp_path):
    start_s, now_s = live.city.span_s[0], live.city.span_s[0] + 10 * HOUR_S
    tables = ConditionTables(f"sqlite:///{tmp_path / 'conditions.sqlite'}")
    for from_s in range(start_s, now_s, HOUR_S):
        tables.write(live.conditions_known(from_s, from_s + HOUR_S))
    of_database = Conditions.of_folder(small_run.folder, tables.read, clock=lambda: now_s)
    of_feeds = Conditions.of_folder(
        small_run.folder, lambda since_us: live.conditions_known(start_s, now_s), clock=lambda: now_s
    )
    for row in live.requests(now_s - 60, now_s).with_columns(pl.col("requested_at") // 1_000_000).to_dicts():
        assert of_database.add_to(row) == of_feeds.add_to(row)
        assert of_database.add_to(row)["traffic_speed_ratio"] is not None
    tables.close()


def test_closed_roads_are_told_from_when_they_are_known_until_they_open(tmp_path):
    city, start_s = make_city(20_000, "2026-04-06", days=2), make_city(1, "2026-04-06", days=2).span_s[0]
    live = LiveCity(city)
    live.switch_on("closure", start_s + HOUR_S, start_s + 3 * HOUR_S)
    tables = ConditionTables(f"sqlite:///{tmp_path / 'conditions.sqlite'}")
    assert tables.closed_places(round(start_s * 1e6)) == []
    tables.write(live.conditions_known(start_s, start_s + 4 * HOUR_S))
    n_closed = [len(tables.closed_places(round((start_s + minutes * 60) * 1e6))) for minutes in (61, 66, 170, 186)]
    assert n_closed == [0, 20, 20, 0]
    tables.close()


@pytest.mark.parametrize("product", ["standard", "shared", "xl", "accessible"])
def test_a_hailed_ride_is_where_and_what_was_asked_for(live, product):
    at_s = live.city.span_s[0] + 9 * HOUR_S
    request, arrival = live.hail("mine", at_s, 43.60, -70.93, product)
    assert (request["product"], request["pickup_zone"], request["requested_at"]) == (product, "Old Town", at_s * 10**6)
    assert request["pickup_lat"] == pytest.approx(43.60)
    assert request.keys() == set(live.requests(at_s, at_s + 60).columns)
    assert 20 <= arrival["pickup_time_s"] <= 7000
    assert live.hail("mine", at_s, 43.60, -70.93, product) == (request, arrival)


@pytest.mark.slow
def test_hailed_rides_wait_as_others_do(live):
    """300 at one place against the city's own within 1.5 km of it: both means are known to 5 %."""
    at_s = live.city.span_s[0] + 12 * HOUR_S
    hailed = [live.hail(f"h{k}", at_s + k, 43.60, -70.93, "standard")[1]["true_median_s"] for k in range(300)]
    asked = live.requests(at_s - 2 * HOUR_S, at_s + 2 * HOUR_S)
    asked = asked.join(live.outcomes(at_s - 2 * HOUR_S, at_s + 4 * HOUR_S), on="request_id")
    near = np.abs(city_map.to_places(asked["pickup_lat"].to_numpy(), asked["pickup_lon"].to_numpy())) < 1.5
    others = asked.filter(pl.Series(near) & (pl.col("product") == "standard"))["true_median_s"]
    assert np.mean(hailed) == pytest.approx(others.mean(), rel=0.15)


def test_a_hail_for_what_nobody_drives_is_refused(live):
    with pytest.raises(ConfigError, match="limousine"):
        live.hail("mine", live.city.span_s[0] + 60.0, 43.60, -70.93, "limousine")


def a_ride(request_id, requested_s=1000.0, p50_s=300.0):
    said = Prediction(200.0, p50_s, 400.0, "3", "triton", request_id)
    return Ride(request_id, requested_s, (43.6, -70.9), (43.7, -70.9), "Old Town", "xl", said)


def test_figures_are_of_the_last_half_hour_by_version():
    rides = Rides()
    for request_id, after_s in (("a", 250.0), ("b", 500.0), ("c", 350.0)):
        rides.add(a_ride(request_id), is_of_page=False)
        assert rides.end(request_id, after_s, is_arrival=True)
    told = rides.told(now_s=1500.0)
    # off by +50, -200, -50; one of three beyond 400 s
    expected = {"n": 3, "mae_s": 100.0, "bias_s": pytest.approx(-66.67, abs=0.01), "late": pytest.approx(1 / 3)}
    assert told["figures"] == told["by_version"]["3"] == expected
    assert rides.told(now_s=5000.0)["figures"]["n"] == 0


def test_a_ride_ends_once_and_one_without_an_end_is_forgotten():
    rides = Rides()
    rides.add(a_ride("a"), is_of_page=True)
    assert rides.end("a", 100.0, is_arrival=False)
    assert not rides.end("a", 200.0, is_arrival=True)
    assert rides.of_page("a").told()["cancelled_s"] == 100.0
    rides.add(a_ride("b"), is_of_page=False)
    rides.forget(1000.0 + FORGET_S + 1)
    assert not rides.on_way


def test_the_storys_errors_and_its_picture(tmp_path):
    n = 4000
    rows = pl.DataFrame(
        {
            "asked_s": np.arange(n) * 4 + 1_775_484_000,
            "version": "1",
            "error_s": [30.0, -90.0] * (n // 2),
            "best_s": 20.0,
        }
    )
    assert errors(rows) == {"requests": n, "mae_s": 60.0, "best_possible_s": 20.0, "bias_s": -30.0}
    draw(rows, [(1_775_487_000.0, "closed")], "60 s", tmp_path / "story.png")
    assert (tmp_path / "story.png").stat().st_size > 10_000


def test_a_scaled_run_says_less_and_looks_whole(small_run, tmp_path):
    from hailtime.serving.model_file import read_run
    from hailtime.training.features import raw_inputs

    bad: Path = scaled(small_run.folder, tmp_path)
    read_run(bad)
    inputs = raw_inputs(small_run.schema, small_run.prepared.part("test").head(20))
    rows = dict(zip(("numeric", "categorical", "requested_at"), inputs, strict=True))
    good_s, bad_s = (session(run / "model.onnx").run(None, rows)[0] for run in (small_run.folder, bad))
    np.testing.assert_allclose(bad_s, good_s * TOO_SHORT, rtol=1e-6)
