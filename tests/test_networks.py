"""The contract of every network and encoding: each yaml in configs/network/ is held to it without being named here."""

import logging
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from hailtime.config import CHOICES, CONFIGS
from hailtime.errors import ConfigError
from hailtime.export import OPSET
from hailtime.training.features import FeatureSpec
from hailtime.training.fit_features import bin_edges, moments, places
from hailtime.training.losses import pinball
from hailtime.training.networks.encodings import ENCODINGS, NormalScore, PiecewiseLinear, Standardised
from hailtime.training.train import build_network

FEATURES = FeatureSpec(
    schema_fingerprint="",
    numeric_edges={"speed": [0.0, 1.0, 4.0], "pickup_lat": [-1.0, 1.0], "pickup_lon": [-1.0, 0.5, 1.0, 2.0]},
    numeric_moments={"speed": [0.5, 1.0], "pickup_lat": [0.0, 0.5], "pickup_lon": [0.1, 0.7]},
    numeric_places={"speed": [0.0, 0.7, 1.0], "pickup_lat": [0.0, 1.0], "pickup_lon": [0.0, 0.3, 0.6, 1.0]},
    vocabulary={"zone": ["north", "south"], "product": ["xl"]},
    target_center_s=0.0,
    target_scale_s=1.0,
)
NETWORKS = sorted(path.stem for path in (CONFIGS / "network").glob("*.yaml"))
EVERY = [*((name, "piecewise_linear") for name in NETWORKS), *(("mlp", encoding) for encoding in ENCODINGS)]
SMALL = {"width": 16, "depth": 2, "d_embedding": 4, "n_members": 3, "n_heads": 2, "n_hash_rows": 16, "d_attention": 4}

every_network = pytest.mark.parametrize(("name", "encoding"), sorted(set(EVERY)))


def build(name, encoding):
    config = OmegaConf.load(CONFIGS / "network" / f"{name}.yaml")
    settings = SMALL | {"encoding": encoding} | ({} if "width" in config else {"d_embedding": 16})
    config.update({key: value for key, value in settings.items() if key in config})
    torch.manual_seed(0)
    return build_network(OmegaConf.create({"network": config}), FEATURES).eval()


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    x_num = torch.from_numpy(rng.normal(size=(n, 3)).astype(np.float32))
    x_num[rng.random((n, 3)) < 0.2] = torch.nan
    highs = FEATURES.cardinalities
    return x_num, torch.from_numpy(np.stack([rng.integers(0, high, n) for high in highs], axis=1))


@every_network
@pytest.mark.parametrize("n", [1, 7])
def test_output_is_finite_and_in_order(name, encoding, n):
    quantiles = build(name, encoding)(*batch(n))
    assert quantiles.shape == (n, 3)
    assert torch.isfinite(quantiles).all()
    assert (quantiles.diff(dim=1) > 0).all()


@every_network
def test_a_row_does_not_depend_on_its_batch(name, encoding):
    network, (x_num, x_cat) = build(name, encoding), batch(9)
    together = network(x_num, x_cat)
    alone = torch.cat([network(x_num[i : i + 1], x_cat[i : i + 1]) for i in range(9)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@every_network
def test_every_parameter_gets_a_gradient(name, encoding):
    network = build(name, encoding)
    x_num, x_cat = batch(512)
    pinball(network(x_num, x_cat), torch.randn(512)).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@every_network
def test_one_batch_can_be_fitted(name, encoding):
    network, (x_num, x_cat) = build(name, encoding).train(), batch(64)
    target = torch.randn(64, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    first = pinball(network.eval()(x_num, x_cat), target).item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = pinball(network(x_num, x_cat), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first


@every_network
def test_onnx_says_the_same_with_standard_operators(name, encoding):
    network = build(name, encoding)
    rows = torch.export.Dim("rows", min=1, max=2**20)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, batch(2), input_names=["x_num", "x_cat"], dynamic_shapes=({0: rows}, {0: rows}),
            opset_version=OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
    assert {node.domain for node in program.model_proto.graph.node} == {""}
    assert len(program.model_proto.functions) == 0
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for n in (1, 7):
        x_num, x_cat = batch(n, seed=n)
        (said,) = session.run(None, {"x_num": x_num.numpy(), "x_cat": x_cat.numpy()})
        np.testing.assert_allclose(said, network(x_num, x_cat).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_member_of_tabm_is_trained_on_its_own():
    network, inputs = build("tabm", "piecewise_linear"), batch(8)
    members = network.train()(*inputs)
    assert members.shape == (8, 3, 3)
    assert (members.diff(dim=-1) > 0).all()
    assert members.std(dim=1).min() > 0  # no two say the same
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    torch.testing.assert_close(network.train()(*inputs).mean(dim=1), network.eval()(*inputs))


def fitted_on(values):
    edges = bin_edges(values, n_bins=48, n_cells=2048)
    spec = {"numeric_moments": {"a": moments(values, edges)}, "numeric_places": {"a": places(values, edges)}}
    return FeatureSpec("", {"a": edges}, {}, 0.0, 1.0, **spec)


@pytest.fixture
def skewed():
    return np.random.default_rng(0).gamma(2.0, size=20_000).astype(np.float32)


def test_standardised_is_scikit_learns_within_the_edges(skewed):
    features = fitted_on(skewed)
    inside = np.clip(skewed, *np.array(features.numeric_edges["a"], np.float32)[[0, -1]])[:, None]
    ours = Standardised(features)(torch.from_numpy(skewed[:, None])).numpy()
    np.testing.assert_allclose(ours, StandardScaler().fit_transform(inside), atol=1e-4)


def test_normal_score_is_scikit_learns_quantile_transform(skewed):
    theirs = QuantileTransformer(n_quantiles=1000, output_distribution="normal").fit_transform(skewed[:, None])
    ours = NormalScore(fitted_on(skewed))(torch.from_numpy(skewed[:, None])).numpy()
    middle = np.abs(theirs) < 2  # 48 bins: the first and last hold 2 % each
    assert np.abs(ours - theirs)[middle].max() < 0.1


def test_the_command_line_knows_every_encoding():
    assert set(CHOICES["network.encoding"]) == set(ENCODINGS)


def test_heads_that_do_not_divide_the_width_are_refused():
    config = OmegaConf.load(CONFIGS / "network" / "ft_transformer.yaml")
    config.update({"d_embedding": 10, "n_heads": 4})
    with pytest.raises(ConfigError, match=r"d_embedding must be a multiple of n_heads, got 10 and 4"):
        build_network(OmegaConf.create({"network": config}), FEATURES)


def test_an_encoding_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"network\.encoding has no choice 'quantil', did you mean 'quantile'"):
        build("mlp", "quantil")


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
