"""Going on from another run's weights: its bins, scales and words, new words added behind them, and every weight.

Keeping the bins keeps what the weights mean. A word that the other run did not know begins as its unknown was.
"""

from dataclasses import replace
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from hailtime.errors import ConfigError, DataError
from hailtime.training.features import UNKNOWN, FeatureSpec
from hailtime.training.run_folder import CONFIG, MODEL

CATEGORIES = "categories.weight"  # the one table of embeddings, in every network that has one (networks/inputs.py)


def grown(known: FeatureSpec, seen: FeatureSpec) -> FeatureSpec:
    """What the other run knew, and behind its words those that only the new rows hold: codes stay what they were."""
    if known.schema_fingerprint != seen.schema_fingerprint:
        raise ConfigError(
            f"a warm start needs the schema of the run it starts from ({known.schema_fingerprint}), the data has "
            f"{seen.schema_fingerprint}: warm_start=null"
        )
    words = {
        name: [*old, *(word for word in seen.vocabulary[name] if word not in old)]
        for name, old in known.vocabulary.items()
    }
    return replace(known, vocabulary=words)


def start_from(network: nn.Module, run: Path, spec: FeatureSpec) -> None:
    """Gives a fresh network, built for `spec`, the weights of a run. ConfigError when they do not fit."""
    weights, known = read_weights(run), FeatureSpec.load(run / "features.json")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            value = weights.get(name)
            if value is not None and name.endswith(CATEGORIES):
                value = _with_new_rows(value, known, spec)
            if value is None or value.shape != parameter.shape:
                raise ConfigError(
                    f"a warm start needs the network of {run}, whose {name} does not fit: warm_start=null"
                )
            parameter.copy_(value)


def read_weights(run: Path) -> dict[str, Tensor]:
    """The network's weights of a finished run, by name. DataError when they cannot be read."""
    try:
        state = torch.load(run / MODEL, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise DataError(f"{run / MODEL} cannot be read as a checkpoint: {error}") from error
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}


def reason_against(run: Path, schema_fingerprint: str, network: object) -> str | None:
    """Why no training of this schema and network (its configuration) can start from a run; None when it can."""
    try:
        spec, config = FeatureSpec.load(run / "features.json"), OmegaConf.load(run / CONFIG)
        read_weights(run)
    except (DataError, OSError, ValueError) as error:
        return f"the run {run} is not at hand ({error})"
    if spec.schema_fingerprint != schema_fingerprint:
        return f"the run {run} has another schema"
    return None if config.network == network else f"the run {run} has another network"


def _with_new_rows(table: Tensor, known: FeatureSpec, spec: FeatureSpec) -> Tensor:
    """Embeddings of all columns one below another: each column's own, then its unknown's for every new word."""
    columns: tuple[Tensor, ...] = torch.split(table, known.cardinalities)
    more = [new - old for old, new in zip(known.cardinalities, spec.cardinalities, strict=True)]
    return torch.cat([torch.cat([rows, rows[UNKNOWN].expand(n, -1)]) for rows, n in zip(columns, more, strict=True)])
