"""Optuna's search over configs/search.yaml: a SQLite study that goes on where it was, and trials cut short that lag.

`tune_network` trains networks and judges by the best validation MAE of any epoch; `search` runs any objective.
"""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as lightning
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.trial import Trial, TrialState

from hailtime.config import CONFIGS, train_config
from hailtime.errors import ConfigError, did_you_mean
from hailtime.training.train import train

log = logging.getLogger(__name__)

Space = Mapping[str, Mapping[str, Any]]
WHERE = ("source.load.folder", "source.load.url", "prepared", "run_name")
NO_CONFIG = OmegaConf.create()
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def space_of(name: str) -> Space:
    """What configs/search.yaml says of a learner. ConfigError when it says nothing."""
    spaces = OmegaConf.to_container(OmegaConf.load(CONFIGS / "search.yaml"))
    assert isinstance(spaces, dict)
    if name not in spaces:
        raise ConfigError(f"configs/search.yaml has no {name!r}{did_you_mean(name, map(str, spaces))}")
    space: Space = spaces[name]
    return space


def search(
    objective: Callable[[Trial, dict[str, Any]], float],
    space: Space,
    first: Mapping[str, Any],
    *,
    database: Path,
    name: str,
    n_trials: int,
    seed: int = 0,
) -> optuna.Study:
    """The study after `n_trials` ended trials, those of earlier calls included. The first trial is `first`.

    A trial that a kill left unfinished is begun anew with its settings.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    database.parent.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{database}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=3)
    study = optuna.create_study(
        study_name=name, storage=storage, load_if_exists=True, direction="minimize", pruner=pruner
    )
    # a sampler begun with the same seed would propose again what it proposed before the kill
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=5)
    _begin_unfinished_anew(study)
    if first and not study.get_trials(deepcopy=False, states=(*ENDED, TrialState.WAITING)):
        study.enqueue_trial(dict(first))
    n_left = n_trials - len(study.get_trials(deepcopy=False, states=ENDED))
    if n_left > 0:
        study.optimize(lambda trial: objective(trial, suggest(trial, space)), n_trials=n_left)
    return study


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """A value for every setting of a space."""
    return {key: _suggest_one(trial, key, dict(of)) for key, of in space.items()}


def first_values(space: Space, config: DictConfig = NO_CONFIG) -> dict[str, Any]:
    """The values to try first: `first` in the space, else what a configuration holds where the space has it."""
    values = {key: of["first"] if "first" in of else OmegaConf.select(config, key) for key, of in space.items()}
    return {key: value for key, value in values.items() if value in space[key].get("choices", [value])}


def tune_network(overrides: list[str], *, database: Path, name: str, n_trials: int) -> optuna.Study:
    """Tunes the network that overrides of train.py name; each trial is a training, its run folder is not kept."""
    base = train_config(overrides)
    space = space_of(network_name(base))

    def objective(trial: Trial, values: dict[str, Any]) -> float:
        folder = database.parent / f".{name}.trial"
        shutil.rmtree(folder, ignore_errors=True)
        judge = Judge(trial)
        try:
            train(changed(base, values), folder, callbacks=[judge])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        log.info("%s trial %d: %.2f s with %s", name, trial.number, judge.best, values)
        return judge.best

    first = first_values(space, base)
    return search(objective, space, first, database=database, name=name, n_trials=n_trials)


class Judge(lightning.Callback):
    """Keeps the best validation MAE, and ends a trial that lags behind the median of the trials before."""

    def __init__(self, trial: Trial) -> None:
        self.trial, self.best = trial, float("inf")

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.best = min(self.best, float(trainer.callback_metrics["val/mae_s"]))
        self.trial.report(self.best, step=trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def changed(base: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """The configuration with other values, by dotted key."""
    config = base.copy()
    with open_dict(config):
        for key, value in values.items():
            OmegaConf.update(config, key, value)
    return config


def network_name(config: DictConfig) -> str:
    """The yaml of a configuration's network, by its class's module."""
    return str(config.network._target_).split(".")[-2]


def experiment_yaml(name: str, overrides: Sequence[str], study: optuna.Study) -> str:
    """The best trial as an experiment: choices of groups, values of the command line, and what was tuned.

    Where the data is stays on the command line: it is another place on every machine.
    """
    pairs = dict(override.split("=", 1) for override in overrides)
    where = {key: value for key, value in pairs.items() if key in WHERE}
    groups = {key: value for key, value in pairs.items() if (CONFIGS / key).is_dir() and key != "experiment"}
    values = [f"{key}={value}" for key, value in pairs.items() if key not in {*where, *groups, "experiment"}]
    ended = len(study.get_trials(deepcopy=False, states=ENDED))
    lines = [
        "# @package _global_",  # Hydra reads it on the first line alone
        f"# python train.py experiment={name}{''.join(f' {key}=PATH' for key in where)}",
        f"# The best of {ended} trials: validation MAE {study.best_value:.2f} s.",
        *(["defaults:"] if groups else []),
        *(f"  - override /{group}: {choice}" for group, choice in groups.items()),
        "",
    ]
    body = OmegaConf.from_dotlist(values)
    for key, value in study.best_params.items():
        OmegaConf.update(body, key, float(f"{value:.4g}") if isinstance(value, float) else value)
    return "\n".join(lines) + OmegaConf.to_yaml(body)


def _suggest_one(trial: Trial, key: str, of: dict[str, Any]) -> Any:
    if "choices" in of:
        return trial.suggest_categorical(key, of["choices"])
    low, high, is_log = of["low"], of["high"], of.get("log", False)
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=is_log)
    return trial.suggest_float(key, low, high, log=is_log)


def _begin_unfinished_anew(study: optuna.Study) -> None:
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
