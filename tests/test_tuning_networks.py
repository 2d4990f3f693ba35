"""The search: its spaces are of settings that exist, it goes on after a kill, and its best becomes an experiment."""

import math
import subprocess
import sys
import textwrap

import optuna
import pytest
import yaml
from omegaconf import OmegaConf

from hailtime.comparison.compare import networks
from hailtime.comparison.entries import LEARNERS
from hailtime.config import CONFIGS, check_command_line, chosen_source, train_config
from hailtime.errors import ConfigError
from hailtime.tuning import (
    experiment_yaml,
    first_values,
    search,
    space_of,
    suggest,
    tune_network,
)

SPACE = {"x": {"low": -3.0, "high": 3.0}, "kind": {"choices": ["a", "b"]}, "n": {"low": 1, "high": 64, "log": True}}


def bowl(trial, values):
    return (values["x"] - 1) ** 2 + (values["kind"] == "a") + math.log(values["n"])


def searched(folder, n_trials, objective=bowl, first=None):
    return search(objective, SPACE, first or {}, database=folder / "tuning.db", name="bowl", n_trials=n_trials)


@pytest.mark.slow
def test_the_search_finds_the_bottom(tmp_path):
    best = searched(tmp_path, 40).best_params
    assert best["kind"] == "b"
    assert abs(best["x"] - 1) < 0.5
    assert best["n"] <= 2


def test_a_comparison_has_the_name_of_the_yaml_and_not_of_the_city_it_shares():
    assert chosen_source([]) == train_config([]).source.schema.source == "simulated_city"
    assert chosen_source(["source=simulated_city_closure"]) == "simulated_city_closure"


def test_the_first_trial_is_the_one_given(tmp_path):
    study = searched(tmp_path, 1, first={"x": 0.5, "kind": "a", "n": 8})
    assert study.trials[0].params == {"x": 0.5, "kind": "a", "n": 8}


def test_a_study_goes_on_where_it_was_and_tries_nothing_twice(tmp_path):
    assert len(searched(tmp_path, 4).trials) == 4
    again = searched(tmp_path, 9)
    assert len(again.trials) == 9
    assert len({trial.params["x"] for trial in again.trials}) == 9
    assert len(searched(tmp_path, 9).trials) == 9  # nothing left to do


KILLED = """
    import os, signal
    from pathlib import Path
    from tests.test_tuning_networks import bowl, searched

    def objective(trial, values):
        if trial.number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return bowl(trial, values)

    searched(Path({folder!r}), 5, objective)
"""


@pytest.mark.slow
def test_a_trial_that_a_kill_cut_off_is_begun_anew(tmp_path):
    code = textwrap.dedent(KILLED).format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], cwd=CONFIGS.parent, check=False, capture_output=True)
    assert done.returncode == -9
    study = searched(tmp_path, 5)
    ended = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert len(ended) == 5
    (cut_off,) = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.FAIL]
    assert [trial.params for trial in ended].count(cut_off.params) == 1


@pytest.mark.parametrize("name", networks())
def test_every_network_has_a_space_of_settings_that_exist(name):
    config = train_config([f"network={name}"])
    first = first_values(space_of(name), config)
    assert first  # the yaml's own values are tried first
    for key, of in space_of(name).items():
        assert OmegaConf.select(config, key) is not None, key
        if "low" in of:
            assert of["low"] <= first[key] <= of["high"], key


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_every_other_learner_is_built_from_its_space(name):
    study = optuna.create_study()
    LEARNERS[name](train_config([]).source.schema, 1, **suggest(study.ask(), space_of(name)))
    LEARNERS[name](train_config([]).source.schema, 1, **first_values(space_of(name)))


def test_an_unknown_learner_is_named():
    with pytest.raises(ConfigError, match=r"search\.yaml has no 'lightgmb', did you mean 'lightgbm'"):
        space_of("lightgmb")


@pytest.fixture(scope="module")
def tuned(small_run, tmp_path_factory):
    overrides = ["experiment=smoke", f"prepared={small_run.prepared.folder}", "trainer.max_epochs=1"]
    folder = tmp_path_factory.mktemp("tune")
    study = tune_network(overrides, database=folder / "tuning.db", name="small", n_trials=2)
    return folder, overrides, study


@pytest.mark.slow
def test_a_network_is_tuned_by_its_validation_error(tuned):
    folder, _, study = tuned
    assert all(30 < trial.value < 300 for trial in study.trials)
    assert study.trials[0].params["network.dropout"] == 0.1  # the yaml's
    assert [path.name for path in folder.iterdir()] == ["tuning.db"]


@pytest.mark.slow
def test_the_best_becomes_an_experiment_that_composes(tuned):
    study = tuned[2]
    overrides = ["network=mlp", "trainer=cpu", "trainer.max_epochs=5", "source.load.folder=/somewhere", "seed=3"]
    text = experiment_yaml("tuned_x", overrides, study)
    assert text.splitlines()[1] == "# python train.py experiment=tuned_x source.load.folder=PATH"
    assert "somewhere" not in text
    assert yaml.safe_load(text)["trainer"] == {"max_epochs": 5}
    path = CONFIGS / "experiment" / "zz_of_a_test.yaml"
    path.write_text(text)
    try:
        check_command_line("train", ["experiment=zz_of_a_test"])
        config = train_config(["experiment=zz_of_a_test"])
    finally:
        path.unlink()
    assert config.optimizer.lr == pytest.approx(study.best_params["optimizer.lr"], rel=1e-3)
    assert config.network.depth == study.best_params["network.depth"]
    assert (config.trainer.accelerator, config.trainer.max_epochs, config.seed) == ("cpu", 5, 3)
