"""How packed rows reach the model: the only part of the clients that touches the network.

`Transport` is what `EtaClient` asks for, `GrpcTransport` is the real one; the same for `asyncio` beside them. Tests,
and whoever serves the model in some other way, pass their own.
"""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import grpc  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2_grpc

from hailtime.client.connection import Headers, Tls, channel_options, check_address, metadata
from hailtime.client.messages import (
    CONFIG_REQUEST,
    INDEX_REQUEST,
    INFER_METHOD,
    ModelConfig,
    infer_request,
    model_config,
    our_error,
    pickup_time_s,
    with_loaded,
)
from hailtime.errors import ModelUnavailable, PredictionError


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


class AsyncTransport(Protocol):
    """The same for `AsyncEtaClient`."""

    async def config(self, timeout_s: float) -> ModelConfig: ...

    async def infer(
        self,
        version: int,
        numeric: NDArray[np.float32],
        categorical: NDArray[np.object_],
        requested_at: NDArray[np.int64],
        timeout_s: float,
    ) -> NDArray[np.float32]: ...

    async def close(self) -> None: ...


class GrpcTransport:
    """A Triton at `url` (host:port) over one gRPC channel, which all threads share."""

    def __init__(self, url: str, tls: Tls | None = None, headers: Headers | None = None) -> None:
        self.url = check_address(url)
        self._headers = headers
        options = channel_options(tls)
        # A channel and its stub are thread-safe, says gRPC; only tritonclient's streams are not, and none is used here
        self._channel = (
            grpc.secure_channel(url, tls.credentials(), options) if tls else grpc.insecure_channel(url, options)
        )
        self._triton = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._infer = infer_method(self._channel)

    def config(self, timeout_s: float) -> ModelConfig:
        return model_config(self._call(self._triton.ModelConfig, CONFIG_REQUEST, timeout_s))

    def infer(
        self,
        version: int,
        numeric: NDArray[np.float32],
        categorical: NDArray[np.object_],
        requested_at: NDArray[np.int64],
        timeout_s: float,
    ) -> NDArray[np.float32]:
        request = infer_request(version, numeric, categorical, requested_at)
        return pickup_time_s(self._call(self._infer, request, timeout_s), len(numeric), self.url)

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: Callable[..., Any], request: Any, timeout_s: float) -> Any:
        gives_up_at = time.monotonic() + timeout_s
        try:
            return method(request, timeout=timeout_s, metadata=metadata(self._headers))
        except grpc.RpcError as error:
            ours = our_error(error, self.url)
            if isinstance(ours, ModelUnavailable):
                ours = self._with_loaded(ours, gives_up_at)
            raise ours from error
        except ValueError as error:  # what gRPC raises on a closed channel
            raise PredictionError(f"the connection to {self.url} cannot be used: {error}") from error

    def _with_loaded(self, error: PredictionError, gives_up_at: float) -> PredictionError:
        left_s = gives_up_at - time.monotonic()
        try:
            index = self._triton.RepositoryIndex(INDEX_REQUEST, timeout=left_s, metadata=metadata(self._headers))
            return with_loaded(error, index)
        except (grpc.RpcError, ValueError):  # it may not be asked, or there is no time left
            return error


class AsyncGrpcTransport:
    """The same in an event loop; the connection belongs to the loop that asks first."""

    def __init__(self, url: str, tls: Tls | None = None, headers: Headers | None = None) -> None:
        self.url = check_address(url)
        self._headers = headers
        self._options = channel_options(tls)
        self._credentials = tls.credentials() if tls else None

    @cached_property
    def _channel(self) -> Any:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.url, self._options)
        return grpc.aio.secure_channel(self.url, self._credentials, self._options)

    @cached_property
    def _triton(self) -> Any:
        return service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    @cached_property
    def _infer(self) -> Any:
        return infer_method(self._channel)

    async def config(self, timeout_s: float) -> ModelConfig:
        return model_config(await self._call(self._triton.ModelConfig, CONFIG_REQUEST, timeout_s))

    async def infer(
        self,
        version: int,
        numeric: NDArray[np.float32],
        categorical: NDArray[np.object_],
        requested_at: NDArray[np.int64],
        timeout_s: float,
    ) -> NDArray[np.float32]:
        request = infer_request(version, numeric, categorical, requested_at)
        return pickup_time_s(await self._call(self._infer, request, timeout_s), len(numeric), self.url)

    async def close(self) -> None:
        await self._channel.close()

    async def _call(self, method: Callable[..., Any], request: Any, timeout_s: float) -> Any:
        gives_up_at = time.monotonic() + timeout_s
        try:
            return await method(request, timeout=timeout_s, metadata=metadata(self._headers))
        except grpc.aio.AioRpcError as error:
            ours = our_error(error, self.url)
            if isinstance(ours, ModelUnavailable):
                ours = await self._with_loaded(ours, gives_up_at)
            raise ours from error
        except grpc.aio.UsageError as error:
            raise PredictionError(f"the connection to {self.url} cannot be used: {error}") from error

    async def _with_loaded(self, error: PredictionError, gives_up_at: float) -> PredictionError:
        left_s = gives_up_at - time.monotonic()
        try:
            index = await self._triton.RepositoryIndex(INDEX_REQUEST, timeout=left_s, metadata=metadata(self._headers))
            return with_loaded(error, index)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, ValueError):
            return error


def infer_method(channel: Any) -> Any:
    """ModelInfer from bytes to bytes."""
    return channel.unary_unary(INFER_METHOD)
