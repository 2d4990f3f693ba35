"""The contract of every network and encoding: each yaml in configs/network/ is held to it without being named here."""

import logging
import warnings
from dataclasses import replace

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
from hailtime.training.networks.dropout import Dropout
from hailtime.training.networks.encodings import ENCODINGS, NormalScore, PiecewiseLinear, Standardised
from hailtime.training.networks.learned_map import LearnedMap
from hailtime.training.train import build_network

FEATURES = FeatureSpec(
    schema_fingerprint="",
    numeric_edges={
        "speed": [0.0, 1.0, 4.0],
        "pickup_lat": [-1.0, 1.0],
        "pickup_lon": [-1.0, 0.5, 1.0, 2.0],
        "driver_lat": [-2.0, 1.0],
        "driver_lon": [-1.0, 0.0, 1.0],
    },
    numeric_moments={name: [0.1, 0.7] for name in ("speed", "pickup_lat", "pickup_lon", "driver_lat", "driver_lon")},
    numeric_places={
        "speed": [0.0, 0.7, 1.0],
        "pickup_lat": [0.0, 1.0],
        "pickup_lon": [0.0, 0.3, 0.6, 1.0],
        "driver_lat": [0.0, 1.0],
        "driver_lon": [0.0, 0.4, 1.0],
    },
    vocabulary={"zone": ["north", "south"], "product": ["xl"]},
    target_center_s=0.0,
    target_scale_s=1.0,
    journey=["driver_lat", "driver_lon", "pickup_lat", "pickup_lon"],
)
NETWORKS = sorted(path.stem for path in (CONFIGS / "network").glob("*.yaml"))
EVERY = [*((name, "piecewise_linear") for name in NETWORKS), *(("mlp", encoding) for encoding in ENCODINGS)]
SMALL = {"width": 16, "depth": 2, "d_embedding": 4, "n_members": 3, "n_heads": 2, "n_hash_rows": 16, "d_attention": 4}
SMALL["map_sides"] = [2, 4]

every_network = pytest.mark.parametrize(("name", "encoding"), sorted(set(EVERY)))


def build(name, encoding):
    config = OmegaConf.load(CONFIGS / "network" / f"{name}.yaml")
    settings = SMALL | {"encoding": encoding} | ({} if "width" in config else {"d_embedding": 16})
    config.update({key: value for key, value in settings.items() if key in config})
    torch.manual_seed(0)
    return build_network(OmegaConf.create({"network": config}), FEATURES).eval()


def batch(n, seed=0):
    rng = np.random.default_rng(seed)
    x_num = torch.from_numpy(rng.normal(size=(n, 5)).astype(np.float32))
    x_num[rng.random((n, 5)) < 0.2] = torch.nan
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout1d):
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


def learned_map(**changed):
    torch.manual_seed(0)
    features = replace(FEATURES, **changed)
    return LearnedMap(features, d_embedding=4, sides=[2, 4]).eval()


def at(lat_1, lon_1, lat_2, lon_2):
    return torch.tensor([[0.5, lat_2, lon_2, lat_1, lon_1]])  # in the order of numeric_edges


def corners(values, y, x):
    """The bilinear value in a grid (D, rows, columns) at a place in cells, in plain Python."""
    top, left = min(int(y), values.shape[1] - 2), min(int(x), values.shape[2] - 2)
    down, right = y - top, x - left
    return (
        (1 - down) * (1 - right) * values[:, top, left] + (1 - down) * right * values[:, top, left + 1]
        + down * (1 - right) * values[:, top + 1, left] + down * right * values[:, top + 1, left + 1]
    )  # fmt: skip


def test_a_place_is_the_sum_over_grids_of_its_four_corners():
    places = learned_map()
    for grid in places.grids:
        torch.nn.init.normal_(grid)
    start, middle, end = places(at(-1.25, -0.4, 0.75, 1.9))[0]
    for said, (lat, lon) in ((start, (-1.25, -0.4)), (middle, (-0.25, 0.75)), (end, (0.75, 1.9))):
        y, x = (lat + 2) / 3, (lon + 1) / 3  # shares of the extent of both ends: -2 to 1 and -1 to 2
        expected = sum(corners(grid[0], y * n, x * n) for grid, n in zip(places.grids, (2, 4), strict=True))
        torch.testing.assert_close(said, expected, rtol=1e-4, atol=1e-5)


def test_driver_and_rider_read_the_same_map():
    places = learned_map()
    there, back = places(at(-1.0, -0.5, 0.5, 1.5))[0], places(at(0.5, 1.5, -1.0, -0.5))[0]
    torch.testing.assert_close(there, back.flip(0))
    torch.testing.assert_close(places(at(-1.0, -0.5, -9.0, 9.0))[0, 2], places(at(-1.0, -0.5, -2.0, 2.0))[0, 2])


def test_a_missing_place_is_not_on_the_map():
    places = learned_map()
    torch.nn.init.normal_(places.missing_D)
    start, middle, end = places(at(-1.0, torch.nan, 0.5, 1.5))[0]
    assert torch.equal(start, places.missing_D)
    assert torch.equal(middle, places.missing_D)
    torch.testing.assert_close(end, places(at(0.0, 0.0, 0.5, 1.5))[0, 2])


def test_without_a_journey_there_is_no_map():
    assert learned_map(journey=[]).n_tokens == 0
    assert list(learned_map(journey=[]).parameters()) == []


def test_grids_that_do_not_fit_into_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"must each divide the largest of them, got \[3, 8\]"):
        LearnedMap(FEATURES, d_embedding=4, sides=[3, 8])


def test_weights_with_the_tables_that_older_run_folders_hold_are_read():
    old, new = PiecewiseLinear.of(FEATURES, 4), PiecewiseLinear.of(FEATURES, 4)
    state = old.state_dict() | {"bins.row_of_cell": torch.zeros(8), "bins.first_cell_N": torch.zeros(5)}
    new.load_state_dict(state)
    x_BN = torch.tensor([[0.5, 0.1, torch.nan, -1.5, 0.2]])
    assert torch.equal(new(x_BN), old(x_BN))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean_of_numbers_and_gradients(share):
    torch.manual_seed(1)
    x = torch.ones(1001, 999, requires_grad=True)  # not a multiple of four
    kept = Dropout(share)(x)
    kept.sum().backward()
    is_zero = (kept == 0).float()
    deviation = (share * (1 - share) / x.numel()) ** 0.5
    assert is_zero.mean().item() == pytest.approx(share, abs=5 * deviation + 1e-5)
    by_row_and_column = torch.cat([is_zero.mean(dim=0), is_zero.mean(dim=1)])  # none is favoured
    assert (by_row_and_column - share).abs().max() <= 6 * (share * (1 - share) / 999) ** 0.5 + 0.004
    assert kept.mean().item() == pytest.approx(1.0, abs=1e-2)
    torch.testing.assert_close(x.grad, kept.detach())  # what is dropped learns nothing, the rest by as much more
    torch.testing.assert_close(Dropout(share).eval()(x), x)


def test_dropout_draws_anew_and_repeats_with_a_seed():
    x, layer = torch.ones(64, 64), Dropout(0.3)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


def test_dropout_breaks_no_graph_that_torch_compiles():
    layer = torch.compile(Dropout(0.5), backend="eager", fullgraph=True)
    assert (layer(torch.ones(64, 64)) == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
