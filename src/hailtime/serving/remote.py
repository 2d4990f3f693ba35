"""A model repository in an object store (s3://, gs://, memory://, ...), which has neither renames nor locks.

A version's files are written first, then its manifest, and the config that names it last, as one object: whoever
reads in between sees the old plan and whole versions. A number is claimed by creating an object that must not exist,
so two publishers never write into one folder. There is no server here to hold a version against: the gates are those
of the files and the schema, and the Triton that serves the store is told to load by whoever runs it (docs/runbook.md).
"""

import hashlib
import json
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from google.protobuf import text_format

from hailtime.errors import DeployError, HailtimeError
from hailtime.rollout import Rollout
from hailtime.schema import MODEL_NAME
from hailtime.serving.config_file import Served, write_config
from hailtime.serving.gates import require, schema_gate
from hailtime.serving.model_file import Probe, read_probe, read_rule, read_run, read_schema
from hailtime.serving.places import CONFIG
from hailtime.serving.repository import describe_run
from hailtime.serving.settings import SETTINGS, WARM_UP, Settings, warm_up_files

CLAIMS = ".claims"  # a name that no version can have
CLAIMING = threading.Lock()  # memory:// looks whether an object is there and writes it then, for all of a process


class RemoteRepository:
    """The repository at an fsspec URL; what goes wrong there is a DeployError."""

    def __init__(self, url: str) -> None:
        try:
            self._files, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:  # no such protocol, or its package is not installed
            raise DeployError(f"a repository must be at a URL that fsspec can open, {url} is not: {error}") from error
        self._folder = f"{root.rstrip('/')}/{MODEL_NAME}"

    def publish(self, run: Path) -> int:
        """Write a run as the next version and make it stable; the stable version before stays in the config."""
        files = read_run(run)
        schema = read_schema(files["schema.json"], run)
        before = self.served()
        require(schema_gate(schema, before.schema if before else None))
        settings = self._settings()
        version = self._claim()
        self._write_warm_up(read_probe(files["probe.npz"], schema))
        self._write_version(version, files, describe_run(run))
        plan = Rollout(version)
        if before is None:
            config = Served.from_text(write_config(schema, (version,), plan, settings))
        else:
            config = before.with_settings(settings).with_plan(tuple(sorted({before.rollout.stable, version})), plan)
        self._write(CONFIG, config.with_rule(read_rule(files["model.onnx"])).text.encode())
        return version

    def make_stable(self, version: int) -> None:
        """Change the plan to a version that was published before, as to go back."""
        before = self.served()
        if before is None:
            raise DeployError(f"nothing is published at {self._folder}: python scripts/publish.py URL RUN")
        self._check(version)
        config = before.with_plan(tuple(sorted({before.rollout.stable, version})), Rollout(version))
        rule = read_rule(self._read(f"{version}/model.onnx"))
        self._write(CONFIG, config.with_rule(rule).text.encode())

    def served(self) -> Served | None:
        """What the config says; None when nothing was published yet."""
        if not self._files.exists(f"{self._folder}/{CONFIG}"):
            return None
        try:
            return Served.from_text(self._read(CONFIG).decode())
        except (text_format.ParseError, UnicodeDecodeError, HailtimeError) as error:
            raise DeployError(f"{self._folder}/{CONFIG} cannot be read: {error}") from error

    def _settings(self) -> Settings | None:
        """What serving.yaml beside the model says; None when there is none."""
        file = f"{self._folder.rpartition('/')[0]}/{SETTINGS}"
        if not self._files.exists(file):
            return None
        return Settings.from_yaml(self._files.cat_file(file).decode(errors="replace"), file)

    def _claim(self) -> int:
        """A version number of one's own."""
        self._files.makedirs(f"{self._folder}/{CLAIMS}", exist_ok=True)
        version = 1 + max((int(name) for name in self._names(CLAIMS) if name.isdecimal()), default=0)
        while True:
            try:
                self._create(f"{self._folder}/{CLAIMS}/{version}")
                return version
            except FileExistsError:
                version += 1
            except OSError as error:
                raise DeployError(f"{self._folder} cannot be written: {error}") from error

    def _create(self, path: str) -> None:
        """An empty object that must not exist; of two who create it one succeeds."""
        if isinstance(self._files, LocalFileSystem):  # whose pipe_file looks first and writes then
            self._files.open(path, "xb").close()
        else:
            with CLAIMING:
                self._files.pipe_file(path, b"", mode="create")

    def _write_warm_up(self, probe: Probe) -> None:
        self._files.makedirs(f"{self._folder}/{WARM_UP}", exist_ok=True)
        for name, content in warm_up_files(probe.inputs).items():
            self._write(f"{WARM_UP}/{name}", content)

    def _write_version(self, version: int, files: dict[str, bytes], origin: dict[str, Any]) -> None:
        self._files.makedirs(f"{self._folder}/{version}", exist_ok=True)
        for name, content in files.items():
            self._write(f"{version}/{name}", content)
        sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = {**origin, "published_at": at, "sha256": sha256}
        self._check_files(version, manifest)  # as the store gives them back, before anything names them
        self._write(f"{version}/manifest.json", json.dumps(manifest, indent=1).encode())

    def _check(self, version: int) -> None:
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise DeployError(f"a version must be a whole number from 1, got {version!r}")
        try:
            self._check_files(version, json.loads(self._read(f"{version}/manifest.json")))
        except (ValueError, KeyError, TypeError) as error:
            raise DeployError(f"version {version} of {self._folder} is not whole: {error!r}") from error

    def _check_files(self, version: int, manifest: dict[str, Any]) -> None:
        for name, told in manifest["sha256"].items():
            if hashlib.sha256(self._read(f"{version}/{name}")).hexdigest() != told:
                raise DeployError(f"{self._folder}/{version}/{name} must be as it was published, it is not")

    def _names(self, folder: str) -> list[str]:
        paths = self._files.ls(f"{self._folder}/{folder}", detail=False, refresh=True)
        return [str(path).rstrip("/").rpartition("/")[2] for path in paths]

    def _read(self, name: str) -> bytes:
        try:
            content: bytes = self._files.cat_file(f"{self._folder}/{name}")
        except OSError as error:
            raise DeployError(f"{self._folder}/{name} cannot be read: {error!r}") from error
        return content

    def _write(self, name: str, content: bytes) -> None:
        """At once: an object store does that by itself, a folder by a rename."""
        path = f"{self._folder}/{name}"
        try:
            if isinstance(self._files, LocalFileSystem):
                self._files.pipe_file(beside := f"{path}.{secrets.token_hex(4)}", content)
                self._files.mv(beside, path)
            else:
                self._files.pipe_file(path, content)
        except OSError as error:
            raise DeployError(f"{path} cannot be written: {error}") from error
