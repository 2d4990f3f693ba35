"""Drift against scipy, and what counts as one."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from hailtime.histograms import reference_histograms
from hailtime.monitoring.drift import ColumnCounts, drift_of, sentence
from hailtime.schema import Schema

SCHEMA = Schema.from_dict(
    {
        "source": "s",
        "timezone": "UTC",
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            "speed_mps": {"role": "numeric", "unit": "m/s"},
            "zone": {"role": "categorical"},
            "pickup_time_s": {"role": "target", "unit": "s"},
        },
    }
)


def frame(n=20_000, shift=0.0, seed=1, zones=(0.5, 0.3, 0.2), missing=0.02):
    rng = np.random.default_rng(seed)
    speed = np.where(rng.random(n) < missing, np.nan, rng.gamma(3, 2, n) + shift)
    zone = rng.choice(["a", "b", "c"], n, p=zones)
    return pl.DataFrame({"speed_mps": speed, "zone": zone, "pickup_time_s": rng.gamma(3, 100, n)}).with_columns(
        pl.col("speed_mps").fill_nan(None)
    )


def counted(reference, column, blocks=1):
    counts = ColumnCounts.like(reference)
    for block in column.to_frame().iter_slices(-(-len(column) // blocks)):
        counts.add(block.to_series())
    return counts


@pytest.fixture(scope="module")
def reference():
    return reference_histograms(SCHEMA, frame())


@pytest.mark.parametrize("shift", [0.0, 0.3, 4.0])
def test_numbers_move_as_far_as_scipy_says(reference, shift):
    histogram, live = reference["speed_mps"], frame(seed=2, shift=shift)["speed_mps"]
    drift = drift_of(histogram, counted(histogram, live, blocks=7))
    edges, means = np.array(histogram["edges"], np.float32), np.array(histogram["means"])
    before = frame()["speed_mps"].drop_nulls().to_numpy().astype(np.float32)
    after = live.drop_nulls().to_numpy().astype(np.float32)
    old, new = np.searchsorted(edges, before, side="right"), np.searchsorted(edges, after, side="right")
    assert drift.ks == pytest.approx(stats.ks_2samp(old, new).statistic, abs=1e-12)
    in_unit = stats.wasserstein_distance(means[old], means[new])
    assert drift.wasserstein == pytest.approx(in_unit / before.std(), rel=1e-6)
    p, q = (np.bincount(bins, minlength=len(edges) + 1) / len(bins) for bins in (old, new))
    assert ((p > 0).all() and (q > 0).all()) or shift == 4.0
    if shift < 4:
        assert drift.psi == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), rel=1e-9)
        # the bins lose little of what the values themselves say
        assert drift.wasserstein * before.std() == pytest.approx(stats.wasserstein_distance(before, after), abs=0.05)


@pytest.mark.parametrize(("shift", "has_moved"), [(0.0, False), (0.2, False), (3.0, True)])
def test_only_a_shift_that_matters_counts(reference, shift, has_moved):
    drift = drift_of(reference["speed_mps"], counted(reference["speed_mps"], frame(seed=3, shift=shift)["speed_mps"]))
    assert drift.has_moved == has_moved
    assert not drift.is_breaking
    assert bool(sentence("speed_mps", drift)) == has_moved


def test_few_rows_raise_no_alarm(reference):
    few = counted(reference["speed_mps"], frame(n=900, shift=5.0)["speed_mps"])
    assert drift_of(reference["speed_mps"], few).psi > 1
    assert not drift_of(reference["speed_mps"], few).has_moved


def test_values_that_stop_coming_are_a_breakage_and_no_move(reference):
    drift = drift_of(reference["speed_mps"], counted(reference["speed_mps"], frame(missing=0.3)["speed_mps"]))
    assert drift.missing == pytest.approx(0.3, abs=0.01)
    assert (drift.is_breaking, drift.has_moved) == (True, False)
    assert sentence("speed_mps", drift).startswith("speed_mps is missing in 30")


def test_a_renamed_category_is_named(reference):
    live = frame()["zone"].replace({"b": "bee"})
    drift = drift_of(reference["zone"], counted(reference["zone"], live, blocks=3))
    assert drift.new_share == pytest.approx(0.3, abs=0.01)
    assert drift.new_values == ("bee",)
    assert "'bee'" in sentence("zone", drift)


def test_categories_move_as_the_formula_says(reference):
    live = frame(zones=(0.2, 0.3, 0.5))["zone"]
    drift = drift_of(reference["zone"], counted(reference["zone"], live))
    p, q = (np.array([(z == v).mean() for v in ("a", "b", "c")]) for z in (frame()["zone"], live))
    expected = sum((b - a) * np.log(b / a) for a, b in zip(p, q, strict=True))
    assert drift.psi == pytest.approx(expected, rel=0.01)  # "other" counts as half a row


def test_counts_of_hours_add_up(reference):
    whole, parts = ColumnCounts.like(reference["zone"]), ColumnCounts.like(reference["zone"])
    whole.add(frame()["zone"])
    for block in frame().iter_slices(3000):
        parts.add_counts(counted(reference["zone"], block["zone"]))
    assert drift_of(reference["zone"], whole) == drift_of(reference["zone"], parts)


def test_a_column_of_which_nothing_comes_is_missing(reference):
    drift = drift_of(
        reference["speed_mps"], counted(reference["speed_mps"], pl.Series([None] * 2000, dtype=pl.Float64))
    )
    assert (drift.missing, drift.psi, drift.ks, drift.wasserstein) == (1.0, 0.0, None, None)
    assert drift.is_breaking
