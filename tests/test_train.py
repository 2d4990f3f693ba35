"""Training: what a run folder holds, that seeds decide, and what is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from omegaconf import OmegaConf

from hailtime.errors import ConfigError, DataError
from hailtime.evaluate import predict
from hailtime.export import export
from hailtime.preparation.from_config import prepare_source
from hailtime.training.batches import ResidentBatches, Rows
from hailtime.training.callbacks import rising_average
from hailtime.training.data import to_rows
from hailtime.training.train import load_run, train
from tests.conftest import small_config


def test_a_run_folder_is_all_that_is_needed(small_run):
    names = {path.name for path in small_run.folder.iterdir()}
    assert names >= {"config.yaml", "schema.json", "features.json", "model.ckpt", "calibration.json", "history.csv"}
    pictures = {path.name for path in (small_run.folder / "plots").iterdir()}
    assert pictures >= {
        "learning_curve.png",
        "predicted_against_actual.png",
        "interval_coverage.png",
        "reliability.png",
    }
    rows = small_run.prepared.part("test").head(50)
    np.testing.assert_array_equal(predict(load_run(small_run.folder), rows), predict(small_run, rows))


def test_training_learns(small_run):
    history = pl.read_csv(small_run.folder / "history.csv").drop_nulls("val/mae_s")["val/mae_s"]
    assert history[-1] < 0.8 * history[0]


def test_the_kept_weights_are_the_best_epochs(small_run):
    history = pl.read_csv(small_run.folder / "history.csv").drop_nulls("val/mae_s")["val/mae_s"]
    rows = small_run.prepared.part("validation")
    error_s = predict(load_run(small_run.folder), rows)[:, 1] - rows["pickup_time_s"].to_numpy()
    assert np.abs(error_s).mean() == pytest.approx(history.min(), abs=0.01)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(small_run, tmp_path):
    again = train(small_config(small_run.prepared.folder), tmp_path / "again")
    for name, weight in small_run.model.network.state_dict().items():
        assert torch.equal(weight, again.model.network.state_dict()[name]), name


def test_metrics_hold_every_figure_and_slice(small_run):
    metrics = json.loads((small_run.folder / "metrics.json").read_text())
    assert metrics["network"]["n"] == metrics["rows"] == len(small_run.prepared.part("test"))
    assert 0.5 < metrics["network"]["coverage_p10_p90"] < 0.95
    assert metrics["best_possible"]["mae_s"] < metrics["network"]["mae_s"] < metrics["rule"]["mae_s"]
    assert set(metrics["slices"]) == {"hour_local", "pickup_zone", "pickup_area", "rain_mm_h"}
    for parts in metrics["slices"].values():
        assert sum(part["n"] for part in parts.values()) == metrics["rows"]


def numbered(n):
    return Rows(torch.arange(float(n))[:, None], torch.zeros(n, 1, dtype=torch.int64), torch.arange(float(n)))


def test_shuffled_batches_bring_each_row_once_in_a_new_order():
    batches = ResidentBatches(numbered(100), batch_size=10, steps_per_call=3, seed=1)
    first, second = (torch.cat([rows.target for rows in batches]) for _ in range(2))
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(100))
    assert first.tolist() != second.tolist()
    assert [len(rows) for rows in batches] == [30, 30, 30, 10]
    assert len(batches) == 4


def test_rows_stay_together_when_shuffled():
    for rows in ResidentBatches(numbered(100), batch_size=10, seed=1):
        assert torch.equal(rows.x_num[:, 0], rows.target)


def test_unshuffled_batches_bring_every_row():
    sizes = [len(rows) for rows in ResidentBatches(numbered(25), batch_size=10)]
    assert sizes == [10, 10, 5]


def test_averaging_rises_to_its_decay():
    averaged, current = [torch.tensor([0.0])], [torch.tensor([1.0])]
    average = rising_average(0.99)
    average(averaged, current, 1)
    assert averaged[0].item() == pytest.approx(1 - 2 / 11)
    average([torch.tensor([0.0])], current, 10_000)


@pytest.fixture
def broken(small_run, tmp_path):
    shutil.copytree(small_run.folder, tmp_path / "run")
    return tmp_path / "run"


def test_a_checkpoint_of_another_schema_is_refused(broken):
    spec = json.loads((broken / "features.json").read_text())
    spec["vocabulary"]["pickup_zone"].append("Atlantis")
    (broken / "features.json").write_text(json.dumps(spec))
    with pytest.raises(DataError, match="trained on another schema or network"):
        load_run(broken)


def test_features_of_another_schema_are_refused(broken):
    schema = json.loads((broken / "schema.json").read_text())
    schema["timezone"] = "UTC"
    (broken / "schema.json").write_text(json.dumps(schema))
    with pytest.raises(DataError, match=r"features\.json and schema\.json of a run must belong together"):
        load_run(broken)


def test_a_truncated_checkpoint_is_refused(broken):
    checkpoint = broken / "model.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        load_run(broken)


def test_a_checkpoint_with_code_in_it_is_not_run(broken, tmp_path):
    class Bad:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",))

    torch.save({"state_dict": Bad()}, broken / "model.ckpt")
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        load_run(broken)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["config.yaml", "features.json", "model.ckpt"])
def test_a_missing_file_is_named(broken, name):
    (broken / name).unlink()
    with pytest.raises(DataError, match=f"a run folder holds {name}"):
        load_run(broken)


def test_data_of_another_schema_is_refused(small_run):
    other = replace(small_run.spec, schema_fingerprint="0" * 12)
    with pytest.raises(DataError, match="features and data must have one schema"):
        to_rows(small_run.schema, other, small_run.prepared.part("test"))


def test_data_prepared_anew_is_not_taken_for_what_the_run_was_trained_on(small_run, tmp_path):
    prepare_source(small_config(tmp_path / "city", "source.load.seed=8"))
    moved = replace(small_run, config=OmegaConf.merge(small_run.config, {"prepared": str(tmp_path / "city")}))
    with pytest.raises(DataError, match=r"was trained on data \w{16}, and .*city holds \w{16} by now: prepare"):
        assert moved.prepared


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"needs a CUDA GPU, torch .* sees none here: trainer=cpu"):
        train(small_config(tmp_path, "trainer=gpu"), tmp_path / "run")


def test_an_export_of_an_untrained_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="train with python"):
        export(tmp_path)
