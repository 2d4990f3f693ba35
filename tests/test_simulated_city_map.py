"""The simulated city's map: zones, the river and its bridges, the highway."""

import numpy as np
import pytest

from hailtime.sources import city_map
from hailtime.sources.city_map import zones


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


def test_places_drawn_in_a_zone_lie_in_it():
    zone = np.arange(60).repeat(50)
    drawn = city_map.draw_places(np.random.default_rng(1), zone)
    assert city_map.zone_at(drawn).tolist() == zone.tolist()
    assert np.abs(drawn).max() < city_map.CITY_RADIUS_KM + 0.1
