"""The same training on a CUDA GPU: chosen by itself, and as good as the CPU's."""

import pytest
import torch

from hailtime.evaluate import predict
from hailtime.metrics import summary
from hailtime.training.train import train
from tests.conftest import small_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU that torch sees"),
]


def test_training_on_a_gpu_ends_at_the_cpus_error(small_run, tmp_path):
    torch.cuda.reset_peak_memory_stats()
    run = train(small_config(small_run.prepared.folder, "trainer=auto"), tmp_path / "run")
    assert torch.cuda.max_memory_allocated() > 0  # it did run there
    rows = run.prepared.part("test")
    actual_s = rows["pickup_time_s"].to_numpy()
    on_gpu, on_cpu = (summary(predict(one, rows), actual_s)["mae_s"] for one in (run, small_run))
    assert on_gpu == pytest.approx(on_cpu, rel=0.05)
