"""The rule that travels with the model: it says what the baseline says, and survives whatever comes."""

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from hailtime.baselines import Rule, portable_rule, table
from hailtime.errors import SchemaError
from hailtime.export import session
from hailtime.rule import FallbackRule, distance_m
from hailtime.schema import Schema
from hailtime.training.features import raw_inputs
from hailtime.training.fit_features import fit_features

ZONES = Schema.from_dict(
    {
        "source": "town",
        "timezone": "America/New_York",
        "zone": "zone",
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            "zone": {"role": "categorical"},
            "pickup_time_s": {"role": "target"},
        },
    }
)
JOURNEY = Schema.from_dict(
    {
        **{name: value for name, value in ZONES.to_dict().items() if name != "columns"},
        "journey": ["a_lat", "a_lon", "b_lat", "b_lon"],
        "columns": [
            *ZONES.to_dict()["columns"],
            *({"name": name, "role": "numeric", "unit": "deg", "minimum": -90} for name in ("a_lat", "b_lat")),
            *({"name": name, "role": "numeric", "unit": "deg"} for name in ("a_lon", "b_lon")),
        ],
    }
)
RULE = FallbackRule({"north": (240.0, 0.0), "8": (60.0, 0.1)}, (300.0, 0.2), 400.0, (0.5, 2.0))
EIGHT_IN_NEW_YORK_S = int(datetime(2026, 1, 12, 8, 30, tzinfo=ZoneInfo("America/New_York")).timestamp())


def ask(schema, numeric, zone, requested_at_s):
    arrays = np.float32([numeric]), np.array([[zone]], object), np.array([[requested_at_s]])
    return RULE.quantiles_s(schema, *arrays).tolist()


def test_zone_has_its_median_and_an_unknown_one_the_rest():
    assert ask(ZONES, [], "north", 0) == [[120.0, 240.0, 480.0]]
    assert ask(ZONES, [], "", 0) == [[150.0, 300.0, 600.0]]


def test_journey_is_distance_over_the_speed_of_the_local_hour():
    # A hundredth of a degree of latitude is 6,371,009 m × π / 180 / 100 = 1,111.951 m
    ((p10_s, p50_s, p90_s),) = ask(JOURNEY, [43.60, 43.61, -70, -70], "north", EIGHT_IN_NEW_YORK_S)
    assert p50_s == pytest.approx(60 + 0.1 * 1111.951, abs=0.1)
    assert (p10_s, p90_s) == pytest.approx((p50_s / 2, p50_s * 2))


@pytest.mark.parametrize("place", [np.nan, -91.0, np.inf])
def test_journey_of_which_a_place_is_unknown_or_impossible_takes_the_middle(place):
    assert ask(JOURNEY, [place, 43.61, -70, -70], "", EIGHT_IN_NEW_YORK_S) == [[200.0, 400.0, 800.0]]


def test_zone_of_the_clock_that_this_machine_lacks_takes_the_line_of_all_hours():
    elsewhere = Schema.from_dict({**JOURNEY.to_dict(), "timezone": "Moon/Tranquility"})
    assert ask(elsewhere, [43.6, 43.6, -70, -70], "", EIGHT_IN_NEW_YORK_S) == [[150.0, 300.0, 600.0]]


def test_rule_in_the_file_says_what_the_baseline_says(small_run):
    prepared, spec = small_run.prepared, small_run.spec
    test = table(prepared, spec, "test")
    expected = Rule(prepared.schema).fit(table(prepared, spec, "train"), test).predict(test)
    metadata = session(small_run.folder / "model.onnx").get_modelmeta().custom_metadata_map
    rule = FallbackRule.from_json(metadata["hailtime.rule"])
    inputs = raw_inputs(prepared.schema, prepared.part("test"))
    quantiles_s = rule.quantiles_s(prepared.schema, *inputs)
    np.testing.assert_allclose(quantiles_s[:, 1], np.maximum(expected, 0), atol=0.3)  # distances in float32 there
    assert np.isfinite(distance_m(prepared.schema, inputs[0])).mean() > 0.9
    holds = (test.target_s >= quantiles_s[:, 0]) & (test.target_s <= quantiles_s[:, 2])
    assert 0.7 < holds.mean() < 0.9  # 80 % are meant


class Town:
    """Two zones as a prepared folder would hold them: 40 trips of 200 s in the north, 40 of 500 s in the south."""

    weather = tuple({"name": name, "role": "numeric", "unit": "mm"} for name in ("rain", "snow"))
    schema = Schema.from_dict({**ZONES.to_dict(), "columns": [*ZONES.to_dict()["columns"], *weather]})

    def part(self, name):
        times_s = [200.0] * 40 + [500.0] * 40
        if name == "calibration":
            times_s = [100.0, *[200.0] * 7, 400.0, 400.0]  # in the north: half, the same and twice the median
        zones = ["north"] * 40 + ["south"] * 40
        return pl.DataFrame(
            {
                "request_id": [str(i) for i in range(len(times_s))],
                "requested_at": [EIGHT_IN_NEW_YORK_S * 1_000_000] * len(times_s),
                "zone": zones[: len(times_s)],
                "rain": [0.0] * len(times_s),
                "snow": [0.0] * len(times_s),
                "pickup_time_s": times_s,
            }
        )


def test_zones_have_their_names_and_the_spread_is_that_of_later_trips():
    town = Town()
    rule = portable_rule(town, fit_features(town.schema, town.part("train")))
    assert rule.lines == {"north": (200.0, 0.0), "south": (500.0, 0.0)}
    assert rule.otherwise == (350.0, 0.0)
    assert rule.spread == pytest.approx((0.95, 2.0))  # ratios 0.5, 1 × 7, 2 × 2: numpy's 10 % lies at 0.9 of the first


def test_rule_is_read_as_it_was_written():
    assert FallbackRule.from_json(RULE.to_json()) == RULE


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", RULE.to_json().replace("0.5", "1.5"), RULE.to_json().replace("400.0", "NaN")],
    ids=["nothing", "list", "empty", "spread above one", "not a number"],
)
def test_rule_that_cannot_be_used_is_refused(text):
    with pytest.raises(SchemaError, match=r"^a rule "):
        FallbackRule.from_json(text)
