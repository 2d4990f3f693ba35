"""The gRPC transport against a service of Triton's protocol in this process: bytes, and errors by status and text."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from hailtime.client.messages import bytes_tensor
from hailtime.client.transport import GrpcTransport
from hailtime.errors import (
    ConfigError,
    DeadlineExceeded,
    ModelUnavailable,
    PredictionError,
    RequestError,
    ServerUnavailable,
)

ROWS = (np.zeros((2, 3), np.float32), np.array([["a", ""], ["ü", "a"]], object), np.zeros((2, 1), np.int64))
NOT_LOADED = "Request for unknown model: 'pickup_eta' version 7 is not at ready state"  # what Triton 2.51 says


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers with `answer`, or aborts with `status`."""

    def __init__(self):
        self.status, self.index_status, self.delay_s = None, None, 0.0
        self.answer = service_pb2.ModelInferResponse(
            outputs=[{"name": "pickup_time_s", "datatype": "FP32", "shape": [2, 3]}],
            raw_output_contents=[np.arange(6, dtype=np.float32).tobytes()],
        )

    def ModelInfer(self, request, context):  # noqa: N802
        self.asked = request
        time.sleep(self.delay_s)
        if self.status:
            context.abort(*self.status)
        return self.answer

    def RepositoryIndex(self, request, context):  # noqa: N802
        if self.index_status:
            context.abort(*self.index_status)
        return service_pb2.RepositoryIndexResponse(models=[{"name": "pickup_eta", "version": "3", "state": "READY"}])


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def transport(service):
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    transport = GrpcTransport(f"127.0.0.1:{port}")
    yield transport
    transport.close()
    server.stop(None).wait()


def test_strings_are_packed_as_tritonclient_packs_them():
    texts = np.array([["north", "", "Köln"], ["north", "a" * 300, "日本"]], object)
    assert bytes_tensor(texts) == serialize_byte_tensor(texts).item()


def test_request_asks_for_the_version_with_three_tensors(service, transport):
    answer = transport.infer(7, *ROWS, timeout_s=5)
    np.testing.assert_array_equal(answer, np.float32([[0, 1, 2], [3, 4, 5]]))
    assert (service.asked.model_name, service.asked.model_version) == ("pickup_eta", "7")
    tensors = [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in service.asked.inputs]
    assert tensors == [("numeric", "FP32", [2, 3]), ("categorical", "BYTES", [2, 2]), ("requested_at", "INT64", [2, 1])]


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        pytest.param(
            (grpc.StatusCode.NOT_FOUND, "unknown model"), ModelUnavailable, "loaded is: pickup_eta 3", id="none"
        ),
        pytest.param(
            (grpc.StatusCode.UNAVAILABLE, NOT_LOADED), ModelUnavailable, "version 7 is not at ready", id="version"
        ),
        pytest.param(
            (grpc.StatusCode.UNAVAILABLE, "busy"), ServerUnavailable, "busy; is it running? python scripts", id="down"
        ),
        pytest.param(
            (grpc.StatusCode.INVALID_ARGUMENT, "bad shape"), RequestError, "refused the rows: bad shape", id="rows"
        ),
        pytest.param(
            (grpc.StatusCode.INTERNAL, "stub died"), PredictionError, "failed with INTERNAL: stub died", id="inside"
        ),
    ],
)
def test_status_becomes_our_error(service, transport, status, error, said):
    service.status = status
    with pytest.raises(error, match=r"127\.0\.0\.1") as raised:
        transport.infer(7, *ROWS, timeout_s=5)
    assert type(raised.value) is error
    assert said in str(raised.value)


def test_what_is_loaded_is_left_out_where_it_may_not_be_asked(service, transport):
    service.status = (grpc.StatusCode.NOT_FOUND, "unknown model")
    service.index_status = (grpc.StatusCode.UNAVAILABLE, "This protocol is restricted")
    with pytest.raises(ModelUnavailable, match=r"does not serve the model: unknown model$"):
        transport.infer(7, *ROWS, timeout_s=5)


def test_late_answer_is_a_deadline_exceeded(service, transport):
    service.delay_s = 0.3
    with pytest.raises(DeadlineExceeded, match="did not answer in time"):
        transport.infer(7, *ROWS, timeout_s=0.05)


def test_server_that_never_answers_is_left_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections and says nothing
        transport = GrpcTransport(f"127.0.0.1:{mute.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="did not answer in time"):
            transport.config(timeout_s=0.2)
        assert 0.2 <= time.monotonic() - started < 2
        transport.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"outputs": [{"name": "other", "datatype": "FP32"}], "raw_output_contents": [b""]}, id="name"),
        pytest.param(
            {"outputs": [{"name": "pickup_time_s", "datatype": "FP64"}], "raw_output_contents": [b""]}, id="type"
        ),
        pytest.param({"outputs": [{"name": "pickup_time_s", "datatype": "FP32"}]}, id="nothing in it"),
        pytest.param(
            {"outputs": [{"name": "pickup_time_s", "datatype": "FP32"}], "raw_output_contents": [b"1234"]}, id="width"
        ),
    ],
)
def test_answer_of_another_model_is_refused(service, transport, answer):
    service.answer = service_pb2.ModelInferResponse(**answer)
    with pytest.raises(PredictionError, match="the model must answer"):
        transport.infer(7, *ROWS, timeout_s=5)


def test_nobody_at_the_address_is_told_with_the_way_out():
    transport = GrpcTransport("127.0.0.1:1")  # tcpmux, where nobody listens
    with pytest.raises(
        ServerUnavailable, match=r"no answer from 127\.0\.0\.1:1: .*is it running\? python scripts/serve\.py"
    ):
        transport.config(timeout_s=5)
    transport.close()


def test_closed_connection_is_told(transport):
    transport.close()
    with pytest.raises(PredictionError, match="cannot be used: Cannot invoke RPC on closed channel"):
        transport.config(timeout_s=5)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8001", "127.0.0.1", ""])
def test_address_must_be_host_and_port(url):
    with pytest.raises(ConfigError, match=f"host:port of Triton's gRPC service, without http://, got '{url}'"):
        GrpcTransport(url)
