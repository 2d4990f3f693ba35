"""Seeds folded into one model: the mean of their quantiles, in one file."""

import json
import shutil

import numpy as np
import pytest
import torch

from hailtime.errors import DataError
from hailtime.evaluate import evaluate
from hailtime.export import MAX_DIFFERENCE_S, export, session
from hailtime.training.ensemble import fold
from hailtime.training.features import model_inputs, raw_inputs
from hailtime.training.train import load_run, train
from tests.conftest import small_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def members(small_run, tmp_path_factory):
    """The shared run and one of another seed and network."""
    overrides = ("seed=2", "network=resnet", "trainer.max_epochs=2")
    other = train(small_config(small_run.prepared.folder, *overrides), tmp_path_factory.mktemp("other") / "run")
    return [small_run, other]


@pytest.fixture(scope="module")
def folded(members, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folded") / "mean"
    fold([run.folder for run in members], folder)
    export(folder)
    return load_run(folder)


def uncalibrated(run, frame):
    """(B, 3) seconds as the run's network says them, its quantiles and nothing after."""
    model = run.model
    with torch.no_grad():
        x_num, x_cat = model.features(*model_inputs(run.schema, run.spec, frame))
        return model.scale.to_seconds(model.network(x_num, x_cat), x_num), x_num, x_cat


def test_the_file_is_the_mean_of_the_torch_models(members, folded):
    frame = folded.prepared.part("test")
    apart = [uncalibrated(run, frame)[0] for run in members]
    assert (apart[0] - apart[1]).abs().mean() > 1  # seconds: they do differ
    _, x_num, x_cat = uncalibrated(members[0], frame)
    expected = folded.model.calibration(torch.stack(apart).mean(dim=0), x_num, x_cat).clamp(min=0)
    names = ("numeric", "categorical", "requested_at")
    inputs = dict(zip(names, raw_inputs(folded.schema, frame), strict=True))
    (said,) = session(folded.folder / "model.onnx").run(None, inputs)
    assert np.abs(said - expected.numpy()).max() <= MAX_DIFFERENCE_S
    assert json.loads((folded.folder / "export.json").read_text())["parity"]["max_abs_s"] <= MAX_DIFFERENCE_S


def test_the_mean_holds_its_interval_and_is_evaluated_as_any_run(folded):
    figures = evaluate(folded.folder, against=())["network"]
    assert 0.7 < figures["coverage_p10_p90"] < 0.9


def test_runs_of_other_features_are_refused(small_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(small_run.folder, other)
    spec = json.loads((other / "features.json").read_text())
    (other / "features.json").write_text(json.dumps(spec | {"target_scale_s": 1.0}))
    with pytest.raises(DataError, match=r"must have one set of features and data, .*other and .*small differ"):
        fold([small_run.folder, other], tmp_path / "mean")


def test_a_folder_that_holds_something_is_left_alone(members, small_run):
    with pytest.raises(DataError, match=r"needs a folder of its own, .* is not empty"):
        fold([run.folder for run in members], small_run.folder)
