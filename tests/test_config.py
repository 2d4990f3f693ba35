"""Settings: every yaml composes and builds, and a wrong override says what exists."""

import subprocess
import sys

import pytest
import pytorch_lightning as lightning
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from hailtime.config import CONFIGS, check_command_line, train_config
from hailtime.errors import ConfigError
from hailtime.preparation.dataset import check_settings
from hailtime.preparation.from_config import source_settings

CHOICES = [
    (group.name, path.stem)
    for group in sorted(CONFIGS.iterdir())
    if group.is_dir()
    for path in sorted(group.glob("*.yaml"))
    if path.stem != "prediction_log"  # whose schema is a live model's: tests/test_retrain_window.py
]
FOLDER = "source.load.folder=somewhere"


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_builds(group, choice):
    config = train_config([f"{group}={choice}", "run_name=x", "+source.load.folder=somewhere"])
    if not (choice == "gpu" and not torch.cuda.is_available()):
        assert isinstance(instantiate(config.trainer, logger=False), lightning.Trainer)
    assert all(isinstance(callback, lightning.Callback) for callback in instantiate(config.callbacks).values())
    assert instantiate(config.loss)(torch.zeros(2, 3), torch.ones(2)) > 0
    optimizer = instantiate(config.optimizer)([torch.nn.Parameter(torch.zeros(3))])
    assert instantiate(config.scheduler)(optimizer, total_steps=20).get_last_lr()[0] > 0
    assert callable(instantiate(config.source.load, _partial_=True))
    assert check_settings(source_settings(config)).source
    assert issubclass(get_class(config.network._target_), torch.nn.Module)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("network=mpl", "network has no choice 'mpl', did you mean 'mlp'", id="choice"),
        pytest.param("network.encoding=quantil", "no choice 'quantil', did you mean 'quantile'", id="value"),
        pytest.param("netwrok=mlp", "no setting 'netwrok', did you mean 'network'", id="group"),
        pytest.param("network.widht=64", "no setting 'network.widht', did you mean 'network.width'", id="key"),
        pytest.param("optimizer.lr=abc", "optimizer.lr must be a number such as", id="text-for-number"),
        pytest.param("trainer.max_epochs=-3", "trainer.max_epochs must be 1 to", id="negative"),
        pytest.param("data.batch_size=2.5", "data.batch_size must be a whole number", id="fraction"),
        pytest.param("network.dropout=true", "network.dropout must be a number", id="bool-for-number"),
        pytest.param("optimizer.fused=3", "optimizer.fused must be true or false", id="number-for-bool"),
        pytest.param("module=5", "module is a group of settings, name one of them: forget", id="value-for-group"),
        pytest.param("network.width=64,-1", "network.width must be 1 to", id="one-of-a-sweep"),
        pytest.param("~callbacks.early_stoping", "did you mean 'callbacks.early_stopping'", id="delete"),
        pytest.param("network.width=[", "an override is KEY=VALUE", id="syntax"),
    ],
)
def test_a_wrong_override_says_what_exists(override, message):
    with pytest.raises(ConfigError, match=message):
        check_command_line("train", [override])


def test_all_wrong_overrides_are_told_at_once():
    with pytest.raises(ConfigError) as told:
        check_command_line("train", ["network.widht=1", "optimizer.lr=x", "seed=-1"])
    assert len(str(told.value).splitlines()) == 3


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["network.width=64", "trainer.max_epochs=2"], id="values"),
        pytest.param(["experiment=smoke", "seed=2"], id="experiment"),
        pytest.param(["source=nyc_ems", FOLDER], id="source"),
        pytest.param(["-m", "network.width=64,128", "seed=1,2"], id="sweep"),
        pytest.param(["~callbacks.early_stopping", "+trainer.log_every_n_steps=1"], id="delete-and-add"),
        pytest.param(["source.split.test=2026-03-20"], id="date-for-share"),
        pytest.param(["trainer=cpu", "optimizer.lr=1"], id="whole-number-for-fraction"),
        pytest.param(["source.conditions.weather.key=pickup_zone", "hydra.run.dir=x"], id="null-default-and-hydra"),
        pytest.param(["source.load.scenarios=[{kind: closure, from: 2026-03-25}]"], id="list-of-scenarios"),
    ],
)
def test_right_overrides_pass(overrides):
    check_command_line("train", overrides)


def test_train_exits_2_with_one_line(tmp_path):
    command = [sys.executable, str(CONFIGS.parent / "train.py"), "trainer.max_epochs=-3"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert said.stderr == "ConfigError: trainer.max_epochs must be 1 to 1e+06, got -3\n"


@pytest.mark.slow
def test_a_setting_that_must_be_given_is_named(tmp_path):
    command = [sys.executable, str(CONFIGS.parent / "train.py"), "source=nyc_ems", f"hydra.run.dir={tmp_path}/run"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert "must be given: source.load.folder=..." in said.stderr + said.stdout


def source_settings_of(source):
    """A source's yaml as plain data."""
    return OmegaConf.to_container(OmegaConf.load(CONFIGS / "source" / f"{source}.yaml"))
