"""The same commit, data and seed give the same figures in another process; a run folder is enough to train again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hailtime.errors import ConfigError, DataError
from hailtime.replay import differences, replay, settings_of
from hailtime.training.origin import read_origin
from hailtime.training.run_folder import HISTORY, MODEL
from tests.conftest import small_config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def train_py(home, *overrides):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, ROOT / "train.py", *overrides]
    return subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def trained(small_run, tmp_path_factory):
    """runs/a, trained for an epoch by a process of its own."""
    home = tmp_path_factory.mktemp("home")
    data = f"prepared={small_run.prepared.folder}"
    done = train_py(home, "experiment=smoke", "run_name=a", "trainer.max_epochs=1", "seed=5", data)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "runs" / "a"


def weights(run):
    return torch.load(run / MODEL, weights_only=True)["state_dict"]


def test_a_run_says_by_which_code_command_packages_and_machine_it_was_made(trained):
    origin = read_origin(trained)
    assert origin["seed"] == 5
    assert "seed=5" in origin["command"]
    assert origin["packages"]["torch"] == torch.__version__
    assert origin["machine"]["threads"] == torch.get_num_threads()
    assert len(origin["code"].rstrip("+")) >= 12
    data = json.loads((trained / "data.json").read_text())
    assert data["source"] == "simulated_city"
    assert data["cleaning"]["rows_in"] > data["cleaning"]["rows_out"] > data["parts"]["train"]["rows"]


def test_a_replay_in_another_process_is_the_same_to_the_last_bit(trained):
    done = train_py(trained.parents[1], "from_run=runs/a", "run_name=b")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the replay is the same as runs/a" in done.stdout
    again = trained.parent / "b"
    assert (again / HISTORY).read_text() == (trained / HISTORY).read_text()
    first, second = weights(trained), weights(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_replay_with_other_figures_says_which_and_fails(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "runs" / "a")
    header, row = (run / HISTORY).read_text().splitlines()
    (run / HISTORY).write_text(f"{header}\n{row[:-1]}{(int(row[-1]) + 1) % 10}\n")
    done = train_py(tmp_path, "from_run=runs/a", "run_name=b")
    assert done.returncode == 1
    assert "1 of 6 figures differ, the first is epoch 0 val/mae_s" in done.stdout


def test_a_replay_on_other_data_is_refused(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "a")
    (run / "data.json").write_text(json.dumps({"fingerprint": "0" * 16}))
    with pytest.raises(DataError, match="was trained on data 0000000000000000, and"):
        replay(small_config(tmp_path, f"from_run={run}"), [], tmp_path / "b")


def test_a_replay_takes_no_other_settings(trained, tmp_path):
    config = small_config(tmp_path, f"from_run={trained}", "network.width=32")
    with pytest.raises(ConfigError, match=r"takes its settings from the run, got network\.width as well"):
        settings_of(trained, config, ["network.width=32"])
    config = small_config(tmp_path, f"from_run={trained}", "save_every_min=3", "seed=9")
    settings = settings_of(trained, config, ["save_every_min=3"])
    assert (settings.save_every_min, settings.seed, settings.trainer.max_epochs) == (3, 5, 1)


def test_other_packages_are_named(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "a")
    assert list(differences(run)) == []
    origin = read_origin(run)
    origin["packages"]["numpy"] = "1.0"
    (run / "origin.json").write_text(json.dumps(origin))
    ((name, there, _),) = differences(run)
    assert (name, there) == ("numpy", "1.0")
