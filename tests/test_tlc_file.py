"""The month that never was has the waits and the faults of the one that was."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from hailtime.errors import DataError
from hailtime.preparation.clean import clean
from hailtime.sources.nyc_hvfhv import CENTROIDS, LOOKUP, load
from scripts.tlc_file import SAMPLE, STATS, write
from tests.test_nyc_hvfhv import NEEDS_REAL, REAL, SCHEMA, SETTINGS

pytestmark = NEEDS_REAL
N_ROWS = 50_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tlc")
    for name in (LOOKUP, CENTROIDS):
        shutil.copy(REAL / name, folder)
    write(REAL, folder / "month.parquet", N_ROWS)
    return folder


@pytest.fixture(scope="module")
def stats():
    return json.loads((REAL / STATS).read_text())


def rows_within(expected):
    """Five standard deviations of a count."""
    return pytest.approx(expected, abs=5 * np.sqrt(expected) + 1)


def test_rules_catch_as_many_as_were_counted(folder, stats):
    _, report = clean(load(folder).table(), SCHEMA, SETTINGS["rules"])
    caught = {finding.name: finding.rows for finding in report.findings}
    counted, share = stats["data_faults"], N_ROWS / stats["data_faults"]["rows"]
    ahead = (counted["on_scene_before_request"] + counted["pickup_before_request_only"]) * share
    assert caught["not_there_before_asked"] == rows_within(ahead)
    assert caught["not_for_a_slot"] == rows_within((N_ROWS - ahead) / 300)  # one second in 300 is a full five minutes
    assert caught["same_trip_twice"] <= 1  # none was


def test_waits_are_those_published(folder, stats):
    trips = pl.read_parquet(folder / "month.parquet")
    wait_min = (trips["pickup_datetime"] - trips["request_datetime"]).dt.total_seconds() / 60
    is_uber = trips["hvfhs_license_num"] == "HV0003"
    for name, rows in (("HV0003_Uber", is_uber), ("HV0005_Lyft", ~is_uber)):
        published = stats["wait_min_pickup_minus_request"][name]
        for percentile in ("p5", "p25", "p50", "p75", "p90", "p99"):
            found = wait_min.filter(rows).quantile(int(percentile[1:]) / 100)
            near = pytest.approx(published[percentile], rel=0.1 if percentile == "p99" else 0.05)
            assert found == near, (name, percentile)
    assert (wait_min > 10).sum() == rows_within(N_ROWS * stats["late_share"]["gt_10min"])


def test_arrivals_and_zones_have_their_faults(folder, stats):
    trips = pl.read_parquet(folder / "month.parquet")
    counted, share = stats["data_faults"], N_ROWS / stats["data_faults"]["rows"]
    same_or_after = trips["on_scene_datetime"] >= trips["pickup_datetime"]
    assert same_or_after.sum() == rows_within(counted["on_scene_equals_or_after_pickup"] * share)
    assert (trips["PULocationID"] == 265).sum() == rows_within(counted["unknown_pickup_zone_265"] * share)
    sample = pl.read_parquet(REAL / SAMPLE)
    assert trips.columns[: sample.width] == sample.columns


def test_pickups_fill_the_month_roughly_in_order(folder, stats):
    pickups = pl.read_parquet(folder / "month.parquet")["pickup_datetime"]
    by_hour = pickups.dt.hour().value_counts().sort("pickup_datetime")["count"].to_list()
    counted = [stats["hour_of_pickup_n"][str(hour)] * N_ROWS / stats["data_faults"]["rows"] for hour in range(24)]
    assert by_hour == [rows_within(n) for n in counted]
    assert pickups.dt.day().n_unique() == 31
    late_us = (pickups.cum_max() - pickups).dt.total_seconds()
    assert 0 < late_us.max() < 3 * 3600


def test_older_months_and_repeats_can_be_had(tmp_path):
    write(REAL, tmp_path / "month.parquet", 5_000, lyft_on_scene=False, duplicate_share=0.01)
    trips = pl.read_parquet(tmp_path / "month.parquet")
    assert trips.filter(hvfhs_license_num="HV0005")["on_scene_datetime"].null_count() > 1_000
    assert trips.filter(hvfhs_license_num="HV0003")["on_scene_datetime"].null_count() == 0
    assert trips.height - trips.unique().height == rows_within(50)


def test_a_folder_without_the_figures_is_told(tmp_path):
    with pytest.raises(DataError, match=f"must hold {STATS}"):
        write(tmp_path, tmp_path / "month.parquet", 10)
