import numpy as np
import torch
from sklearn.metrics import mean_pinball_loss

from hailtime.metrics import pinball_s
from hailtime.training.losses import pinball


def test_pinball_is_scikit_learns():
    rng = np.random.default_rng(0)
    target, predicted = rng.normal(size=500), np.sort(rng.normal(size=(500, 3)), axis=1)
    by_quantile = [mean_pinball_loss(target, predicted[:, i], alpha=q) for i, q in enumerate((0.1, 0.5, 0.9))]
    ours = pinball(torch.from_numpy(predicted), torch.from_numpy(target)).item()
    np.testing.assert_allclose(ours, by_quantile[0] + 2 * by_quantile[1] + by_quantile[2], rtol=1e-9)
    np.testing.assert_allclose(pinball_s(predicted, target), np.mean(by_quantile), rtol=1e-9)


def test_the_best_constant_is_the_quantiles():
    target = torch.from_numpy(np.random.default_rng(1).exponential(size=4000))
    constant = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([constant], lr=0.02)
    for _ in range(600):
        optimizer.zero_grad()
        pinball(constant.expand(4000, 3), target).backward()
        optimizer.step()
    expected = np.quantile(target.numpy(), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(constant.detach().numpy(), expected, atol=0.05)
