"""The settings of the monitor, from one yaml (`configs/monitor.yaml`), checked before anything begins."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import yaml

from hailtime.errors import ConfigError, did_you_mean
from hailtime.monitoring.alerts import Rule, read_rules

_NUMBERS = {"label_delay_s": 0, "every_s": 0.1, "keep_days": 1, "port": 0}


@dataclass(frozen=True)
class MonitorSettings:
    """As the yaml says what each is for. ConfigError when one cannot work."""

    log: str
    store: Path
    repository: Path
    label_delay_s: float
    every_s: float
    keep_days: int
    host: str
    port: int
    token_env: str | None = None
    alerts: Path | None = None
    webhook: str | None = None
    alertmanager: str | None = None
    forward_to: str | None = None
    forward_password_env: str | None = None

    @classmethod
    def read(cls, path: Path, changes: Mapping[str, Any] | None = None) -> Self:
        """From a yaml; `changes` that are not None go over what it says."""
        said = _read_yaml(path)
        known = [one.name for one in fields(cls)]
        for name in said:
            if name not in known:
                raise ConfigError(f"{path}: no setting {name!r}{did_you_mean(str(name), known)}")
        entries = said | {name: value for name, value in (changes or {}).items() if value is not None}
        missing = [name for name in known[:8] if entries.get(name) is None]
        if missing:
            raise ConfigError(f"{path} must have a value for {', '.join(missing)}")
        entries |= {"log": str(entries["log"]), **{n: Path(entries[n]) for n in ("store", "repository")}}
        if entries.get("alerts"):
            entries["alerts"] = path.parent / entries["alerts"]
        return cls(**entries)

    def rules(self) -> list[Rule]:
        """The alert rules; ConfigError names the one that cannot work."""
        return read_rules(_read_yaml(self.alerts)) if self.alerts else []

    def __post_init__(self) -> None:
        for name, least in _NUMBERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
                raise ConfigError(f"{name} must be a number from {least}, got {value!r}")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the page."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def token(self) -> str | None:
        """What a reader must know; None where anybody on this machine may look."""
        if self.token_env is None:
            if self.is_loopback:
                return None
            raise ConfigError(
                f"a page that other machines reach needs a token, host is {self.host}: name the environment variable "
                "that holds it by token_env, or serve at 127.0.0.1"
            )
        token = os.environ.get(self.token_env, "")
        if len(token) < 16:
            raise ConfigError(
                f"the environment variable {self.token_env} must hold a token of 16 characters or more, "
                f"got {len(token)}: export {self.token_env}=$(openssl rand -hex 24)"
            )
        return token


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        said = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"settings must be a yaml file, {path} cannot be read: {error}") from error
    if not isinstance(said, dict):
        raise ConfigError(f"settings must be names and values, {path} holds {type(said).__name__}")
    return said
