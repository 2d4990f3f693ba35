"""The same training on a CUDA GPU: chosen by itself, and as good as the CPU's in every way it can be run."""

import polars as pl
import pytest
import pytorch_lightning as lightning
import torch

from hailtime.evaluate import predict
from hailtime.metrics import summary
from hailtime.training.data import PreparedData
from hailtime.training.run_folder import HISTORY, RESUME
from hailtime.training.train import train
from tests.conftest import small_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU that torch sees"),
]


class StopAfter(lightning.Callback):
    """Ends the process's training as a kill would, at the first step after some epochs."""

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == self.n_epochs:
            raise Killed


class Killed(Exception):
    pass


def mae_s(run):
    rows = run.prepared.part("test")
    return summary(predict(run, rows), rows["pickup_time_s"].to_numpy())["mae_s"]


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param([], id="by-itself"),
        pytest.param(["trainer=gpu", "trainer.precision=bf16-mixed"], id="bf16"),
        pytest.param(["trainer.precision=bf16-mixed", "compile=true"], id="compiled"),
        pytest.param(["compile=reduce-overhead"], id="cuda-graphs"),
        pytest.param(["data.resident=false", "data.buffer_rows=3000"], id="streamed"),
    ],
)
def test_training_on_a_gpu_ends_at_the_cpus_error(overrides, small_run, tmp_path):
    torch.cuda.reset_peak_memory_stats()
    run = train(small_config(small_run.prepared.folder, "trainer=auto", *overrides), tmp_path / "run")
    assert torch.cuda.max_memory_allocated() > 0  # it did run there
    assert mae_s(run) == pytest.approx(mae_s(small_run), rel=0.05)


def test_the_table_stays_on_the_gpu_and_batches_are_slices_of_it(small_run):
    data = PreparedData(small_run.prepared, small_run.spec, batch_size=128, steps_per_call=8, seed=1)
    rows = data.batches("train", 128, seed=1).rows.to(torch.device("cuda"))
    assert data.keeps("train", torch.device("cuda"))
    assert rows.take(slice(0, 128)).x_num.data_ptr() == rows.x_num.data_ptr()


def test_a_training_stopped_on_a_gpu_goes_on_to_the_same_figures(small_run, tmp_path):
    """Two epochs of three, then the third, against three at once: the same but for the order of float sums."""
    config = small_config(small_run.prepared.folder, "trainer=gpu", "trainer.max_epochs=3")
    train(config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, tmp_path / "run", [StopAfter(2)])
    assert (tmp_path / "run" / RESUME).exists()
    train(config, tmp_path / "run")
    whole, resumed = (pl.read_csv(tmp_path / name / HISTORY)["val/mae_s"] for name in ("whole", "run"))
    assert resumed.to_list() == pytest.approx(whole.to_list(), rel=1e-3)
