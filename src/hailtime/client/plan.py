"""How to ask: the schema, the rollout plan and the rule, as a server said them last, kept on disk if wanted."""

import json
import logging
import os
import threading
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from hailtime.client.messages import ModelConfig
from hailtime.client.request import RowPacker
from hailtime.errors import HailtimeError, ModelUnavailable, SchemaError
from hailtime.rollout import Rollout
from hailtime.rule import FallbackRule
from hailtime.schema import MODEL_NAME, Schema

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What one server serves. `rule` is None where the model came without one."""

    config: ModelConfig
    packer: RowPacker
    rollout: Rollout
    rule: FallbackRule | None

    @classmethod
    def from_config(cls, config: ModelConfig) -> "Plan":
        """ModelUnavailable when the model does not say how it wants to be asked."""
        return _read_plan(config.max_batch_size, tuple(sorted(config.parameters.items())))

    @cached_property
    def max_rows(self) -> int:
        return max(self.config.max_batch_size, 1)

    @property
    def fingerprint(self) -> str:
        return self.packer.fingerprint


@lru_cache(maxsize=16)
def _read_plan(max_batch_size: int, parameters: tuple[tuple[str, str], ...]) -> Plan:
    """Once a process: it takes 2 ms, and all its clients hear the same, mostly what they said before a restart."""
    config = ModelConfig(max_batch_size, dict(parameters))
    try:
        schema = Schema.from_json(config.parameters.get("schema", ""))
        rollout = Rollout.from_json(config.parameters.get("rollout", ""))
    except HailtimeError as error:
        raise ModelUnavailable(
            f"the served {MODEL_NAME} must carry its schema and rollout plan, deploy it again: {error}"
        ) from error
    return Plan(config, RowPacker(schema), rollout, read_rule(config.parameters.get("rule", "")))


def read_rule(text: str) -> FallbackRule | None:
    """The rule out of JSON; a bad one is told and left out, because the model is as good without it."""
    if not text:
        return None
    try:
        return FallbackRule.from_json(text)
    except SchemaError as error:
        log.warning("the served rule cannot be used, answers without the model will be missing: %s", error)
        return None


class NoCache:
    """Remembers nothing."""

    def load(self) -> Plan | None:
        return None

    def store(self, config: ModelConfig) -> None:
        pass


class PlanCache(NoCache):
    """The last config that a server gave, in a file, for a backend that starts while no server answers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: ModelConfig | None = None

    def load(self) -> Plan | None:
        try:
            entries = json.loads(self._path.read_text())
            plan = Plan.from_config(ModelConfig(int(entries["max_batch_size"]), dict(entries["parameters"])))
            self._kept = plan.config
            return plan
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, HailtimeError) as error:
            log.warning("%s cannot be read and will be written anew: %s", self._path, error)
            return None

    def store(self, config: ModelConfig) -> None:
        """Whole or not at all; that it failed is told, and changes nothing else."""
        if config == self._kept:
            return
        content = json.dumps({"max_batch_size": config.max_batch_size, "parameters": dict(config.parameters)}, indent=1)
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(content)
            beside.replace(self._path)
            self._kept = config
        except OSError as error:
            log.warning("the plan could not be kept in %s: %s", self._path, error)
