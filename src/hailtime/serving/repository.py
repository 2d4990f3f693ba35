"""The folder Triton serves from: a config with the rollout plan, and versions that appear whole or not at all.

model_repository/
├── pickup_eta/
│   ├── config.pbtxt     the schema, the versions that are loaded, and the plan: which of them answers whom
│   └── 3/               model.onnx, schema.json, export.json, probe.npz, manifest.json, release.json once live
├── .quarantine/         refused versions, each with its reason.txt
└── .incoming/           versions being written
"""

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from hailtime.errors import DeployError, HailtimeError
from hailtime.locking import locked
from hailtime.rollout import Rollout
from hailtime.schema import MODEL_NAME, QUANTILES, Schema
from hailtime.serving.model_file import read_run

MAX_BATCH_SIZE = 4096
LOCK = ".deploy.lock"
QUARANTINE = ".quarantine"


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
        return cls(
            Schema.from_json(config.parameters["schema"].string_value),
            tuple(config.version_policy.specific.versions),
            Rollout.from_json(config.parameters["rollout"].string_value),
            config.parameters["revision"].string_value,
            text,
        )

    def with_plan(self, versions: tuple[int, ...], rollout: Rollout) -> "Served":
        """The same config with other versions loaded and another plan."""
        config = text_format.Parse(self.text, model_config_pb2.ModelConfig())
        _set_plan(config, versions, rollout)
        return Served.from_text(text_format.MessageToString(config))

    def with_rule(self, rule: str) -> "Served":
        """The same config with the rule that clients fall back to."""
        config = text_format.Parse(self.text, model_config_pb2.ModelConfig())
        config.parameters["rule"].string_value = rule
        return Served.from_text(text_format.MessageToString(config))


def write_config(
    schema: Schema,
    versions: tuple[int, ...],
    rollout: Rollout,
    *,
    n_instances: int = 1,
    n_threads: int = 1,
    on_gpu: bool = False,
) -> str:
    """The text of a config.pbtxt. One thread an instance is fastest at batch 1, so scale by instances."""
    config = model_config_pb2.ModelConfig(name=MODEL_NAME, backend="onnxruntime", max_batch_size=MAX_BATCH_SIZE)
    for name, kind, width in (
        ("numeric", model_config_pb2.TYPE_FP32, len(schema.numeric)),
        ("categorical", model_config_pb2.TYPE_STRING, len(schema.categorical)),
        ("requested_at", model_config_pb2.TYPE_INT64, 1),
    ):
        config.input.add(name=name, data_type=kind, dims=[width])
    config.output.add(name="pickup_time_s", data_type=model_config_pb2.TYPE_FP32, dims=[len(QUANTILES)])
    group = model_config_pb2.ModelInstanceGroup
    config.instance_group.add(count=n_instances, kind=group.KIND_GPU if on_gpu else group.KIND_CPU)
    config.dynamic_batching.SetInParent()  # no delay: a batch is what waits while the model is busy
    config.parameters["intra_op_thread_count"].string_value = str(n_threads)
    config.parameters["schema"].string_value = schema.to_json()
    _set_plan(config, versions, rollout)
    return text_format.MessageToString(config)


def read_config(folder: Path) -> Served:
    """What the config.pbtxt of this model folder says; DeployError when it is not one of ours."""
    file = folder / "config.pbtxt"
    try:
        return Served.from_text(file.read_text())
    except (OSError, text_format.ParseError, UnicodeDecodeError, HailtimeError) as error:
        raise DeployError(f"{file} cannot be read: {error}; mend it, or move the folder away to start anew") from error


def publish(run: Path, repository: Path) -> int:
    """Put a run into the repository as its next version, checked, whole, and not yet served; gives the version."""
    files = read_run(run)
    check_writable(repository)
    with locked(repository / LOCK, DeployError):
        return place_version(files, run.resolve().name, repository)


def place_version(files: Mapping[str, bytes], run_name: str, repository: Path) -> int:
    """Write the files beside the repository's models, flush, then rename. The caller holds the lock."""
    folder = model_folder(repository)
    manifest = {
        "run": run_name,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    try:
        folder.mkdir(exist_ok=True)
        version = next_version(repository)
        incoming = repository / ".incoming"
        shutil.rmtree(incoming, ignore_errors=True)  # what a publisher that was killed left
        incoming.mkdir()
        for name, content in {**files, "manifest.json": json.dumps(manifest, indent=1).encode()}.items():
            _write_flushed(incoming / name, content)
        _flush(incoming)
        incoming.rename(folder / str(version))
        _flush(folder)
    except OSError as error:
        raise DeployError(f"{folder} cannot be written: {error}") from error
    return version


def check_version(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a published version; DeployError when a file is not what was published."""
    try:
        told: dict[str, str] = json.loads((folder / "manifest.json").read_text())["sha256"]
        found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in told}
    except (OSError, ValueError, KeyError) as error:
        raise DeployError(f"{folder} is not a version that was published: {error!r}") from error
    changed = sorted(name for name in told if told[name] != found[name])
    if changed:
        raise DeployError(f"{folder} must be as it was published, changed since: {', '.join(changed)}")
    return told


def store_config(repository: Path, config: Served | None) -> None:
    """Replace the config at once; None removes it."""
    file = model_folder(repository) / "config.pbtxt"
    if config is None:
        file.unlink(missing_ok=True)
    else:
        store_file(file, config.text)


def store_file(file: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new, also after a power cut."""
    new = file.with_name(f".{file.name}.new")
    _write_flushed(new, text.encode())
    new.replace(file)
    _flush(file.parent)


def quarantine(repository: Path, version: int, reason: str) -> Path:
    """Move a refused version out of the server's sight: left in place it can fail a later restart."""
    folder = version_folder(repository, version)
    kept = repository / QUARANTINE / f"{MODEL_NAME}-{version}"
    kept.parent.mkdir(exist_ok=True)
    if folder.exists():
        folder.rename(kept)
    else:
        kept.mkdir(exist_ok=True)
    (kept / "reason.txt").write_text(reason + "\n")
    return kept


def next_version(repository: Path) -> int:
    """One above every version there was, the refused ones too: a number in a log means one model for ever."""
    names = [path.name for path in model_folder(repository).iterdir()] if model_folder(repository).exists() else []
    if (repository / QUARANTINE).exists():
        names += [path.name.removeprefix(f"{MODEL_NAME}-") for path in (repository / QUARANTINE).iterdir()]
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)


def model_folder(repository: Path) -> Path:
    """The folder of our model; DeployError when it leads out of the repository."""
    folder = repository / MODEL_NAME
    if folder.resolve().parent != repository.resolve():
        raise DeployError(f"a model must lie in its repository, {folder} leads to {folder.resolve()}")
    return folder


def version_folder(repository: Path, version: int) -> Path:
    """The folder of a version, which need not exist; DeployError when it leads out of the model's folder."""
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise DeployError(f"a version must be a whole number from 1, got {version!r}")
    folder = model_folder(repository) / str(version)
    if folder.resolve().parent != model_folder(repository).resolve():
        raise DeployError(f"a version must lie in its model's folder, {folder} leads to {folder.resolve()}")
    return folder


def check_writable(repository: Path) -> None:
    """DeployError unless new folders can be made there. It tries: permission bits say little, to root nothing."""
    if not repository.is_dir():
        raise DeployError(f"a model repository must be a folder, {repository} is none: create it or name another")
    try:
        tempfile.TemporaryDirectory(dir=repository, prefix=".writable-").cleanup()
    except OSError as error:
        raise DeployError(f"the model repository {repository} cannot be written: {error.strerror}") from error


def _set_plan(config: model_config_pb2.ModelConfig, versions: tuple[int, ...], rollout: Rollout) -> None:
    config.version_policy.specific.versions[:] = sorted(versions)
    config.parameters["rollout"].string_value = rollout.to_json()
    # New with every plan. Triton loads again only what changed (fewer versions alone is no change, and it would go on
    # telling the old list), and a server that tells this number back is surely the one of this repository.
    config.parameters["revision"].string_value = secrets.token_hex(6)


def _write_flushed(file: Path, content: bytes) -> None:
    with file.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
