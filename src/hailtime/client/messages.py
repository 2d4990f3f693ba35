"""Triton's messages, and what its answers and errors mean: what both transports share.

Requests are built as protobuf by hand, because tritonclient 2.73 visits every string with `numpy.nditer`. Measured, 13
numbers and 4 categories a row, µs a request, here and there: 1 row 11, 40; 64 rows 27, 209; 1024 rows 275, 2823.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from hailtime.errors import (
    DeadlineExceeded,
    ModelUnavailable,
    PredictionError,
    RequestError,
    ServerUnavailable,
)
from hailtime.schema import MODEL_NAME, QUANTILES

_TRITON_HAS_NO_MODEL = re.compile(r"unknown model|not (at )?ready", re.IGNORECASE)
_TRITON_IS_RESTRICTED = re.compile(r"protocol is restricted", re.IGNORECASE)
_NO_ENTRY = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)

CONFIG_REQUEST = service_pb2.ModelConfigRequest(name=MODEL_NAME)
INDEX_REQUEST = service_pb2.RepositoryIndexRequest(ready=True)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What the client needs of Triton's model configuration."""

    max_batch_size: int
    parameters: Mapping[str, str]


def model_config(response: Any) -> ModelConfig:
    config = response.config
    return ModelConfig(config.max_batch_size, {key: value.string_value for key, value in config.parameters.items()})


def infer_request(
    version: int, numeric: NDArray[np.float32], categorical: NDArray[np.object_], requested_at: NDArray[np.int64]
) -> Any:
    tensor = service_pb2.ModelInferRequest.InferInputTensor
    return service_pb2.ModelInferRequest(
        model_name=MODEL_NAME,
        model_version=str(version),
        inputs=[
            tensor(name="numeric", datatype="FP32", shape=numeric.shape),
            tensor(name="categorical", datatype="BYTES", shape=categorical.shape),
            tensor(name="requested_at", datatype="INT64", shape=requested_at.shape),
        ],
        raw_input_contents=[numeric.tobytes(), bytes_tensor(categorical), requested_at.tobytes()],
    )


def bytes_tensor(texts: NDArray[np.object_]) -> bytes:
    """Strings as Triton's BYTES: each its length in 4 bytes, little-endian, then UTF-8; equal ones are encoded once."""
    return b"".join(map(_Framed().__getitem__, texts.ravel().tolist()))


class _Framed(dict[str, bytes]):
    """What a text becomes, found when it first comes."""

    def __missing__(self, text: str) -> bytes:
        content = text.encode()
        self[text] = framed = len(content).to_bytes(4, "little") + content
        return framed


def pickup_time_s(response: Any, url: str) -> NDArray[np.float32]:
    """Seconds (n, 3); PredictionError when it is the answer of some other model."""
    outputs = [(output.name, output.datatype) for output in response.outputs]
    if outputs != [("pickup_time_s", "FP32")] or len(response.raw_output_contents) != 1:
        raise PredictionError(f"the model must answer pickup_time_s as FP32, {url} answered {outputs}")
    content = np.frombuffer(response.raw_output_contents[0], dtype=np.float32)
    if content.size % len(QUANTILES):
        raise PredictionError(f"the model must answer {len(QUANTILES)} numbers a row, got {content.size} in all")
    return content.reshape(-1, len(QUANTILES))


def our_error(error: Any, url: str) -> PredictionError:
    """What a gRPC error means to who asked."""
    code, details = error.code(), error.details() or ""
    if code in _NO_ENTRY or _TRITON_IS_RESTRICTED.search(details):
        return PredictionError(
            f"{url} does not let this client in: {details}; give EtaClient headers={{'authorization': 'Bearer ...'}}, "
            "or {'triton-grpc-protocol-KEY': 'VALUE'} for a Triton that restricts model-config"
        )
    if code == grpc.StatusCode.NOT_FOUND or _TRITON_HAS_NO_MODEL.search(details):
        return ModelUnavailable(f"{url} does not serve the model: {details}")
    if code == grpc.StatusCode.UNAVAILABLE:
        return ServerUnavailable(f"no answer from {url}: {details}; is it running? python scripts/serve.py")
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"{url} did not answer in time")
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return RequestError(f"{url} refused the rows: {details}")
    return PredictionError(f"{url} failed with {code.name}: {details}")


def with_loaded(error: PredictionError, index: Any) -> PredictionError:
    """The same error with what is loaded instead: `; loaded is: pickup_eta 3`."""
    loaded = ", ".join(f"{model.name} {model.version}" for model in index.models if model.state == "READY")
    return ModelUnavailable(f"{error}; loaded is: {loaded or 'nothing'}")
