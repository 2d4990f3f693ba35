"""A training that is killed or asked to go ends as if nothing had happened; a folder of another run is left alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hailtime.errors import ConfigError, DataError
from hailtime.training.preemption import PREEMPTED
from hailtime.training.run_folder import FINISHED, HISTORY, RESUME
from hailtime.training.train import train
from tests.conftest import small_config
from tests.killing import Killer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
EPOCHS = "trainer.max_epochs=3"
IMPORTS = """
from hailtime.training.train import train
from tests.conftest import small_config
"""
# features first: were they to differ, the figures behind them could not be the same
RESULTS = ("features.json", HISTORY, "calibration.json", FINISHED)


@pytest.fixture(scope="module")
def undisturbed(small_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train(small_config(small_run.prepared.folder, EPOCHS), folder)
    return folder


@pytest.fixture(scope="module")
def killer():
    with Killer(IMPORTS) as process:
        yield process


def results(folder):
    return {name: (folder / name).read_text() for name in RESULTS}


# The first change is the folder itself. With a state saved after every call there are some fifty more.
@pytest.mark.parametrize("n", [4, 9, 16, 29, 46], ids=lambda n: f"change-{n}")
def test_a_training_killed_at_any_moment_ends_as_an_undisturbed_one(n, undisturbed, small_run, killer, tmp_path):
    overrides = [str(small_run.prepared.folder), EPOCHS, "save_every_min=0"]
    code = f"train(small_config(*{overrides!r}), Path(folder))"
    assert killer.kill_at(n, tmp_path / "run", code)
    assert not (tmp_path / "run" / FINISHED).exists()
    assert not killer.kill_at(10**9, tmp_path / "run", code)
    assert results(tmp_path / "run") == results(undisturbed)
    assert not (tmp_path / "run" / RESUME).exists()


def command(home, data, *overrides):
    return subprocess.Popen(
        [sys.executable, ROOT / "train.py", "experiment=smoke", "run_name=x", f"prepared={data}", EPOCHS, *overrides],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(file, process):
    while not file.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_preemption_signal_saves_and_exits_with_a_status_of_its_own(number, undisturbed, small_run, tmp_path):
    folder = tmp_path / "runs" / "x"
    first = command(tmp_path, small_run.prepared.folder)
    wait_for(folder / RESUME, first)
    first.send_signal(number)
    told, _ = first.communicate()
    assert first.returncode == PREEMPTED
    assert "asked to go by a signal" in told
    again = command(tmp_path, small_run.prepared.folder)
    assert "go on training" in again.communicate()[0]
    assert results(folder) == results(undisturbed)


def test_a_signal_before_the_loop_ends_the_process_with_that_status_too(small_run, tmp_path):
    process = command(tmp_path, tmp_path / "new", "source.load.n_requests=200000")
    wait_for(tmp_path / "runs" / "x" / "train.log", process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == PREEMPTED


def test_a_finished_run_is_not_trained_again_unless_told(undisturbed, small_run, tmp_path, caplog):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    caplog.set_level("INFO")
    train(small_config(small_run.prepared.folder, EPOCHS), folder)
    assert "is finished and not trained again: again=true" in caplog.text
    train(small_config(small_run.prepared.folder, "trainer.max_epochs=1", "again=true"), folder)
    assert json.loads((folder / FINISHED).read_text())["epochs"] == 1


def test_a_folder_of_other_settings_is_refused_and_the_difference_named(undisturbed, small_run):
    with pytest.raises(ConfigError, match=r"network\.width is 64 there, 32 here.*again=true to train it anew"):
        train(small_config(small_run.prepared.folder, EPOCHS, "network.width=32"), undisturbed)


def test_a_run_does_not_go_on_with_other_data(undisturbed, small_run, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    (folder / FINISHED).unlink()
    (folder / "data.json").write_text(json.dumps({"folder": "there", "fingerprint": "0" * 16}))
    with pytest.raises(DataError, match="was trained on data 0000000000000000, and"):
        train(small_config(small_run.prepared.folder, EPOCHS), folder)
