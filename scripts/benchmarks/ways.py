"""Ways to ask the same model the same rows: each a function of a number of rows that gives a function to call.

What is called holds its rows ready as its users have them: arrays for a plain Triton client, dicts for ours, and dicts
that become JSON for HTTP. Threads share a gRPC channel and have an HTTP connection each, kept alive.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput

from hailtime.client import EtaClient
from hailtime.schema import MODEL_NAME

TENSORS = (("numeric", "FP32"), ("categorical", "BYTES"), ("requested_at", "INT64"))

Call = Callable[[], Any]
Way = Callable[[int], Call]


def plain(client: InferenceServerClient, arrays: Sequence[Any]) -> Way:
    """The least a gRPC client can do: tensors filled beforehand, no schema, no checks."""

    def of(n: int) -> Call:
        inputs = []
        for (name, kind), array in zip(TENSORS, arrays, strict=True):
            inputs.append(InferInput(name, [n, array.shape[1]], kind))
            inputs[-1].set_data_from_numpy(array[:n])
        return lambda: client.infer(MODEL_NAME, inputs).as_numpy("pickup_time_s")

    return of


def dicts(client: EtaClient, rows: Sequence[Mapping[str, Any]]) -> Way:
    """A dict for one row, a list of them for more."""

    def of(n: int) -> Call:
        part = rows[0] if n == 1 else rows[:n]
        return lambda: client.predict(part)

    return of


def pandas(client: EtaClient, frame: Any) -> Way:
    def of(n: int) -> Call:
        part = frame.head(n)
        return lambda: client.predict(part)

    return of


def alone(session: Any, arrays: Sequence[Any]) -> Way:
    """onnxruntime in this process: what the model itself takes."""

    def of(n: int) -> Call:
        feed = {name: array[:n] for (name, _), array in zip(TENSORS, arrays, strict=True)}
        return lambda: session.run(None, feed)[0]

    return of


def http(port: int, rows: Sequence[Mapping[str, Any]]) -> Way:
    own = threading.local()

    def ask(part: Sequence[Mapping[str, Any]]) -> Any:
        if not hasattr(own, "connection"):
            own.connection = HTTPConnection("127.0.0.1", port, timeout=30.0)
        own.connection.request("POST", "/predict", json.dumps(part).encode(), {"Content-Type": "application/json"})
        return np.array(json.loads(own.connection.getresponse().read()), np.float32)

    return lambda n: lambda: ask(rows[:n])
