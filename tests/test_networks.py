"""The contract of every network: each yaml in configs/network/ is held to it without being named here."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from hailtime.config import CONFIGS
from hailtime.training.features import FeatureSpec
from hailtime.training.losses import pinball
from hailtime.training.networks.inputs import PiecewiseLinear
from hailtime.training.train import build_network

FEATURES = FeatureSpec(
    schema_fingerprint="",
    numeric_edges={"a": [0.0, 1.0, 4.0], "b": [-1.0, 1.0], "c": [0.0, 0.5, 1.0, 2.0]},
    vocabulary={"zone": ["north", "south"], "product": ["xl"]},
    target_center_s=0.0,
    target_scale_s=1.0,
)
NETWORKS = sorted(path.stem for path in (CONFIGS / "network").glob("*.yaml"))
SMALL = {"width": 16, "depth": 2, "d_embedding": 4}


def build(name):
    config = OmegaConf.load(CONFIGS / "network" / f"{name}.yaml")
    config.update({key: value for key, value in SMALL.items() if key in config})
    torch.manual_seed(0)
    return build_network(OmegaConf.create({"network": config}), FEATURES).eval()


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    x_num = torch.from_numpy(rng.normal(size=(n, 3)).astype(np.float32))
    x_num[rng.random((n, 3)) < 0.2] = torch.nan
    highs = FEATURES.cardinalities
    return x_num, torch.from_numpy(np.stack([rng.integers(0, high, n) for high in highs], axis=1))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n", [1, 7])
def test_output_is_finite_and_in_order(name, n):
    quantiles = build(name)(*batch(n))
    assert quantiles.shape == (n, 3)
    assert torch.isfinite(quantiles).all()
    assert (quantiles.diff(dim=1) > 0).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_does_not_depend_on_its_batch(name):
    network, (x_num, x_cat) = build(name), batch(9)
    together = network(x_num, x_cat)
    alone = torch.cat([network(x_num[i : i + 1], x_cat[i : i + 1]) for i in range(9)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name):
    network = build(name)
    x_num, x_cat = batch(512)
    pinball(network(x_num, x_cat), torch.randn(512)).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("name", NETWORKS)
def test_one_batch_can_be_fitted(name):
    network, (x_num, x_cat) = build(name).train(), batch(64)
    target = torch.randn(64, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    first = pinball(network.eval()(x_num, x_cat), target).item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = pinball(network(x_num, x_cat), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first


def test_piecewise_linear_is_a_table_of_bins_times_the_encoding_of_the_paper():
    """Against the paper's own definition: start + sum over bins of clamp((x − left) / width, 0, 1) × step."""
    edges = [[0.0, 1.0, 4.0], [-1.0, 1.0]]
    encoding = PiecewiseLinear(edges, d_embedding=5)
    x = torch.tensor([[0.5, -1.0], [3.0, 0.25], [9.0, -7.0], [1.0, 1.0]])
    for feature, e in enumerate(edges):
        edge = torch.tensor(e)
        share = ((x[:, feature, None] - edge[:-1]) / edge.diff()).clamp(0, 1)
        expected = encoding.start_ND[feature] + share @ encoding.step_NKD[feature, : len(e) - 1]
        torch.testing.assert_close(encoding(x)[:, feature], expected)


def test_piecewise_linear_has_no_jump_anywhere():
    edges = [np.sort(np.random.default_rng(0).choice(2048, 20, replace=False)).astype(float).tolist()]
    edges[0][0], edges[0][-1] = 0.0, 2048.0
    encoding = PiecewiseLinear(edges, d_embedding=3)
    torch.nn.init.normal_(encoding.step_NKD)
    x = torch.linspace(-10, 2058, 40_001)[:, None]
    steps = encoding(x)[:, 0].diff(dim=0).abs().max()
    assert steps < 0.5  # a bin's step is of size 1 and at least 20 points wide


def test_a_missing_number_has_a_point_of_its_own():
    encoding = PiecewiseLinear([[0.0, 1.0]], d_embedding=2)
    torch.nn.init.constant_(encoding.missing_ND, 7.0)
    assert encoding(torch.tensor([[torch.nan]])).flatten().tolist() == [7.0, 7.0]
