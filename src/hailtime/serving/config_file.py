"""Triton's config.pbtxt of our model: what it takes and gives, which versions are loaded, and the rollout plan."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from hailtime.durable import store_file
from hailtime.errors import DeployError, HailtimeError
from hailtime.rollout import Rollout
from hailtime.schema import MODEL_NAME, QUANTILES, Schema
from hailtime.serving.places import CONFIG, model_folder
from hailtime.serving.settings import MAX_BATCH_SIZE, Settings

TRIAL = "-trial"  # ends the revision of a config that only the server knows


@dataclass(frozen=True)
class Served:
    """What a config.pbtxt says. `text` is all of it, also what an operator tuned by hand; each has its `revision`."""

    schema: Schema
    versions: tuple[int, ...]
    rollout: Rollout
    revision: str
    text: str

    @classmethod
    def from_text(cls, text: str) -> "Served":
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
        said = {name: parameter.string_value for name, parameter in config.parameters.items()}
        return cls(
            Schema.from_json(said.get("schema", "")),
            tuple(config.version_policy.specific.versions),
            Rollout.from_json(said.get("rollout", "")),
            said.get("revision", ""),
            text,
        )

    def with_plan(self, versions: tuple[int, ...], rollout: Rollout) -> "Served":
        """The same config with other versions loaded and another plan."""
        config = text_format.Parse(self.text, model_config_pb2.ModelConfig())
        _set_plan(config, versions, rollout)
        return Served.from_text(text_format.MessageToString(config))

    def with_settings(self, settings: Settings | None) -> "Served":
        """The same config with other instances, threads and batching; None leaves them as they are."""
        if settings is None:
            return self
        config = text_format.Parse(self.text, model_config_pb2.ModelConfig())
        settings.put_into(config)
        return Served.from_text(text_format.MessageToString(config))

    def with_rule(self, rule: str) -> "Served":
        """The same config with the rule that clients fall back to."""
        config = text_format.Parse(self.text, model_config_pb2.ModelConfig())
        config.parameters["rule"].string_value = rule
        return Served.from_text(text_format.MessageToString(config))


def new_revision() -> str:
    """A name for one state of the config.

    Triton loads again only what changed (fewer versions alone is no change, and it would go on telling the old list),
    and a server that tells this name back is surely the one of this repository.
    """
    return secrets.token_hex(6)


def write_config(schema: Schema, versions: tuple[int, ...], rollout: Rollout, settings: Settings | None = None) -> str:
    """The text of a config.pbtxt; `settings`: None for the defaults."""
    config = model_config_pb2.ModelConfig(name=MODEL_NAME, backend="onnxruntime", max_batch_size=MAX_BATCH_SIZE)
    for name, kind, width in (
        ("numeric", model_config_pb2.TYPE_FP32, len(schema.numeric)),
        ("categorical", model_config_pb2.TYPE_STRING, len(schema.categorical)),
        ("requested_at", model_config_pb2.TYPE_INT64, 1),
    ):
        config.input.add(name=name, data_type=kind, dims=[width])
    config.output.add(name="pickup_time_s", data_type=model_config_pb2.TYPE_FP32, dims=[len(QUANTILES)])
    config.parameters["schema"].string_value = schema.to_json()
    (settings or Settings()).put_into(config)
    _set_plan(config, versions, rollout)
    return text_format.MessageToString(config)


def trial_config(
    schema: Schema, before: Served | None, versions: tuple[int, ...], settings: Settings | None = None
) -> str:
    """The config as JSON that has these versions loaded, by these settings, while the plan stays as it is.

    Where nothing is served yet it has no plan at all, so that no client is sent to a version before it proved itself.
    """
    text = (
        before.with_settings(settings).text
        if before
        else write_config(schema, versions, Rollout(versions[0]), settings)
    )
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    config.version_policy.specific.versions[:] = versions
    config.parameters["revision"].string_value = (before.revision if before else "") + TRIAL
    if before is None:
        del config.parameters["rollout"]
    return json_format.MessageToJson(config, preserving_proto_field_name=True)


def read_config(folder: Path) -> Served:
    """What the config.pbtxt of this model folder says; DeployError when it is not one of ours."""
    file = folder / CONFIG
    try:
        return Served.from_text(file.read_text())
    except (OSError, text_format.ParseError, UnicodeDecodeError, HailtimeError) as error:
        raise DeployError(f"{file} cannot be read: {error}; mend it, or move the folder away to start anew") from error


def read_served(repository: Path) -> Served | None:
    """What this repository serves; None when nothing was deployed to it yet."""
    folder = model_folder(repository)
    return read_config(folder) if (folder / CONFIG).exists() else None


def store_config(repository: Path, config: Served | None) -> None:
    """Replace the config at once; None removes it. Also the same text is written anew.

    Triton looks at the file's time: without a new one it stays with a config that it was given over the wire.
    """
    file = model_folder(repository) / CONFIG
    if config is None:
        file.unlink(missing_ok=True)
    else:
        store_file(file, config.text)


def _set_plan(config: model_config_pb2.ModelConfig, versions: tuple[int, ...], rollout: Rollout) -> None:
    config.version_policy.specific.versions[:] = sorted(versions)
    config.parameters["rollout"].string_value = rollout.to_json()
    config.parameters["revision"].string_value = new_revision()
