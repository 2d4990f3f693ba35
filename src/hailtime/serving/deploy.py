"""A run becomes the version everybody is answered by, or nothing changes: publish, load, probe, switch.

python scripts/deploy.py runs/demo
"""

import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from hailtime.errors import DeployError
from hailtime.locking import locked
from hailtime.rollout import Rollout
from hailtime.schema import MODEL_NAME, Schema
from hailtime.serving.model_file import Probe, read_probe, read_rule, read_run, read_schema
from hailtime.serving.repository import (
    LOCK,
    MAX_BATCH_SIZE,
    Served,
    check_version,
    check_writable,
    model_folder,
    place_version,
    publish,
    quarantine,
    read_config,
    store_config,
    store_file,
    version_folder,
    write_config,
)

__all__ = ["Release", "activate", "deploy", "publish", "read_config", "write_config"]

log = logging.getLogger(__name__)

MAX_DIFFERENCE_S = 0.05  # the same twentieth of a second that export allows between PyTorch and onnxruntime


@dataclass(frozen=True)
class Release:
    """One deployment that succeeded, as release.json in the version's folder tells it.

    `parity_max_abs_s`: the largest difference in seconds between PyTorch's answers and the served ones
    """

    version: int
    previous: int | None
    schema_fingerprint: str
    sha256: str
    n_probe_rows: int
    parity_max_abs_s: float
    released_at: str


def deploy(run: Path, repository: Path, url: str = "127.0.0.1:8001") -> Release:
    """Serve a run's model from the Triton at `url`, whose repository this is; the version before stays loaded.

    A canary or a shadow ends with it. On any failure the earlier config is restored, the new version is moved to
    `.quarantine/` with the reason, and a DeployError says why.
    """
    files = read_run(run)
    check_writable(repository)
    with _Server(url) as server, locked(repository / LOCK, DeployError):
        _check_same_schema(read_schema(files["schema.json"], run), _served(repository))
        version = place_version(files, run.resolve().name, repository)
        return _activate(repository, version, server)


def activate(repository: Path, version: int, url: str = "127.0.0.1:8001") -> Release:
    """The second half of `deploy`, for a version that was published before."""
    check_writable(repository)
    with _Server(url) as server, locked(repository / LOCK, DeployError):
        if not version_folder(repository, version).is_dir():
            raise DeployError(f"{model_folder(repository)} has no version {version}: publish it first")
        return _activate(repository, version, server)


def _activate(repository: Path, version: int, server: "_Server") -> Release:
    before = _served(repository)
    try:
        return _switch(repository, version, server, before)
    except BaseException as error:
        reason = f"version {version} was refused: {error}"
        still = _restore(repository, server, before)
        if before is None or version not in before.versions:  # one that is being served is not taken away
            still += f", the refused one lies in {quarantine(repository, version, reason)}"
        if not isinstance(error, Exception):
            raise
        raise DeployError(f"{reason}; {still}") from error


def _switch(repository: Path, version: int, server: "_Server", before: Served | None) -> Release:
    folder = version_folder(repository, version)
    sha256 = check_version(folder)
    schema = read_schema((folder / "schema.json").read_bytes(), folder)
    _check_same_schema(schema, before)
    probe = read_probe((folder / "probe.npz").read_bytes(), schema)
    plan = Rollout(stable=version)
    previous = before.rollout.stable if before and before.rollout.stable != version else None
    versions = (version,) if previous is None else (previous, version)
    if before is None:
        config = Served.from_text(write_config(schema, versions, plan))
    else:
        # First beside the versions that answer, under the plan as it is: nobody is sent to it before it proved itself.
        server.load(repository, before.with_plan((*{*before.versions, version},), before.rollout))
        server.probe(version, probe)
        config = before.with_plan(versions, plan)
    config = config.with_rule(read_rule((folder / "model.onnx").read_bytes()))
    server.load(repository, config)
    release = Release(
        version,
        previous,
        schema.fingerprint,
        sha256["model.onnx"],
        len(probe),
        server.probe(version, probe),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    store_file(folder / "release.json", json.dumps(asdict(release), indent=1))
    log.info("version %d is stable, at most %.5f s off its probe", version, release.parity_max_abs_s)
    return release


def _restore(repository: Path, server: "_Server", before: Served | None) -> str:
    """Back to what was served; says in words what is served now."""
    try:
        if before is None:
            store_config(repository, None)
            server.unload()
            return "nothing is served, as before"
        server.load(repository, before)
        return f"version {before.rollout.stable} still answers"
    except Exception as error:  # the first error matters more, and the config on disk is the earlier one
        log.warning("after a refused version the earlier config could not be loaded: %s", error)
        return f"the earlier config is in place, but the server did not take it ({error}): restart the server"


def _served(repository: Path) -> Served | None:
    folder = model_folder(repository)
    return read_config(folder) if (folder / "config.pbtxt").exists() else None


def _check_same_schema(schema: Schema, before: Served | None) -> None:
    if before is not None and schema.fingerprint != before.schema.fingerprint:
        raise DeployError(
            f"a new version must have the schema that is served ({before.schema.fingerprint}), this run has "
            f"{schema.fingerprint}: clients pack by it, so serve other columns from a repository of their own"
        )


class _Server:
    """The calls to Triton that a deployment makes; every failure is a DeployError."""

    def __init__(self, url: str, timeout_s: float = 120.0) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._client = InferenceServerClient(url)

    def __enter__(self) -> Self:
        try:
            is_live = self._client.is_server_live(client_timeout=10.0)
        except InferenceServerException as error:
            self._client.close()
            raise DeployError(
                f"a deployment needs a running server, {self.url} does not answer ({error.message()}): "
                "python scripts/serve.py"
            ) from error
        assert is_live
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def load(self, repository: Path, wanted: Served) -> None:
        """Make this the config, have it loaded, and see that it is really what is served."""
        store_config(repository, wanted)
        try:
            self._client.load_model(MODEL_NAME, client_timeout=self._timeout_s)
            config = self._client.get_model_config(MODEL_NAME, client_timeout=10.0).config
        except InferenceServerException as error:
            raise DeployError(f"Triton did not load it: {error.message()}") from error
        if config.parameters["revision"].string_value != wanted.revision:
            raise DeployError(f"the server at {self.url} serves another repository than {repository}")

    def unload(self) -> None:
        self._client.unload_model(MODEL_NAME, client_timeout=self._timeout_s)

    def probe(self, version: int, probe: Probe) -> float:
        """The largest difference in seconds between the stored answers and those of this version."""
        answers = [self._infer(version, probe, start) for start in range(0, len(probe), MAX_BATCH_SIZE)]
        difference = float(np.abs(np.concatenate(answers) - probe.pickup_time_s).max())
        if not difference <= MAX_DIFFERENCE_S:  # NaN is refused too
            raise DeployError(
                f"its answers may be {MAX_DIFFERENCE_S} s off those in probe.npz, they are {difference:.3f} s off"
            )
        return difference

    def _infer(self, version: int, probe: Probe, start: int) -> Any:
        inputs = []
        for name, kind in (("numeric", "FP32"), ("categorical", "BYTES"), ("requested_at", "INT64")):
            rows = probe.inputs[name][start : start + MAX_BATCH_SIZE]
            tensor = InferInput(name, list(rows.shape), kind)
            tensor.set_data_from_numpy(rows.astype(np.object_) if kind == "BYTES" else rows)
            inputs.append(tensor)
        try:
            answer = self._client.infer(MODEL_NAME, inputs, str(version), client_timeout=self._timeout_s)
        except InferenceServerException as error:
            raise DeployError(f"it does not answer the rows of probe.npz: {error.message()}") from error
        return answer.as_numpy("pickup_time_s")
