"""The settings of a retraining, from one yaml (`configs/retrain.yaml`), checked before anything begins."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

import yaml

from hailtime.errors import ConfigError, did_you_mean

STAGES = ("shadow", "canary", "watch")


@dataclass(frozen=True)
class Due:
    """When to retrain."""

    every_h: float | None
    alerts: list[str]
    new_rows: int | None
    undo: bool
    pause_h: float


@dataclass(frozen=True)
class Window:
    """What to train on."""

    days: float
    min_rows: int
    alert_lag_min: float
    recent_days: float | None
    old_per_new: float


@dataclass(frozen=True)
class Parts:
    """Shares of the new rows, and the longest that they may be."""

    validation: float
    calibration: float
    test: float
    most_h: float


@dataclass(frozen=True)
class GateSettings:
    """What a challenger must pass."""

    margin: float
    confidence: float
    slice_worse: float
    slice_rows: int
    coverage: list[float]
    kept: float
    missing_points: float
    scratch: bool
    sanity: list[dict[str, Any]]


@dataclass(frozen=True)
class RolloutSettings:
    """The way to everybody."""

    stages: list[str]
    canary_percent: float
    shadow_h: float
    canary_h: float
    watch_h: float
    rows: int
    min_rows: int
    little: str
    worse: float
    latency_ratio: float
    latency_slack_ms: float
    failed: float
    poll_s: float


@dataclass(frozen=True)
class RetrainSettings:
    """As the yaml says what each is for. ConfigError when one cannot work."""

    log: str
    store: str | None
    repository: str
    url: str
    folder: str
    keep: int
    label_delay_s: float
    due: Due
    window: Window
    start: str
    parts: Parts
    gap_s: int
    train: dict[str, Any]
    gates: GateSettings
    rollout: RolloutSettings

    @classmethod
    def read(cls, path: Path, changes: Sequence[str] = ()) -> Self:
        """From a yaml; `changes` are `key=value`, dotted, over what it says."""
        try:
            said = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"settings must be a yaml file, {path} cannot be read: {error}") from error
        if not isinstance(said, dict):
            raise ConfigError(f"settings must be names and values, {path} holds {type(said).__name__}")
        for change in changes:
            _change(said, change)
        return cls.from_dict(said)

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Self:
        """From plain data, such as `to_dict` gives."""
        found: Self = _read(cls, dict(said), "")
        return found

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __post_init__(self) -> None:
        _one_of("start", self.start, ("warm", "fresh"))
        _one_of("rollout.little", self.rollout.little, ("go_on", "abort"))
        for stage in self.rollout.stages:
            _one_of("rollout.stages", stage, STAGES)
        shares = (self.parts.validation, self.parts.calibration, self.parts.test)
        if min(shares) <= 0 or sum(shares) >= 1:
            raise ConfigError(f"parts must be shares above 0 that leave some rows to train on, got {self.parts}")
        if not self.parts.most_h > 0:
            raise ConfigError(f"parts.most_h must be hours above 0, got {self.parts.most_h}")
        if len(self.gates.coverage) != 2 or not 0 <= self.gates.coverage[0] < self.gates.coverage[1] <= 1:
            raise ConfigError(f"gates.coverage must be two shares, the lower first, got {self.gates.coverage}")
        if not 0.5 <= self.gates.confidence < 1:
            raise ConfigError(f"gates.confidence must be 0.5 to below 1, got {self.gates.confidence}")
        if not 0 < self.rollout.canary_percent < 100:
            raise ConfigError(
                f"rollout.canary_percent must be above 0 and below 100, got {self.rollout.canary_percent}"
            )


def _change(said: dict[str, Any], change: str) -> None:
    name, found, text = change.partition("=")
    if not found:
        raise ConfigError(f"a change is KEY=VALUE, got {change!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{change}: the value must be yaml: {error}") from error
    section, _, rest = name.partition(".")
    if change == "rollout=direct":
        said["rollout"]["stages"] = []
    elif not rest:
        said[name] = value
    elif isinstance(said.get(section), dict):
        said[section][rest] = value
    else:
        raise ConfigError(f"there is no setting {name!r}{did_you_mean(section, said)}")


def _read(cls: Any, said: dict[str, Any], where: str) -> Any:
    kinds, entries = get_type_hints(cls), {}
    for name in said:
        if name not in kinds:
            raise ConfigError(f"there is no setting '{where}{name}'{did_you_mean(str(name), kinds)}")
    for field in fields(cls):
        if field.name not in said:
            raise ConfigError(f"the settings must have a value for {where}{field.name}")
        entries[field.name] = _value(f"{where}{field.name}", said[field.name], kinds[field.name])
    return cls(**entries)


def _value(name: str, value: Any, kind: Any) -> Any:
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigError(f"{name} is a group of settings, got {value!r}: {name}.NAME=...")
        return _read(kind, dict(value), f"{name}.")
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if value is None and type(None) in kinds:
        return None
    plain = get_origin(kinds[0]) or kinds[0]
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if plain is str and value is False:
        value = "off"  # which yaml reads so without quotes
    if not isinstance(value, plain) or isinstance(value, bool) != (plain is bool):
        raise ConfigError(f"{name} must be {_told(plain)}, got {value!r}")
    if isinstance(value, int | float) and value < 0:
        raise ConfigError(f"{name} must be 0 or more, got {value!r}")
    if kinds[0] == list[str]:
        return ["off" if one is False else str(one) for one in value]
    return value


def _told(kind: type) -> str:
    names = {
        bool: "true or false",
        float: "a number",
        int: "a whole number",
        str: "a text",
        list: "a list",
        dict: "names and values",
    }
    return names[kind]


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}{did_you_mean(value, known)}")
