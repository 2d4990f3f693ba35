import numpy as np
import polars as pl
import pytest
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from hailtime.metrics import by_slice, summary
from hailtime.slices import slice_labels


def rows(n=500, seed=0):
    rng = np.random.default_rng(seed)
    return np.sort(rng.uniform(0, 600, (n, 3)), axis=1), rng.uniform(0, 600, n)


def test_errors_are_scikit_learns():
    predicted, actual = rows()
    figures = summary(predicted, actual)
    assert figures["mae_s"] == pytest.approx(mean_absolute_error(actual, predicted[:, 1]))
    assert figures["rmse_s"] == pytest.approx(root_mean_squared_error(actual, predicted[:, 1]))


def test_figures_worked_out_by_hand():
    predicted = np.array([[50.0, 100, 150], [50, 100, 150], [50, 100, 150], [50, 100, 150]])
    actual = np.array([100.0, 160, 40, 300])  # errors 0, −60, 60, −200
    figures = summary(predicted, actual)
    assert figures["bias_s"] == -50.0
    assert figures["mae_s"] == 80.0
    assert figures["median_abs_error_s"] == 60.0
    assert figures["within_2_min"] == 0.75
    assert figures["coverage_p10_p90"] == 0.25
    assert figures["below_p10"] == 0.25
    assert figures["above_p90"] == 0.5
    assert figures["width_p10_p90_s"] == 100.0


def test_a_single_number_has_no_interval():
    assert "coverage_p10_p90" not in summary(np.array([1.0]), np.array([2.0]))


def test_slices_are_the_whole():
    predicted, actual = rows()
    labels = pl.Series("zone", np.random.default_rng(1).choice(["north", "south"], 500))
    parts = by_slice(predicted, actual, {"zone": labels})["zone"]
    weighted = sum(part["mae_s"] * part["n"] for part in parts.values()) / 500
    assert weighted == pytest.approx(summary(predicted, actual)["mae_s"])


def test_rain_is_sliced_into_dry_and_two_halves():
    rain = pl.Series("rain_mm_h", [0.0] * 60 + [1.0] * 10 + [2.0] * 10 + [9.0] * 20 + [None] * 5)
    assert slice_labels(rain).value_counts().sort("count")["count"].to_list() == [5, 20, 20, 60]


def test_rare_categories_are_sliced_together():
    zone = pl.Series("zone", ["a"] * 9 + ["b"] * 5 + ["c", "d", None])
    assert slice_labels(zone, max_values=2).to_list() == ["a"] * 9 + ["b"] * 5 + ["other", "other", "missing"]
