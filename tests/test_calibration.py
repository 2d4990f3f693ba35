"""Intervals: a tenth in each tail, of all rows and of every slice that is large enough, as a lookup in the graph."""

import numpy as np
import pytest
import torch

from hailtime.training.calibration import Calibration, Slicing, fit_calibration, place_in, slicings_of

N = 24_000


def rows(n=N, seed=0):
    """x_num: an hour and rain; x_cat: one of three zones, the last rare."""
    rng = np.random.default_rng(seed)
    x_num = np.stack([rng.uniform(0, 24, n), rng.exponential(size=n)], axis=1).astype(np.float32)
    return torch.from_numpy(x_num), torch.from_numpy(rng.choice(3, (n, 1), p=[0.6, 0.385, 0.015]))


def slicing(feature, column, cuts, n):
    return Slicing(feature, column, cuts, [1.0] * n, [1.0] * n)


ZONE = slicing("zone", 0, None, 3)
RAIN = slicing("rain", 1, [0.5, 1.0], 4)


def tails(calibration, quantiles, target, x_num, x_cat, which):
    low, _, high = calibration(quantiles, x_num, x_cat).unbind(dim=1)
    return (target < low)[which].float().mean().item(), (target > high)[which].float().mean().item()


def far_too_narrow(n=N):
    return torch.tensor([[60.0, 70.0, 100.0]]).expand(n, 3)


def test_a_tenth_is_left_in_each_tail():
    target = torch.from_numpy(np.random.default_rng(0).exponential(100, N)).float()
    fitted = fit_calibration(far_too_narrow(), target, *rows(), guard=0.0)
    found = tails(fitted, far_too_narrow(), target, *rows(), slice(None))
    assert found == (pytest.approx(0.1, abs=0.005), pytest.approx(0.1, abs=0.005))


def test_every_large_slice_gets_its_own_tenths_and_a_small_one_keeps_those_of_all():
    (x_num, x_cat), rng = rows(), np.random.default_rng(1)
    spread = torch.tensor([10.0, 40.0, 200.0])[x_cat[:, 0]] * (1 + (x_num[:, 1] > 1))  # zone times rain
    target = 500 + spread * torch.from_numpy(rng.normal(size=N)).float()
    quantiles = torch.tensor([[490.0, 500.0, 510.0]]).expand(N, 3)
    fitted = fit_calibration(quantiles, target, x_num, x_cat, [ZONE, RAIN], guard=0.0)
    for zone in (0, 1):
        for rain in (x_num[:, 1] <= 0.5, x_num[:, 1] > 1):
            found = tails(fitted, quantiles, target, x_num, x_cat, (x_cat[:, 0] == zone) & rain)
            assert found == (pytest.approx(0.1, abs=0.02), pytest.approx(0.1, abs=0.02))
    zones = fitted.slicings[0]
    assert zones.above[2] == 1.0  # 1.5 % of the rows are fewer than 500
    assert zones.above[1] / zones.above[0] == pytest.approx(4.0, rel=0.1)
    assert fitted.slicings[1].above[2] / fitted.slicings[1].above[0] == pytest.approx(2.0, rel=0.1)


def test_slices_that_do_not_differ_are_left_alone():
    target = torch.from_numpy(np.random.default_rng(3).normal(500, 10, N)).float()
    quantiles = torch.tensor([[490.0, 500.0, 510.0]]).expand(N, 3)
    assert fit_calibration(quantiles, target, *rows(), [ZONE]).slicings == []


def test_a_missing_number_is_a_slice_of_its_own():
    x_num = torch.tensor([[0.0, 0.2], [0.0, 0.5], [0.0, 0.7], [0.0, 3.0], [0.0, torch.nan]])
    assert place_in(RAIN, x_num, torch.zeros(5, 1).long()).tolist() == [0, 0, 1, 2, 3]


def test_the_graphs_lookup_is_the_product_of_the_factors():
    x_num, x_cat = rows(200)
    x_num[::7, 1] = torch.nan
    rng = np.random.default_rng(2)
    slicings = [
        Slicing(s.feature, s.column, s.cuts, *rng.uniform(0.5, 2, (2, len(s.below))).tolist()) for s in (ZONE, RAIN)
    ]
    stretched = Calibration(2.0, 3.0, slicings)(torch.tensor([[-1.0, 0.0, 1.0]]).expand(200, 3), x_num, x_cat)
    for i in range(200):
        factors = np.array([2.0, 3.0])
        for s in slicings:
            place = place_in(s, x_num[i : i + 1], x_cat[i : i + 1]).item()
            factors *= [s.below[place], s.above[place]]
        np.testing.assert_allclose(stretched[i], [-factors[0], 0.0, factors[1]], rtol=1e-5)


def test_settings_build_the_same_again():
    before = Calibration(1.1, 0.9, [ZONE, RAIN])
    again = Calibration(**before.settings())
    assert again.settings() == before.settings()


def test_factors_of_zero_do_not_cross():
    wild = Calibration(below=0.0, above=0.0)(torch.tensor([[1.0, 5.0, 9.0]]), *rows(1))
    assert wild.tolist() == [[5.0, 5.0, 5.0]]


def test_the_fit_guards_against_weeks_that_differ():
    rng = np.random.default_rng(0)
    width = np.repeat([80.0, 120.0], 5000)  # the second half is wilder
    target = torch.from_numpy(rng.normal(0, width)).float()
    quantiles = torch.tensor([[-100.0, 0.0, 100.0]]).expand(10_000, 3)
    guarded, plain = (fit_calibration(quantiles, target, *rows(10_000), guard=g).overall[2].item() for g in (0.5, 0.0))
    assert plain == pytest.approx(1.2816, rel=0.05)  # the normal's 90 % point at the mean width of 100
    assert guarded > 1.05 * plain


def test_hours_zone_and_named_columns_are_sliced_by(prepared, small_run):
    slicings = slicings_of(prepared.schema, small_run.spec, ["rain_mm_h", "pickup_area"], prepared.part("train"))
    assert [s.feature for s in slicings] == ["hour_local", "pickup_zone", "rain_mm_h", "pickup_area"]
    hours = torch.zeros(3, slicings[0].column + 1)
    hours[:, slicings[0].column] = torch.tensor([0.0, 1.0, 23.999])
    assert place_in(slicings[0], hours, torch.zeros(3, 6).long()).tolist() == [0, 1, 23]
