"""How packed rows reach the model: the only part of the client that touches the network.

`Transport` is what `EtaClient` asks for, `GrpcTransport` is the real one. Tests, and whoever serves the model in some
other way, pass their own.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from hailtime.errors import (
    ConfigError,
    DeadlineExceeded,
    ModelUnavailable,
    PredictionError,
    RequestError,
    ServerUnavailable,
)
from hailtime.schema import MODEL_NAME, QUANTILES

# 1 s: gRPC waits up to 120 s between two attempts to connect, and every call in between fails at once.
# Measured: the client answers 0.4-0.9 s after a server that was killed is back (three restarts)
CHANNEL_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
_TRITON_HAS_NO_MODEL = re.compile(r"unknown model|not (at )?ready", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What the client needs of Triton's model configuration."""

    max_batch_size: int
    parameters: Mapping[str, str]


class Transport(Protocol):
    """Asks a served model. Every method may be called from several threads; errors are `PredictionError`s."""

    def config(self, timeout_s: float) -> ModelConfig:
        """The configuration of the model."""

    def infer(
        self,
        version: int,
        numeric: NDArray[np.float32],
        categorical: NDArray[np.object_],
        requested_at: NDArray[np.int64],
        timeout_s: float,
    ) -> NDArray[np.float32]:
        """Seconds (n, 3) from numeric (n, F), categorical (n, C) of str and requested_at (n, 1) in epoch seconds."""

    def close(self) -> None:
        """Gives the connection back."""


class GrpcTransport:
    """A Triton at `url` (host:port) over one gRPC channel, which all threads share.

    Requests are built as protobuf by hand, because tritonclient 2.73 visits every string with `numpy.nditer`. Measured,
    13 numbers and 4 categories a row, µs a request, here and there: 1 row 11, 40; 64 rows 27, 209; 1024 rows 275, 2823.
    """

    def __init__(self, url: str) -> None:
        if url.startswith(("http://", "https://")) or not re.search(r":\d+$", url):
            raise ConfigError(f"url must be host:port of Triton's gRPC service, without http://, got {url!r}")
        self.url = url
        # A channel and its stub are thread-safe, says gRPC; only tritonclient's streams are not, and none is used here
        self._channel = grpc.insecure_channel(url, options=CHANNEL_OPTIONS)
        self._triton = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def config(self, timeout_s: float) -> ModelConfig:
        request = service_pb2.ModelConfigRequest(name=MODEL_NAME)
        config = self._call(self._triton.ModelConfig, request, timeout_s).config
        return ModelConfig(config.max_batch_size, {key: value.string_value for key, value in config.parameters.items()})

    def infer(
        self,
        version: int,
        numeric: NDArray[np.float32],
        categorical: NDArray[np.object_],
        requested_at: NDArray[np.int64],
        timeout_s: float,
    ) -> NDArray[np.float32]:
        tensor = service_pb2.ModelInferRequest.InferInputTensor
        request = service_pb2.ModelInferRequest(
            model_name=MODEL_NAME,
            model_version=str(version),
            inputs=[
                tensor(name="numeric", datatype="FP32", shape=numeric.shape),
                tensor(name="categorical", datatype="BYTES", shape=categorical.shape),
                tensor(name="requested_at", datatype="INT64", shape=requested_at.shape),
            ],
            raw_input_contents=[numeric.tobytes(), bytes_tensor(categorical), requested_at.tobytes()],
        )
        response = self._call(self._triton.ModelInfer, request, timeout_s)
        return self._pickup_time_s(response)

    def close(self) -> None:
        self._channel.close()

    def _pickup_time_s(self, response: Any) -> NDArray[np.float32]:
        outputs = [(output.name, output.datatype) for output in response.outputs]
        if outputs != [("pickup_time_s", "FP32")] or len(response.raw_output_contents) != 1:
            raise PredictionError(f"the model must answer pickup_time_s as FP32, {self.url} answered {outputs}")
        content = np.frombuffer(response.raw_output_contents[0], dtype=np.float32)
        if content.size % len(QUANTILES):
            raise PredictionError(f"the model must answer {len(QUANTILES)} numbers a row, got {content.size} in all")
        return content.reshape(-1, len(QUANTILES))

    def _call(self, method: Callable[..., Any], request: Any, timeout_s: float) -> Any:
        gives_up_at = time.monotonic() + timeout_s
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._our_error(error, gives_up_at) from error
        except ValueError as error:  # what gRPC raises on a closed channel
            raise PredictionError(f"the connection to {self.url} cannot be used: {error}") from error

    def _our_error(self, error: Any, gives_up_at: float) -> PredictionError:
        code, details = error.code(), error.details()
        if code == grpc.StatusCode.NOT_FOUND or _TRITON_HAS_NO_MODEL.search(details or ""):
            return ModelUnavailable(f"{self.url} does not serve the model: {details}{self._loaded(gives_up_at)}")
        if code == grpc.StatusCode.UNAVAILABLE:
            return ServerUnavailable(f"no answer from {self.url}: {details}; is it running? python scripts/serve.py")
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"{self.url} did not answer in time")
        if code == grpc.StatusCode.INVALID_ARGUMENT:
            return RequestError(f"{self.url} refused the rows: {details}")
        return PredictionError(f"{self.url} failed with {code.name}: {details}")

    def _loaded(self, gives_up_at: float) -> str:
        """`; loaded is: pickup_eta 3`, or nothing where the server does not let us ask."""
        left_s = gives_up_at - time.monotonic()
        try:
            index = self._triton.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True), timeout=left_s)
        except (grpc.RpcError, ValueError):
            return ""
        loaded = ", ".join(f"{model.name} {model.version}" for model in index.models if model.state == "READY")
        return f"; loaded is: {loaded or 'nothing'}"


def bytes_tensor(texts: NDArray[np.object_]) -> bytes:
    """Strings as Triton's BYTES: each its length in 4 bytes, little-endian, then UTF-8; equal ones are encoded once."""
    flat = texts.ravel().tolist()
    encoded = {text: text.encode() for text in set(flat)}
    framed = {text: len(content).to_bytes(4, "little") + content for text, content in encoded.items()}
    return b"".join([framed[text] for text in flat])
