"""The losses against scikit-learn, SciPy, PyTorch and numbers worked out by hand."""

import numpy as np
import pytest
import torch
from scipy.special import huber as scipys_huber
from sklearn.metrics import mean_pinball_loss

from hailtime.metrics import pinball_s
from hailtime.training.losses import asymmetric_huber, huber, pinball

LOSSES = [pinball, huber, asymmetric_huber]


def rows(n=500, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), np.sort(rng.normal(size=(n, 3)), axis=1)


def said(loss, predicted, target, **settings):
    return loss(torch.from_numpy(predicted), torch.from_numpy(target), **settings).item()


def by_quantile(target, predicted):
    return [mean_pinball_loss(target, predicted[:, i], alpha=q) for i, q in enumerate((0.1, 0.5, 0.9))]


def test_pinball_is_scikit_learns():
    target, predicted = rows()
    low, middle, high = by_quantile(target, predicted)
    np.testing.assert_allclose(said(pinball, predicted, target), low + 2 * middle + high, rtol=1e-9)
    np.testing.assert_allclose(pinball_s(predicted, target), np.mean([low, middle, high]), rtol=1e-9)


@pytest.mark.parametrize("delta", [0.1, 0.7, 3.0])
def test_huber_is_scipys_at_the_median_and_scikit_learns_pinball_at_the_tails(delta):
    target, predicted = rows()
    low, _, high = by_quantile(target, predicted)
    middle = scipys_huber(delta, target - predicted[:, 1]).mean() / delta
    np.testing.assert_allclose(said(huber, predicted, target, delta=delta), low + middle + high, rtol=1e-9)


def test_asymmetric_huber_worked_out_by_hand():
    # delta 2; errors 1, −1, 4: Huber over delta 1 / 4, 1 / 4, 4 − 1; low: omega 0.6, high: 1 − 0.9; the median twice
    predicted, target = np.array([[4.0, 6.0, 1.0]]), np.array([5.0])
    expected = 0.6 * 0.25 + 2 * (1 - 0.3) * 0.25 + 0.9 * 3
    assert said(asymmetric_huber, predicted, target, delta=2.0, omega=[0.6, 0.3, 0.9]) == pytest.approx(expected)


def test_asymmetric_huber_at_half_is_torchs_huber():
    target, predicted = rows()
    expected = [
        torch.nn.functional.huber_loss(torch.from_numpy(predicted[:, i]), torch.from_numpy(target), delta=0.5).item()
        for i in range(3)
    ]
    ours = said(asymmetric_huber, predicted, target, delta=0.5, omega=[0.5] * 3)
    np.testing.assert_allclose(ours, 0.5 * (expected[0] + 2 * expected[1] + expected[2]) / 0.5, rtol=1e-9)


def test_asymmetric_huber_with_a_sharp_corner_is_pinball():
    target, predicted = rows()
    assert said(asymmetric_huber, predicted, target, delta=1e-6) == pytest.approx(said(pinball, predicted, target))


@pytest.mark.parametrize("loss", LOSSES)
def test_an_ensembles_loss_is_the_mean_of_its_members(loss):
    target, _ = rows()
    members = np.stack([rows(seed=seed)[1] for seed in range(4)], axis=1)
    alone = [said(loss, members[:, member], target) for member in range(4)]
    assert said(loss, members, target) == pytest.approx(np.mean(alone))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_that_of_finite_differences(loss):
    target, predicted = rows(20)
    inputs = torch.from_numpy(predicted).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, torch.from_numpy(target)), inputs)


def best_constant(loss, target, **settings):
    constant = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([constant], lr=0.02)
    for _ in range(600):
        optimizer.zero_grad()
        loss(constant.expand(len(target), 3), target, **settings).backward()
        optimizer.step()
    return constant.detach().numpy()


def test_the_best_constant_of_pinball_is_the_quantiles():
    target = torch.from_numpy(np.random.default_rng(1).exponential(size=4000))
    expected = np.quantile(target.numpy(), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(best_constant(pinball, target), expected, atol=0.05)


@pytest.mark.slow
def test_a_higher_omega_promises_later():
    target = torch.from_numpy(np.random.default_rng(1).exponential(size=4000))
    even, late = (best_constant(asymmetric_huber, target, omega=[0.1, omega, 0.9])[1] for omega in (0.5, 0.7))
    assert late > 1.2 * even
