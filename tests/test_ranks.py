"""Several ranks train as one would: the same rows a step, one folder, sums over all, and an error ends all of them."""

import os
import re
import signal
import subprocess
import sys

import polars as pl
import pytest
import torch

from hailtime.errors import ConfigError
from hailtime.training.batches import ResidentBatches, Rows
from hailtime.training.data import PreparedData
from hailtime.training.launch import RUN_NAME, share_run_name
from hailtime.training.preemption import PREEMPTED
from hailtime.training.run_folder import FINISHED, HISTORY, RESUME
from tests.test_resume import ROOT, wait_for

# Ranks draw their own noise, so without noise one rank and two must do the same.
QUIET = ["network.dropout=0", "module.forget=0", "trainer.max_epochs=3"]
PYTHON = [sys.executable]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def start(home, data, *arguments, launcher=PYTHON):
    return subprocess.Popen(
        [*launcher, ROOT / "train.py", "experiment=smoke", f"prepared={data}", *QUIET, *arguments],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, timeout_s=150):
    try:
        return process.communicate(timeout=timeout_s)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def history(folder):
    return pl.read_csv(folder / HISTORY)


@pytest.fixture(scope="module")
def data(small_run):
    return small_run.prepared.folder.resolve()


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    home = tmp_path_factory.mktemp("alone")
    told = finish(start(home, data, "run_name=x"))
    assert (home / "runs" / "x" / FINISHED).exists(), told
    return home / "runs" / "x"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "arguments"),
    [pytest.param(TORCHRUN, [], id="torchrun"), pytest.param(PYTHON, ["trainer.devices=2"], id="started-by-lightning")],
)
def test_two_ranks_end_where_one_does_in_one_folder(launcher, arguments, alone, data, tmp_path):
    told = finish(start(tmp_path, data, *arguments, launcher=launcher))
    (folder,) = (tmp_path / "runs").iterdir()  # named after one moment
    assert (folder / FINISHED).exists(), told
    for name, expected in history(alone).to_dict(as_series=False).items():
        assert history(folder)[name].to_list() == pytest.approx(expected, rel=1e-5), name
    assert {path.name for path in folder.iterdir()} == {path.name for path in alone.iterdir()}
    assert told.count("epoch  1 of 3") == 1


@pytest.mark.slow
def test_two_ranks_asked_to_go_save_and_go_on_even_alone(alone, data, tmp_path):
    process = start(tmp_path, data, "run_name=x", "trainer.devices=2")
    wait_for(tmp_path / "runs" / "x" / RESUME, process)
    process.send_signal(signal.SIGUSR1)  # to the first rank only
    told = finish(process)
    assert process.returncode == PREEMPTED, told
    finish(start(tmp_path, data, "run_name=x"))
    for name, expected in history(alone).to_dict(as_series=False).items():
        assert history(tmp_path / "runs" / "x")[name].to_list() == pytest.approx(expected, rel=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        pytest.param("data.batch_size=127", "is shared by 2 ranks.*data.batch_size=128", id="every-rank"),
        pytest.param("run_name=other", "a run goes on with the settings it was begun with", id="first-rank"),
        pytest.param("network.widht=3", "there is no setting 'network.widht'", id="before-hydra"),
    ],
)
def test_an_error_ends_all_ranks_with_one_message(argument, message, data, tmp_path):
    other = tmp_path / "runs" / "other"
    other.mkdir(parents=True)
    (other / "config.yaml").write_text("loss: {_target_: hailtime.training.losses.pinball}")
    process = start(tmp_path, data, argument, launcher=TORCHRUN)
    told = finish(process)
    assert process.returncode != 0
    assert len(re.findall(message, told)) == 1, told


def test_ranks_share_every_batch_without_overlap():
    rows = Rows(torch.zeros(103, 1), torch.zeros(103, 1, dtype=torch.int64), torch.arange(103.0))
    whole = list(ResidentBatches(rows, 10, steps_per_call=3, seed=1))
    shares = [list(ResidentBatches(rows, 10, steps_per_call=3, seed=1, rank=rank, n_ranks=2)) for rank in (0, 1)]
    for call, parts in zip(whole, zip(*shares, strict=True), strict=True):
        together = torch.cat([part.target.view(-1, 5) for part in parts], dim=1)
        assert torch.equal(together, call.target.view(-1, 10))
    unshuffled = [torch.cat([c.target for c in ResidentBatches(rows, 10, rank=rank, n_ranks=2)]) for rank in (0, 1)]
    assert torch.cat(unshuffled).sort().values.tolist() == list(range(103))


def test_ranks_that_cannot_agree_on_a_folder_are_told(monkeypatch):
    monkeypatch.delenv(RUN_NAME, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="several ranks need one run folder: give run_name"):
        share_run_name(["train.py"])
    share_run_name(["train.py", "run_name=x"])


def test_a_batch_that_ranks_cannot_share_is_refused(small_run):
    with pytest.raises(ConfigError, match=r"shared by 3 ranks .* got 512: data.batch_size=513"):
        PreparedData(small_run.prepared, small_run.spec, batch_size=512, steps_per_call=8, seed=1, n_ranks=3)
