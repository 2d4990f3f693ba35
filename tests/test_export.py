"""The ONNX file is the whole model: what it holds, what it says, and what export refuses."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from hailtime.errors import ExportError
from hailtime.evaluate import predict
from hailtime.export import MAX_DIFFERENCE_S, export, hard_rows, parity, session, to_onnx, torch_answers
from hailtime.schema import Schema
from hailtime.training.features import raw_inputs
from hailtime.training.train import train
from tests.conftest import small_config

NAMES = ("numeric", "categorical", "requested_at")


@pytest.fixture(scope="module")
def model_path(small_run):
    return small_run.folder / "model.onnx"


@pytest.fixture(scope="module")
def runtime(model_path):
    return session(model_path)


def ask(runtime, inputs):
    return runtime.run(None, dict(zip(NAMES, inputs, strict=True)))[0]


def test_inputs_and_output_are_the_contract(runtime, small_run):
    schema = small_run.schema
    got = [(i.name, i.type, i.shape[1]) for i in runtime.get_inputs()]
    assert got == [
        ("numeric", "tensor(float)", len(schema.numeric)),
        ("categorical", "tensor(string)", len(schema.categorical)),
        ("requested_at", "tensor(int64)", 1),
    ]
    (output,) = runtime.get_outputs()
    assert (output.name, output.type, output.shape[1]) == ("pickup_time_s", "tensor(float)", 3)


def test_the_file_needs_nothing_beside_it(model_path):
    model = onnx.load(model_path, load_external_data=False)
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx.ml"}
    assert model.ir_version <= 10  # the newest that ONNX Runtime 1.18 loads
    assert {o.domain: o.version for o in model.opset_import}[""] <= 21
    assert len(model.functions) == 0


def test_no_number_is_clipped_by_a_limit_of_more_than_32_bits(model_path):
    """ONNX Runtime 1.22 to 1.30 gets such a Clip of int64 wrong for two rows and more: each becomes the upper limit."""
    graph = onnx.load(model_path).graph
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    limits = [constants[name] for node in graph.node if node.op_type == "Clip" for name in node.input[1:] if name]
    assert limits
    assert all(abs(float(limit)) < 2**31 for limit in limits)


def test_the_metadata_say_what_the_model_is(runtime, small_run):
    said = runtime.get_modelmeta().custom_metadata_map
    assert Schema.from_json(said["hailtime.schema"]).fingerprint == small_run.schema.fingerprint
    assert json.loads(said["hailtime.export"])["data_fingerprint"] == small_run.prepared.fingerprint
    assert json.loads(said["hailtime.metrics"])["network"]["mae_s"] > 0
    histograms = json.loads(said["hailtime.histograms"])
    assert set(histograms) == {*small_run.schema.numeric_names, *small_run.schema.categorical_names, "pickup_time_s"}


def test_reference_histograms_count_every_training_row(runtime, prepared):
    histograms = json.loads(runtime.get_modelmeta().custom_metadata_map["hailtime.histograms"])
    train = prepared.part("train")
    speed = histograms["driver_speed_mps"]
    values = train["driver_speed_mps"].drop_nulls().to_numpy().astype(np.float32)
    expected, _ = np.histogram(values, [-np.inf, *speed["edges"], np.inf])
    assert speed["counts"] == expected.tolist()
    assert sum(speed["counts"]) + speed["missing"] == len(train)
    zones = histograms["pickup_zone"]
    assert sum(zones["counts"].values()) + zones["other"] + zones["missing"] == len(train)


def test_parity_holds_on_every_hard_set(small_run):
    report = json.loads((small_run.folder / "export.json").read_text())["parity"]
    assert {"test", "batch 1", "batch 7", "all missing", "unknown categories", "clock changes"} <= set(report)
    assert max(report.values()) <= MAX_DIFFERENCE_S


def test_answers_are_finite_and_in_order_whatever_is_asked(runtime, small_run):
    for name, inputs in hard_rows(small_run.schema, small_run.prepared.part("test")):
        answers = ask(runtime, inputs)
        assert np.isfinite(answers).all(), name
        assert (answers >= 0).all(), name
        assert (np.diff(answers, axis=1) >= 0).all(), name


def test_the_answer_depends_on_the_words_and_on_the_clock(runtime, small_run):
    rows = raw_inputs(small_run.schema, small_run.prepared.part("test").head(200))
    base = ask(runtime, rows)
    other_words = (rows[0], rows[1][::-1].copy(), rows[2])
    other_hour = (rows[0], rows[1], rows[2] + 6 * 3600)
    assert np.abs(ask(runtime, other_words) - base).max() > 1
    assert np.abs(ask(runtime, other_hour) - base).max() > 1


@pytest.mark.slow
def test_export_refuses_a_model_that_says_something_else(small_run):
    network = small_run.model.network
    with torch.no_grad():
        before = network.head.linear.bias.clone()
        content = to_onnx(small_run).SerializeToString()
        network.head.linear.bias[1] += 0.5 / small_run.spec.target_scale_s  # half a second
        try:
            with pytest.raises(ExportError, match=r"they differ by 0\.\d+ s on the rows"):
                parity(small_run, content, small_run.prepared)
        finally:
            network.head.linear.bias.copy_(before)


def test_export_refuses_an_answer_that_is_no_number(small_run):
    broken = replace(small_run, model=torch.nn.Module())
    broken.model.forward = lambda *inputs: torch.full((len(inputs[0]), 3), torch.nan)
    with pytest.raises(ExportError, match="must be a finite number"):
        parity(broken, (small_run.folder / "model.onnx").read_bytes(), small_run.prepared)


def test_a_truncated_file_is_refused(model_path):
    with pytest.raises(ExportError, match="onnxruntime must load the file"):
        session(model_path.read_bytes()[:5000])


def test_probe_rows_hold_pytorchs_answers(small_run):
    with np.load(small_run.folder / "probe.npz", allow_pickle=False) as probe:
        inputs = (probe["numeric"], probe["categorical"].astype(object), probe["requested_at"])
        np.testing.assert_array_equal(torch_answers(small_run, inputs), probe["pickup_time_s"])
        assert np.isnan(probe["numeric"][-1]).all()


@pytest.mark.slow
def test_a_network_on_a_routing_estimate_learns_the_residual_and_exports(tmp_path):
    config = small_config(tmp_path / "city", "source=simulated_city_routed", "trainer.max_epochs=3")
    run = train(config, tmp_path / "run")
    rows = run.prepared.part("test").drop_nulls("routing_eta_s")
    actual, estimate = rows["pickup_time_s"].to_numpy(), rows["routing_eta_s"].to_numpy()
    assert np.abs(predict(run, rows)[:, 1] - actual).mean() < 0.9 * np.abs(estimate - actual).mean()
    later = rows.with_columns(rows["routing_eta_s"] + 60)  # a minute more on the road is about a minute more
    assert 30 < (predict(run, later) - predict(run, rows))[:, 1].mean() < 90
    assert export(tmp_path / "run")["parity"]["routing_eta_s missing"] <= MAX_DIFFERENCE_S
