"""Triton's messages, and what its answers and errors mean: what both transports share.

Requests are written as bytes; tritonclient 2.73 visits every string with `numpy.nditer`. Measured, 13 numbers and
4 categories a row, µs a request, here and there: 1 row 4, 40; 64 rows 27, 209; 1024 rows 275, 2823.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from google.protobuf.message import DecodeError
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

# Each content is a field of its own: its number and "a length follows"
_RAW_INPUT = bytes([service_pb2.ModelInferRequest.DESCRIPTOR.fields_by_name["raw_input_contents"].number << 3 | 2])
INFER_METHOD = "/inference.GRPCInferenceService/ModelInfer"

FEW = 64  # texts, for which looking for equal ones takes longer than it saves
_ROW_BYTES = 4 * len(QUANTILES)
MOST_BEGINNINGS = 1024
_BEGINNINGS: dict[bytes, int] = {}  # of answers, and how many rows they were the answers to

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
) -> bytes:
    """A ModelInferRequest as it goes over the wire."""
    before, after = _frame(version, len(numeric), numeric.shape[1], categorical.shape[1])
    texts = bytes_tensor(categorical)
    return b"".join((before, numeric.tobytes(), _RAW_INPUT, _varint(len(texts)), texts, after, requested_at.tobytes()))


@lru_cache(maxsize=1024)
def _frame(version: int, n_rows: int, n_numbers: int, n_texts: int) -> tuple[bytes, bytes]:
    """What stands before the numbers and before the times, which depends on the number of rows alone.

    Fields of a message may come in any order.
    """
    tensor = service_pb2.ModelInferRequest.InferInputTensor
    message = service_pb2.ModelInferRequest(
        model_name=MODEL_NAME,
        model_version=str(version),
        inputs=[
            tensor(name="numeric", datatype="FP32", shape=(n_rows, n_numbers)),
            tensor(name="categorical", datatype="BYTES", shape=(n_rows, n_texts)),
            tensor(name="requested_at", datatype="INT64", shape=(n_rows, 1)),
        ],
    )
    head = bytes(message.SerializeToString())
    return head + _RAW_INPUT + _varint(4 * n_rows * n_numbers), _RAW_INPUT + _varint(8 * n_rows)


def _varint(number: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def bytes_tensor(texts: NDArray[np.object_]) -> bytes:
    """Strings as Triton's BYTES: each its length in 4 bytes, little-endian, then UTF-8."""
    values = texts.ravel().tolist()
    if len(values) > FEW:  # equal ones are encoded once
        return b"".join(map(_Framed().__getitem__, values))
    contents = [text.encode() for text in values]
    return b"".join([part for content in contents for part in (len(content).to_bytes(4, "little"), content)])


class _Framed(dict[str, bytes]):
    """What a text becomes, found when it first comes."""

    def __missing__(self, text: str) -> bytes:
        content = text.encode()
        self[text] = framed = len(content).to_bytes(4, "little") + content
        return framed


def pickup_time_s(content: bytes, n_rows: int, url: str) -> NDArray[np.float32]:
    """Seconds (n, 3) of a ModelInferResponse; PredictionError when it is the answer of some other model.

    Answers of one version to as many rows differ in the numbers at their end alone. So a beginning that was read before
    is known by its bytes: measured between two answers, 3 µs in place of 14.
    """
    beginning = content[: len(content) - _ROW_BYTES * n_rows]
    if _BEGINNINGS.get(beginning) != n_rows:
        return _read_answer(content, url)
    return np.ndarray((n_rows, len(QUANTILES)), np.float32, content[len(beginning) :])


def _read_answer(content: bytes, url: str) -> NDArray[np.float32]:
    try:
        response = service_pb2.ModelInferResponse.FromString(content)
    except DecodeError as error:
        raise PredictionError(f"{url} must answer with Triton's message, it did not: {error}") from error
    outputs, contents = response.outputs, response.raw_output_contents
    if len(outputs) != 1 or len(contents) != 1 or (outputs[0].name, outputs[0].datatype) != ("pickup_time_s", "FP32"):
        told = [(output.name, output.datatype) for output in outputs]
        raise PredictionError(f"the model must answer pickup_time_s as FP32, {url} answered {told}")
    n_rows, rest = divmod(len(contents[0]), _ROW_BYTES)
    if rest:
        raise PredictionError(
            f"the model must answer {len(QUANTILES)} numbers a row, got {len(contents[0]) // 4} in all"
        )
    if content.endswith(contents[0]):
        if len(_BEGINNINGS) >= MOST_BEGINNINGS:
            _BEGINNINGS.clear()
        _BEGINNINGS[content[: len(content) - len(contents[0])]] = n_rows
    return np.ndarray((n_rows, len(QUANTILES)), np.float32, contents[0])


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
