"""Settings checked all at once before any data loads.

Hydra alone lets `trainer.max_epochs=-3` and `optimizer.lr=abc` pass and gives no hint for a misspelt key.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hailtime.errors import ConfigError, did_you_mean
from hailtime.report import run_script

CONFIGS = Path(__file__).parents[2] / "configs"

# The least and greatest value of settings that would otherwise fail late or silently do nothing.
LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "save_every_min": (0, 1e6),
    "features.n_bins": (1, 1024),
    "features.min_count": (1, 1e9),
    "data.batch_size": (1, 1e9),
    "data.steps_per_call": (1, 10_000),
    "data.buffer_rows": (1, 1e12),
    "module.forget": (0, 0.5),
    "module.clip_norm": (1e-9, 1e9),
    "network.width": (1, 1e6),
    "network.depth": (1, 1000),
    "network.d_embedding": (1, 1e5),
    "network.dropout": (0, 0.95),
    "network.n_members": (1, 1024),
    "network.n_heads": (1, 1024),
    "network.d_attention": (1, 1e5),
    "network.n_hash_rows": (1, 1e8),
    "loss.delta": (1e-6, 1e6),
    "optimizer.lr": (1e-12, 10),
    "optimizer.weight_decay": (0, 10),
    "trainer.max_epochs": (1, 1e6),
    "source.load.n_requests": (1, 1e10),
    "source.load.days": (1, 36_500),
}

CHOICES = {"network.encoding": ("piecewise_linear", "standard", "quantile", "periodic")}


def train_config(overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of train.py with overrides, for whoever is not train.py."""
    with _hydra():
        return compose("train", overrides=list(overrides))


def chosen_source(overrides: Sequence[str]) -> str:
    """The name of the yaml in configs/source that overrides choose: two may tell of one city, as the closure's does."""
    with _hydra():
        config = compose("train", overrides=list(overrides), return_hydra_config=True)
    return str(config.hydra.runtime.choices.source)


def check_command_line(config_name: str, arguments: list[str]) -> None:
    """ConfigError naming every override that is unknown, of a wrong type or out of range, with the way out."""
    overrides = [a for a in arguments if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    with _hydra():
        try:
            parsed = OverridesParser.create().parse_overrides(overrides)
        except HydraException as error:
            raise ConfigError(f"an override is KEY=VALUE: {error}") from error
        groups = [o for o in parsed if _is_group(o.key_or_group)]
        problems = [p for o in groups for p in _group_problems(o)]
        if not problems:
            chosen = [o.input_line for o in groups if not o.is_sweep_override() and o.key_or_group != "experiment"]
            base = compose(config_name, overrides=[c for c in chosen if c])
            problems = [p for o in parsed if o not in groups for p in _value_problems(o, base)]
    if problems:
        raise ConfigError("\n".join(problems))


def checked_main(config_name: str, main: Callable[[], None]) -> None:
    """Runs a Hydra entry point after the command line is checked; a ConfigError is told in one line, exit status 2."""
    run_script(lambda: check_command_line(config_name, sys.argv[1:]))
    main()


class _hydra:  # noqa: N801
    """A Hydra for composing, gone afterwards: the entry point starts its own."""

    def __enter__(self) -> None:
        GlobalHydra.instance().clear()
        initialize_config_dir(str(CONFIGS), version_base="1.3").__enter__()

    def __exit__(self, *_: object) -> None:
        GlobalHydra.instance().clear()


def _is_group(key: str) -> bool:
    return (CONFIGS / key).is_dir()


def _group_problems(override: Override) -> list[str]:
    key = override.key_or_group
    options = sorted(path.stem for path in (CONFIGS / key).glob("*.yaml"))
    return [
        f"{key} has no choice {value!r}{did_you_mean(str(value), options)}"
        for value in _values(override)
        if value is not None and str(value) not in options
    ]


def _value_problems(override: Override, base: DictConfig) -> list[str]:
    key = override.key_or_group
    if override.is_add() or key.startswith("hydra"):
        return []
    known = set(_keys(base))
    if key not in known:
        groups = {path.name for path in CONFIGS.iterdir() if path.is_dir()}
        return [f"there is no setting {key!r}{did_you_mean(key, known | groups)}"]
    if override.is_delete():
        return []
    return [p for value in _values(override) for p in _type_problems(key, value, base)]


def _type_problems(key: str, value: Any, base: DictConfig) -> list[str]:
    if key.startswith("source.split."):  # a share or a date; split.py knows
        return []
    try:
        default = OmegaConf.select(base, key)
    except OmegaConfBaseException:  # a value that must be given (???) or is made at run time
        return []
    is_number = isinstance(default, (int, float)) and not isinstance(default, bool)
    if is_number and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return [f"{key} must be a number such as {default}, got {value!r}"]
    if isinstance(default, int) and is_number and isinstance(value, float) and not value.is_integer():
        return [f"{key} must be a whole number such as {default}, got {value!r}"]
    if isinstance(default, bool) and not isinstance(value, bool):
        return [f"{key} must be true or false, got {value!r}"]
    if OmegaConf.is_config(default) and not isinstance(value, (dict, list)) and value is not None:
        return [f"{key} is a group of settings, name one of them: {', '.join(str(k) for k in default)}"]
    if key in CHOICES and value not in CHOICES[key]:
        return [f"{key} has no choice {value!r}{did_you_mean(str(value), CHOICES[key])}"]
    low, high = LIMITS.get(key, (float("-inf"), float("inf")))
    if isinstance(value, (int, float)) and not low <= value <= high:
        return [f"{key} must be {low:g} to {high:g}, got {value!r}"]
    return []


def _values(override: Override) -> list[Any]:
    value = override._value
    values = value.list if isinstance(value, ChoiceSweep) and isinstance(value.list, list) else [value]
    return [v.text if isinstance(v, QuotedString) else v for v in values]


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        name = f"{prefix}{key}"
        yield name
        if not OmegaConf.is_missing(config, key) and not OmegaConf.is_interpolation(config, key):
            child = config[key]
            if isinstance(child, DictConfig):
                yield from _keys(child, f"{name}.")
