"""Folds trained runs into one run folder whose network is their mean: evaluated, exported and served as any other.

Seeds of one network, or different networks; they must have read the same data with the same features.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from hailtime.errors import DataError
from hailtime.training.data import to_rows
from hailtime.training.networks.ensemble import Ensemble
from hailtime.training.run_folder import MODEL, finish, freeze
from hailtime.training.streaming import sample
from hailtime.training.train import Run, build_network, calibrate, load_run


def fold(folders: Sequence[Path], into: Path) -> Run:
    """The run folder of the mean of these runs, calibrated anew. DataError when they do not belong together."""
    runs = [load_run(folder) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        if run.spec != first.spec or run.prepared.fingerprint != first.prepared.fingerprint:
            raise DataError(
                f"runs to fold must have one set of features and data, {run.folder} and {first.folder} differ: "
                "train them with the same source and features, only the seed or the network different"
            )
    if into.exists() and any(into.iterdir()):
        raise DataError(f"the folded run needs a folder of its own, {into} is not empty: name another")
    config = _config(runs, into)
    network = build_network(config, first.spec)
    assert isinstance(network, Ensemble)
    for member, run in zip(network.members, runs, strict=True):
        member.load_state_dict(run.model.network.state_dict())
    freeze(config, first.prepared, first.spec, into)
    weights = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    torch.save({"state_dict": weights}, into / MODEL)
    rows = to_rows(first.schema, first.spec, sample(first.prepared, "calibration"))
    run = calibrate(into, config, first.prepared, first.spec, network.eval(), rows)
    finish(into, {"folded": len(runs)})
    return run


def _config(runs: Sequence[Run], into: Path) -> DictConfig:
    """The first run's settings with a network of all members; `folded` says from which runs."""
    config = runs[0].config.copy()
    members = [OmegaConf.merge(run.config.network, {"_partial_": True}) for run in runs]
    target = f"{Ensemble.__module__}.{Ensemble.__qualname__}"
    with open_dict(config):
        config.network = {"_target_": target, "members": members}
        config.run_name = into.name
        config.folded = [str(run.folder) for run in runs]
    return config
