"""What stands in front of the network, against zoneinfo, known distances and numpy."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
import torch

from hailtime.errors import SchemaError
from hailtime.schema import Schema
from hailtime.training.features import (
    CLOCK_FEATURES,
    FeatureSpec,
    RowFeatures,
    clock_changes,
    great_circle,
    model_inputs,
)
from hailtime.training.fit_features import bin_edges, fit_features
from tests.tiny_run import TINY_SCHEMA

ZONES = ["America/New_York", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"]


def spec(schema=TINY_SCHEMA, **vocabulary):
    known = {name: [] for name in schema.categorical_names} | vocabulary
    return FeatureSpec(schema.fingerprint, {}, known, 0.0, 1.0)


def clock(timezone, seconds):
    schema = Schema.from_dict({**TINY_SCHEMA.to_dict(), "timezone": timezone})
    hours, weekday = RowFeatures(schema, spec(schema)).local_clock(torch.tensor(seconds)[:, None])
    return hours.numpy(), weekday.numpy()[:, 0]


@pytest.mark.parametrize("timezone", ZONES)
def test_local_clock_is_zoneinfos_around_every_change(timezone):
    changes, _ = clock_changes(timezone)
    seconds = [change + step for change in changes for step in (-1, 0, 1)]
    seconds += [1_768_219_200 + 3601 * i for i in range(200)]
    hours, weekday = clock(timezone, seconds)
    local = [datetime.fromtimestamp(second, UTC).astimezone(ZoneInfo(timezone)) for second in seconds]
    assert weekday.tolist() == [moment.weekday() for moment in local]
    expected = [moment.hour + moment.minute / 60 + moment.second / 3600 for moment in local]
    np.testing.assert_allclose(hours[:, 0], expected, atol=1e-5)


def test_before_and_after_the_known_years_the_nearest_offset_holds():
    moments = [datetime(year, 1, 6, 17, tzinfo=UTC) for year in (1906, 2106)]  # noon in New York
    hours, weekday = clock("America/New_York", [int(moment.timestamp()) for moment in moments])
    np.testing.assert_allclose(hours[:, 0], [12.0, 12.0], atol=1e-5)
    assert weekday.tolist() == [moment.weekday() for moment in moments]


def test_daylight_saving_repeats_an_hour_and_skips_another():
    before = datetime(2026, 3, 8, 6, 59, tzinfo=UTC)  # 01:59 in New York; a minute later it is 03:00
    hours, _ = clock("America/New_York", [int((before + timedelta(minutes=m)).timestamp()) for m in (0, 1)])
    np.testing.assert_allclose(hours[:, 0], [1 + 59 / 60, 3.0], atol=1e-5)


@pytest.mark.parametrize(
    ("journey", "kilometres"),
    [
        pytest.param([40.6413, -73.7781, 51.4700, -0.4543], 5540.0, id="JFK-Heathrow"),  # published 5,540 km
        pytest.param([0.0, 0.0, 0.0, 1.0], 111.195, id="a degree of the equator"),  # 2 pi R / 360
        pytest.param([43.6, -70.9, 43.6, -70.9], 0.0, id="the same place"),
    ],
)
def test_great_circle_distance(journey, kilometres):
    distance_m = great_circle(torch.tensor([journey]))[0, 0].item()
    assert distance_m / 1000 == pytest.approx(kilometres, rel=2e-3)


def test_bearing_points_from_the_driver_to_the_rider():
    north_east = great_circle(torch.tensor([[43.0, -70.0, 43.1, -70.0], [43.0, -70.0, 43.0, -69.9]]))[:, 1:3]
    np.testing.assert_allclose(north_east.numpy(), [[0, 1], [1, 0]], atol=1e-3)


def test_values_outside_their_range_are_missing_or_clipped():
    columns = [dict(column) for column in TINY_SCHEMA.to_dict()["columns"]]
    columns[3]["out_of_range"] = "clip"  # idle_drivers
    clipping = Schema.from_dict({**TINY_SCHEMA.to_dict(), "columns": columns})
    raw = torch.tensor([[60_000.0, 900.0, 5.0], [-1.0, -5.0, torch.inf], [torch.nan, torch.nan, 3e38]])
    mended = RowFeatures(clipping, spec(clipping)).within_limits(raw).numpy()
    nan = np.nan
    np.testing.assert_array_equal(mended, np.array([[nan, 500, 5], [nan, 0, nan], [nan, nan, nan]], np.float32))


def test_a_word_means_nothing_in_another_column():
    known = spec(pickup_zone=["north", "south"], product=["xl"])
    frame = pl.DataFrame(
        {"requested_at": [0, 0, 0], "distance_m": [1.0] * 3, "idle_drivers": [1.0] * 3, "rain_mm_h": [0.0] * 3,
         "pickup_zone": ["south", "xl", None], "product": ["xl", "north", "xl"]}
    )  # fmt: skip
    _, codes = RowFeatures(TINY_SCHEMA, known)(*model_inputs(TINY_SCHEMA, known, frame))
    assert codes[:, :2].tolist() == [[2, 1], [0, 0], [0, 1]]


def test_rare_categories_are_unknown(prepared):
    fitted = fit_features(prepared.schema, prepared.part("train"), min_count=50)
    counts = prepared.part("train")["pickup_zone"].value_counts()
    assert fitted.vocabulary["pickup_zone"] == sorted(counts.filter(pl.col("count") >= 50)["pickup_zone"])


def test_every_bin_edge_is_on_the_grid_and_bins_hold_alike():
    values = np.random.default_rng(0).lognormal(size=20_000).astype(np.float32)
    edges = np.array(bin_edges(values, n_bins=16, n_cells=2048))
    cells = (edges - edges[0]) / (edges[-1] - edges[0]) * 2048
    np.testing.assert_allclose(cells, cells.round(), atol=1e-6)
    counts, _ = np.histogram(values, edges)
    assert counts.max() < 3 * len(values) / 16


@pytest.mark.parametrize(
    "values",
    [pytest.param([], id="none"), pytest.param([np.nan], id="missing"), pytest.param([5.0] * 9, id="constant")],
)
def test_a_column_without_spread_gets_one_bin(values):
    assert len(bin_edges(np.array(values, np.float32), n_bins=16, n_cells=2048)) == 2


def test_a_spec_survives_its_file(tmp_path):
    before = spec(product=["xl"])
    before.save(tmp_path / "features.json")
    assert FeatureSpec.load(tmp_path / "features.json") == before


def test_clock_features_come_last_and_in_order():
    assert CLOCK_FEATURES == ("hour_local", "hour_of_week_local")


def test_a_schema_without_numbers_is_refused_before_training(prepared):
    columns = {column.name: column for column in prepared.schema.columns if column.role != "numeric"}
    schema = replace(prepared.schema, columns=tuple(columns.values()), journey=None, routing_estimate=None)
    with pytest.raises(SchemaError, match="needs at least one numeric column"):
        fit_features(schema, prepared.part("train"))
