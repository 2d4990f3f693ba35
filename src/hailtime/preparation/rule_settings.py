"""What rules read from their entry of the yaml: a column, a number, two times, values of one kind.

ConfigError names the rule, the setting and what came.
"""

import math
from collections.abc import Mapping
from typing import Any

from hailtime.errors import ConfigError
from hailtime.preparation.conform import Kind

Settings = Mapping[str, Any]


def read_column(name: str, settings: Settings) -> str:
    column = settings["column"]
    if not isinstance(column, str):
        raise ConfigError(f"rule {name}: column must be the name of one column, got {column!r}")
    return column


def read_two_times(name: str, settings: Settings, first: str, then: str) -> tuple[str, str]:
    one, other = str(settings[first]), str(settings[then])
    if one == other:
        raise ConfigError(f"rule {name}: {first} and {then} must be two times, got {one} for both")
    return one, other


def read_number(name: str, settings: Settings, key: str, default: float | None = None) -> float | None:
    value = settings.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if value is not None and not is_number:
        raise ConfigError(f"rule {name}: {key} must be a number, got {value!r}")
    return None if value is None else float(value)


def read_values(name: str, settings: Settings) -> tuple[str, list[Any], Kind]:
    values = list(settings.get("values", [settings.get("value")]))
    kinds = {_kind_of(value) for value in values}
    if len(kinds) != 1 or None in values:
        raise ConfigError(f"rule {name}: the values must be all text or all numbers, got {values}")
    return read_column(name, settings), values, kinds.pop()


def _kind_of(value: object) -> Kind:
    if isinstance(value, bool):
        return "as_it_is"
    return "text" if isinstance(value, str) else "number"
