"""Leakage: a column made of outcomes is named, a column known at the request is not, and the way out works."""

import numpy as np
import polars as pl
import pytest

from hailtime.errors import ConfigError, DataError
from hailtime.preparation.clean import clean
from hailtime.preparation.leakage import STRETCH_ROWS, check_leakage, find_leaks, read_leakage, sample_rows
from hailtime.schema import Schema
from hailtime.sources import nyc_ems, nyc_hvfhv, simulated_city
from tests.test_config import source_settings_of
from tests.test_nyc_ems import REAL as EMS
from tests.test_nyc_hvfhv import NEEDS_REAL
from tests.test_nyc_hvfhv import REAL as HVFHV

NOON_US = 1_768_219_200_000_000  # date -u -d 2026-01-12T12:00:00Z +%s, in microseconds
SECOND_US, HOUR_US = 1_000_000, 3_600_000_000
WAIT, ASKED = pl.col("pickup_time_s"), pl.col("requested_at")
HOUR = ["zone", ASKED // HOUR_US]


def town(n=30_000, seed=5):
    """Trips of ten zones over two months: a way of known length, a mood of the city that drifts, and chance."""
    rng = np.random.default_rng(seed)
    mood = np.repeat(np.cumsum(rng.normal(0, 0.05, n // 50 + 1)), 50)[:n]
    way_s = rng.gamma(4, 60, n)
    wait_s = np.round(way_s * np.exp(0.3 * np.tanh(mood)) * rng.lognormal(0, 0.5, n) + 30)
    return pl.DataFrame(
        {
            "requested_at": NOON_US + np.sort(rng.integers(0, 60 * 86_400, n)) * SECOND_US,
            "pickup_time_s": wait_s,
            "zone": [f"z{i}" for i in rng.integers(0, 10, n)],
            "way_s": way_s,
            "mood": mood,
            "chance": rng.random(n),
        }
    )


@pytest.fixture(scope="module")
def trips():
    return town()


def judged(trips, column, allowed=()):
    """What the check says about one further column, and all it says."""
    rows = trips.with_columns(column.alias("mine"))
    role = {"role": "categorical"} if rows["mine"].dtype == pl.String else {"role": "numeric", "unit": "s"}
    columns = {"id": {"role": "id"}, "requested_at": {"role": "requested_at"}, "mine": role}
    columns |= {"zone": {"role": "categorical"}, "pickup_time_s": {"role": "target", "unit": "s"}}
    schema = Schema.from_dict({"source": "town", "timezone": "Europe/Berlin", "zone": "zone", "columns": columns})
    rows = rows.with_columns(pl.col("mine").fill_nan(None)) if role["role"] == "numeric" else rows
    return find_leaks(rows, schema, allowed)


def noise(spread, n=30_000):
    return pl.Series(1 + spread * np.random.default_rng(1).standard_normal(n))


ride_s = pl.Series(np.random.default_rng(2).gamma(3, 300, 30_000))
LEAKS = {
    "target": (WAIT, "tells"),
    "target with 5 % noise": (WAIT * noise(0.05), "tells"),
    "minus target": (-WAIT, "tells"),
    "arrival in whole minutes": ((WAIT / 60).round(), "tells"),
    "target as words": ((WAIT // 10).cast(pl.String), "tells"),
    "arrival as a time in s": ((ASKED / SECOND_US + WAIT), "ends_later"),
    "arrival as a time in us": ((ASKED + WAIT * SECOND_US).cast(pl.Float64), "ends_later"),
    "request to dropoff": (WAIT + ride_s, "ends_later"),
    "request to dropoff in whole minutes": (((WAIT + ride_s) / 60).ceil(), "ends_later"),
    "wait of the next trip": (WAIT.shift(-1), "equals_later"),
    "wait of the trip 200 later": (WAIT.shift(-200), "equals_later"),
    "wait of the next trip in the zone": (WAIT.shift(-1).over("zone"), "equals_later"),
    "zone's mean of the hour": (WAIT.mean().over(HOUR), "knows_later"),
    "zone's mean of the hour without oneself": (
        pl.when(pl.len().over(HOUR) > 1).then((WAIT.sum().over(HOUR) - WAIT) / (pl.len().over(HOUR) - 1)),
        "knows_later",
    ),
    "zone's mean of nine trips around": (WAIT.rolling_mean(9, center=True).over("zone"), "knows_later"),
}


@pytest.mark.parametrize(("column", "test"), LEAKS.values(), ids=LEAKS)
def test_column_made_of_outcomes_stops_the_preparation_and_is_named(trips, column, test):
    found = judged(trips, column)
    certain = [one for one in found["suspicions"] if one["is_certain"]]
    assert {one["column"] for one in certain} == {"mine"}
    assert test in {one["test"] for one in certain}
    with pytest.raises(DataError, match=r"these know more: mine.* leakage: \{allow: \[mine\]\}"):
        check_leakage(found)


HONEST = {
    "the way": pl.col("way_s"),
    "the state of the city": pl.col("mood"),
    "way and state": pl.col("way_s") * (0.3 * pl.col("mood").tanh()).exp(),
    "chance": pl.col("chance"),
    "zone's median": WAIT.median().over("zone"),
    "zone's mean of ten trips that have arrived": WAIT.shift(8).rolling_mean(10).over("zone"),
    "a name of its own for every trip": pl.int_range(pl.len()).cast(pl.String),
    "nothing": pl.lit(None, pl.Float64),
    "one value": pl.lit(7.0),
    "mostly missing": pl.when(pl.int_range(pl.len()) % 50 == 0).then(pl.col("way_s")),
}


@pytest.mark.parametrize("column", HONEST.values(), ids=HONEST)
def test_column_known_at_the_request_is_not_suspected(trips, column):
    found = judged(trips, column)
    assert found["suspicions"] == []
    check_leakage(found)


def test_way_explains_what_a_lookup_of_its_own_finds(trips):
    """1 - mean |y - median of y's nearest in the way| / mean |y - median|, with half of the rows each."""
    found = judged(trips, pl.col("way_s"))["columns"]["mine"]
    learnt, held = trips[::2].sort("way_s"), trips[1::2]
    place = np.searchsorted(learnt["way_s"].to_numpy(), held["way_s"].to_numpy()).clip(60, learnt.height - 60)
    waits = learnt["pickup_time_s"].to_numpy()
    told = np.array([np.median(waits[p - 60 : p + 60]) for p in place])
    wait_s = held["pickup_time_s"].to_numpy()
    explained = 1 - np.abs(wait_s - told).mean() / np.abs(wait_s - np.median(waits)).mean()
    assert found["explained"] == pytest.approx(explained, abs=0.02)


def test_allowed_column_stays_and_is_still_named(trips):
    found = judged(trips, WAIT, allowed=("mine",))
    assert {(one["column"], one["is_allowed"]) for one in found["suspicions"]} == {("mine", True)}
    check_leakage(found)


def test_few_rows_say_nothing(trips):
    assert judged(trips[:400], WAIT) == {"rows": 400, "columns": {}, "suspicions": []}


def test_sample_is_all_of_a_small_part_and_stretches_of_a_large_one():
    rows = pl.DataFrame({"at": range(1_000_000)})
    assert sample_rows(rows[:90_000].lazy()).height == 90_000
    sample = sample_rows(rows.lazy())["at"]
    assert (len(sample), sample[0], sample[-1]) == (4 * STRETCH_ROWS, 0, 999_999)
    assert (sample.diff() != 1).sum() == 3


def cleaned(raw, source):
    """A source's clean trips by time and their schema, without the columns of conditions."""
    settings = source_settings_of(source)
    columns = {name: column for name, column in settings["schema"]["columns"].items() if "condition" not in column}
    if source == "simulated_city":
        columns |= source_settings_of("simulated_city_routed")["schema"]["columns"]
    schema = Schema.from_dict({**settings["schema"], "columns": columns})
    return clean(raw.table(), schema, settings["rules"])[0].sort("requested_at"), schema


def test_no_column_of_the_routed_city_is_suspected():
    found = find_leaks(*cleaned(simulated_city.load(n_requests=20_000, days=28), "simulated_city"))
    assert found["suspicions"] == []
    assert max(found["columns"], key=lambda name: found["columns"][name]["explained"]) == "routing_eta_s"


@pytest.mark.skipif(not EMS.is_dir(), reason=f"the real calls are not at {EMS}; HAILTIME_NYC_EMS names another place")
def test_no_column_of_nyc_ems_is_suspected():
    calls, schema = cleaned(nyc_ems.load(EMS), "nyc_ems")
    assert find_leaks(calls[:30_000], schema)["suspicions"] == []


@NEEDS_REAL
def test_no_column_of_nyc_hvfhv_is_suspected():
    trips, schema = cleaned(nyc_hvfhv.load(HVFHV, "hvfhv_2020*.parquet"), "nyc_hvfhv")
    assert find_leaks(trips, schema)["suspicions"] == []


@pytest.mark.parametrize(
    ("leakage", "message"),
    [
        ({"alow": ["zone"]}, "no setting 'alow'"),
        ({"allow": "zone"}, "must be a list of columns"),
        ({"allow": ["zoen"]}, "no input 'zoen', did you mean 'zone'"),
        ({"allow": ["pickup_time_s"]}, "no input 'pickup_time_s'"),
    ],
    ids=["key", "text", "unknown", "target"],
)
def test_allowance_that_cannot_be_meant_is_told(leakage, message):
    columns = {"id": {"role": "id"}, "requested_at": {"role": "requested_at"}, "zone": {"role": "categorical"}}
    columns["pickup_time_s"] = {"role": "target", "unit": "s"}
    schema = Schema.from_dict({"source": "town", "timezone": "Europe/Berlin", "columns": columns})
    with pytest.raises(ConfigError, match=message):
        read_leakage({"leakage": leakage}, schema)
