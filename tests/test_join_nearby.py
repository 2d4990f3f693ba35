"""Events nearby: active and known at the request, within the radius, the same on every engine."""

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hailtime.preparation.exact import great_circle_m, half_angles, on_sphere, sine
from hailtime.schema import MICROSECONDS_PER_SECOND
from tests.conftest import ENGINES
from tests.joining import MINUTE, at, joined, schema_of, table, trips

SCHEMA = schema_of(incidents="near", nearest_m="near")
RADIUS_M = 1500
FRESHNESS_H = 3
SETTINGS = {
    "near": {
        "join": "nearby",
        "table": "incident_reports",
        "id": "event_id",
        "place": ["place_lat", "place_lon"],
        "at": ["lat", "lon"],
        "radius_m": RADIUS_M,
        "freshness_h": FRESHNESS_H,
        "columns": {"incidents": "count", "nearest_m": "distance"},
    }
}
TYPES = {"event_id": pl.String, "place_lat": pl.Float64, "place_lon": pl.Float64, "ends_at": pl.Int64}
KM = 1 / 111.195  # degrees of latitude: 2 pi 6371.0088 km / 360


def incidents(*rows):
    """Rows (began, known, id, km north of 43.6 on the meridian 70 west, ends)."""
    placed = [(o, k, i, None if km is None else 43.6 + km * KM, -70.0, e) for o, k, i, km, e in rows]
    return table(TYPES, *placed)


def asked(*minutes, km=0.0):
    return trips(*({"minute": minute, "lat": 43.6 + km * KM, "lon": -70.0} for minute in minutes))


def near(requests, rows, make=ENGINES["polars"], **changes):
    changed = {"near": {**SETTINGS["near"], **changes}}
    return joined(requests, {"incident_reports": rows}, SCHEMA, changed, make)


def haversine_m(lat_1, lon_1, lat_2, lon_2):
    """The textbook's, with the library's sines and arcsine."""
    lat_1, lon_1, lat_2, lon_2 = map(math.radians, (lat_1, lon_1, lat_2, lon_2))
    term = math.sin((lat_2 - lat_1) / 2) ** 2
    term += math.cos(lat_1) * math.cos(lat_2) * math.sin((lon_2 - lon_1) / 2) ** 2
    return 2 * 6_371_008.8 * math.asin(min(1.0, math.sqrt(term)))


def reference(request, rows, radius_m=RADIUS_M):
    """The rule as it is told: of each event the row known last; active when it has begun and is not over."""
    now, active = request["requested_at"], []
    if request["lat"] is None or request["lon"] is None:
        return None, None
    for event in {row["event_id"] for row in rows}:
        known = [row for row in rows if row["event_id"] == event and row["known_at"] <= now]
        if known:
            row = max(known, key=lambda row: row["known_at"])
            over = row["ends_at"] or row["observed_at"] + FRESHNESS_H * 3600 * MICROSECONDS_PER_SECOND
            if row["observed_at"] <= now < over and row["place_lat"] is not None:
                active.append(haversine_m(request["lat"], request["lon"], row["place_lat"], row["place_lon"]))
    reached = [distance for distance in active if distance <= radius_m]
    return len(reached), min(reached, default=None)


def test_event_counts_from_when_it_is_known_until_it_ends(engine):
    got = near(asked(4, 5, 59, 60), incidents((0, 5, "a", 0.5, 60)), engine)
    assert got["incidents"].to_list() == [0, 1, 1, 0]
    assert got["nearest_m"].to_list() == [None, pytest.approx(500, abs=0.1), pytest.approx(500, abs=0.1), None]


def test_event_announced_ahead_counts_from_when_it_begins(engine):
    assert near(asked(9, 10), incidents((10, -60, "a", 0, 60)), engine)["incidents"].to_list() == [0, 1]


def test_event_without_an_end_is_over_after_its_freshness(engine):
    requests = asked(180 - 1 / MINUTE, 180)
    assert near(requests, incidents((0, 5, "a", 0, None)), engine)["incidents"].to_list() == [1, 0]


def test_event_with_an_end_lasts_longer_than_its_freshness(engine):
    days = 24 * 60
    assert near(asked(1, 40 * days, 41 * days), incidents((0, 0, "a", 0, 41 * days)), engine)[
        "incidents"
    ].to_list() == [1, 1, 0]


def test_correction_counts_from_the_moment_it_is_known(engine):
    rows = incidents((0, 5, "a", 0.5, None), (0, 30, "a", 0.2, 40))  # 300 m further south, and it will end at 40
    got = near(asked(29, 30, 40), rows, engine)
    assert got["incidents"].to_list() == [1, 1, 0]
    assert got["nearest_m"].to_list()[:2] == [pytest.approx(500, abs=0.1), pytest.approx(200, abs=0.1)]


def test_correction_of_an_announced_event_replaces_it_before_it_begins(engine):
    rows = incidents((60, 0, "a", 0, 120), (60, 10, "a", 0, 60))  # called off at 10
    assert near(asked(60, 61), rows, engine)["incidents"].to_list() == [0, 0]


def test_correction_without_a_place_takes_the_event_off_the_map(engine):
    rows = incidents((0, 5, "a", 0.5, None), (0, 30, "a", None, None))
    assert near(asked(29, 30), rows, engine)["incidents"].to_list() == [1, 0]


def test_row_that_comes_twice_counts_once(engine):
    rows = incidents((0, 5, "a", 0.5, 60), (0, 5, "a", 0.5, 60), (0, 9, "a", 0.5, 60), (0, 5, "b", 0.7, 60))
    assert near(asked(6, 10), rows, engine)["incidents"].to_list() == [2, 2]


def test_radius_is_exact_to_a_millimetre(engine):
    """1500 m along a meridian are 1500 / 6371008.8 radians."""
    degrees = math.degrees(RADIUS_M / 6_371_008.8)
    for off_m, count in ((-0.001, 1), (0.001, 0)):
        place = 43.6 + degrees * (1 + off_m / RADIUS_M)
        rows = table(TYPES, (0, 0, "a", place, -70.0, None))
        assert near(asked(1), rows, engine)["incidents"].to_list() == [count]


@pytest.mark.parametrize(
    ("lat", "lon", "other_lat", "other_lon"),
    [(-17.0, 179.9999, -17.0, -179.9999), (89.9999, 0.0, 89.9999, 180.0), (0.0, 0.0, -0.0001, -0.0001)],
    ids=["date line", "pole", "equator and Greenwich"],
)
def test_edges_of_the_map_are_no_edges(engine, lat, lon, other_lat, other_lon):
    rows = table(TYPES, (0, 0, "a", other_lat, other_lon, None))
    got = near(trips({"minute": 1, "lat": lat, "lon": lon}), rows, engine)
    assert got["nearest_m"].to_list() == [pytest.approx(haversine_m(lat, lon, other_lat, other_lon), abs=1e-6)]


def test_unknown_place_of_a_request_gives_nothing(engine):
    requests = trips({"minute": 1, "lat": 43.6}, {"minute": 1, "lat": 91.0, "lon": -70.0})
    got = near(requests, incidents((0, 0, "a", 0, None)), engine)
    assert got.select("incidents", "nearest_m").rows() == [(None, None)] * 2


def test_empty_table_is_no_incident(engine):
    got = near(asked(1, 2), incidents(), engine)
    assert got.select("incidents", "nearest_m").rows() == [(0, None)] * 2


minutes = st.integers(-300, 300)
kms = st.one_of(st.none(), st.integers(-3000, 3000).map(lambda metres: metres / 1000 + 0.0003))
events = st.lists(
    st.tuples(minutes, minutes, st.sampled_from("abcd"), kms, st.one_of(st.none(), st.integers(-300, 2000))),
    max_size=12,
    unique_by=lambda row: (row[1], row[2]),
)
requests = st.lists(st.tuples(minutes, st.integers(-2, 2)), min_size=1, max_size=10)


def make_requests(rows):
    return trips(*({"minute": minute, "lat": 43.6 + km * KM, "lon": -70.0} for minute, km in rows))


@settings(max_examples=40, deadline=None)
@given(requests, events, st.sampled_from([10, 700, 1500, 100_000]))
def test_nearby_equals_the_rule_told_in_plain_python(request_list, event_list, radius_m):
    rows = incidents(*event_list)
    for row in near(make_requests(request_list), rows, radius_m=radius_m).to_dicts():
        count, nearest_m = reference(row, rows.to_dicts(), radius_m)
        assert row["incidents"] == count
        assert row["nearest_m"] == (None if nearest_m is None else pytest.approx(nearest_m, rel=1e-9, abs=1e-6))


@settings(max_examples=20, deadline=None)
@given(requests, events, minutes)
def test_rows_known_later_change_nothing(request_list, event_list, now):
    past = make_requests([request for request in request_list if request[0] <= now])
    rows = incidents(*event_list)
    then = near(past, rows.filter(pl.col("known_at") <= at(now)))
    assert_frame_equal(near(past, rows), then, check_exact=True)


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(requests, events, st.randoms(use_true_random=False))
def test_row_order_and_engine_change_nothing(request_list, event_list, random):
    expected = near(make_requests(request_list), incidents(*event_list))
    random.shuffle(event_list)
    shuffled = make_requests(request_list)
    shuffled = shuffled[random.sample(range(shuffled.height), shuffled.height)]
    for make in ENGINES.values():
        got = near(shuffled, incidents(*event_list), make)
        assert_frame_equal(got, expected, check_exact=True, check_column_order=False)


@settings(max_examples=300, deadline=None)
@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_distance_without_sines_is_the_textbook_s(lat, lon, north, east):
    other_lat, other_lon = min(90.0, max(-90.0, lat + north)), min(180.0, max(-180.0, lon + east))
    here, there = (on_sphere(*map(sine, half_angles(*place))) for place in ((lat, lon), (other_lat, other_lon)))
    expected_m = haversine_m(lat, lon, other_lat, other_lon)
    got_m = great_circle_m(*(a - b for a, b in zip(here, there, strict=True)))
    assert got_m == pytest.approx(expected_m, rel=1e-12, abs=1e-8)
