"""The calls to a running Triton that a deployment makes; every failure is a DeployError that says what to do."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from hailtime.errors import DeployError
from hailtime.schema import MODEL_NAME
from hailtime.serving.access import KEY_HEADER, KEY_VARIABLE, key_file, read_key
from hailtime.serving.config_file import Served, store_config
from hailtime.serving.settings import MAX_BATCH_SIZE
from hailtime.serving.tls import Tls

KINDS = {"numeric": "FP32", "categorical": "BYTES", "requested_at": "INT64"}
# A reload waits for the requests in flight and starts a process for each version: 0.5 to 2.5 s measured
LOAD_TIMEOUT_S = 120.0
ASK_TIMEOUT_S = 10.0


class TritonControl:
    """The Triton at `url`, which serves `repository`; the key is found beside the repository."""

    def __init__(self, url: str, repository: Path, tls: Tls | None = None) -> None:
        self.url = url
        self._repository = repository
        key = read_key(repository, DeployError)
        self._headers = {KEY_HEADER: key} if key else None
        self._client = _connect(url, tls)

    def __enter__(self) -> Self:
        try:
            self._client.is_server_live(client_timeout=ASK_TIMEOUT_S)
        except InferenceServerException as error:
            self._client.close()
            raise DeployError(
                f"a deployment needs a running server, {self.url} does not answer ({error.message()}): "
                "python scripts/serve.py"
            ) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def revision(self) -> str | None:
        """Of the config it serves by; None when the model is not loaded."""
        try:
            config = self._client.get_model_config(MODEL_NAME, client_timeout=ASK_TIMEOUT_S).config
        except InferenceServerException as error:
            if "unknown model" in error.message() or "NOT_FOUND" in str(error.status()):
                return None
            raise DeployError(f"the server at {self.url} does not tell its config: {error.message()}") from error
        return str(config.parameters["revision"].string_value)

    def try_out(self, config: str) -> None:
        """Load by this config instead of the one on the disk, where a restarted server finds the earlier one."""
        self._manage(self._client.load_model, config=config)

    def load(self, wanted: Served) -> None:
        """Make this the config, have it loaded, and see that it is really what is served."""
        store_config(self._repository, wanted)
        self._manage(self._client.load_model)
        if self.revision() != wanted.revision:
            raise DeployError(f"the server at {self.url} serves another repository than {self._repository}")

    def unload(self) -> None:
        self._manage(self._client.unload_model)

    def ask(self, version: int, rows: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """What this version answers to rows by input name: (n, 3) seconds."""
        n_rows = len(rows["numeric"])
        parts = [
            {name: array[start : start + MAX_BATCH_SIZE] for name, array in rows.items()}
            for start in range(0, n_rows, MAX_BATCH_SIZE)
        ]
        return np.concatenate([self.asker(version, part)() for part in parts])

    def asker(self, version: int, rows: Mapping[str, NDArray[Any]]) -> Callable[[], NDArray[np.float32]]:
        """A call that asks this version for these rows, packed beforehand; at most one batch."""
        inputs = []
        for name, kind in KINDS.items():
            tensor = InferInput(name, list(rows[name].shape), kind)
            tensor.set_data_from_numpy(rows[name].astype(np.object_) if kind == "BYTES" else rows[name])
            inputs.append(tensor)

        def ask() -> NDArray[np.float32]:
            try:
                answer = self._client.infer(MODEL_NAME, inputs, str(version), client_timeout=LOAD_TIMEOUT_S)
            except InferenceServerException as error:
                raise DeployError(f"version {version} does not answer: {error.message()}") from error
            seconds: NDArray[np.float32] = answer.as_numpy("pickup_time_s")
            return seconds

        return ask

    def _manage(self, call: Callable[..., Any], **options: Any) -> None:
        try:
            call(MODEL_NAME, headers=self._headers, client_timeout=LOAD_TIMEOUT_S, **options)
        except InferenceServerException as error:
            if "restricted" in error.message():  # it says so with the status UNAVAILABLE
                raise DeployError(
                    f"the server at {self.url} lets only those load models who have its key, {self._key_told()}: "
                    f"read it where the server was started, and set {KEY_VARIABLE} or copy the file"
                ) from error
            raise DeployError(f"Triton did not load it: {error.message()}") from error

    def _key_told(self) -> str:
        told = f"in {key_file(self._repository)} or {KEY_VARIABLE}"
        return f"that {told} is another" if self._headers else f"there is none {told}"


def _connect(url: str, tls: Tls | None) -> InferenceServerClient:
    if tls is None:
        return InferenceServerClient(url)
    files = [tls.ca, tls.certificate, tls.certificate_key]
    for file in files:
        if file is not None and not file.is_file():
            raise DeployError(f"TLS needs files in PEM, {file} is not there")
    ca, certificate, key = (None if file is None else str(file) for file in files)
    return InferenceServerClient(url, ssl=True, root_certificates=ca, private_key=key, certificate_chain=certificate)
