"""The gRPC transport against a service of Triton's protocol in this process: bytes, and errors by status and text."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from hailtime.client import AsyncEtaClient, EtaClient
from hailtime.client.messages import bytes_tensor, pickup_time_s
from hailtime.client.transport import GrpcTransport
from hailtime.errors import (
    ConfigError,
    DeadlineExceeded,
    ModelUnavailable,
    PredictionError,
    RequestError,
    ServerUnavailable,
)
from tests.small_town import ROW, model_config

ROWS = (np.zeros((2, 3), np.float32), np.array([["a", ""], ["ü", "a"]], object), np.zeros((2, 1), np.int64))
NOT_LOADED = "Request for unknown model: 'pickup_eta' version 7 is not at ready state"  # what Triton 2.51 says


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers with `answer`, or aborts with `status`; the served plan is that of the small town."""

    def __init__(self):
        self.status, self.index_status, self.delay_s, self.n_plans_told = None, None, 0.0, 0
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

    def ModelConfig(self, request, context):  # noqa: N802
        self.n_plans_told += 1
        served, told = model_config(), service_pb2.ModelConfigResponse()
        told.config.max_batch_size = served.max_batch_size
        for name, text in served.parameters.items():
            told.config.parameters[name].string_value = text
        return told

    def RepositoryIndex(self, request, context):  # noqa: N802
        if self.index_status:
            context.abort(*self.index_status)
        return service_pb2.RepositoryIndexResponse(models=[{"name": "pickup_eta", "version": "3", "state": "READY"}])


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def url(service):
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def transport(url):
    transport = GrpcTransport(url)
    yield transport
    transport.close()


ONE = service_pb2.ModelInferResponse(
    outputs=[{"name": "pickup_time_s", "datatype": "FP32", "shape": [1, 3]}],
    raw_output_contents=[np.float32([1, 2, 3]).tobytes()],
)


def test_new_client_has_read_the_plan_before_it_is_asked(service, url):
    service.answer = ONE
    with EtaClient(url, 5.0) as client:
        assert service.n_plans_told == 1
        assert client.predict(ROW).p50_s == 2
    assert service.n_plans_told == 1


def test_client_of_an_event_loop_has_too(service, url):
    async def ask():
        async with AsyncEtaClient(url, 5.0) as client:
            before = service.n_plans_told
            return before, (await client.predict(ROW)).p50_s

    service.answer = ONE
    assert asyncio.run(ask()) == (1, 2)
    assert service.n_plans_told == 1


def test_making_a_client_waits_half_a_second_for_a_server_that_hangs():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started = time.monotonic()
        with EtaClient(f"127.0.0.1:{mute.getsockname()[1]}", 0.05):
            assert 0.5 <= time.monotonic() - started < 2


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


def of_rows(*numbers, version="7"):
    """The answer of this version to so many rows of three numbers."""
    output = {"name": "pickup_time_s", "datatype": "FP32", "shape": [len(numbers) // 3, 3]}
    contents = [np.array(numbers, np.float32).tobytes()]
    return service_pb2.ModelInferResponse(model_version=version, outputs=[output], raw_output_contents=contents)


def test_answers_that_begin_alike_are_each_read_right():
    for numbers in ([1, 2, 3], [4, 5, 6], [1, 2, 3, 4, 5, 6], [7, 8, 9]):
        for version in ("7", "8"):
            read = pickup_time_s(of_rows(*numbers, version=version).SerializeToString(), len(numbers) // 3, "here")
            np.testing.assert_array_equal(read, np.float32(numbers).reshape(-1, 3))


def test_answer_to_other_rows_than_asked_is_read_as_it_is():
    for numbers, n_asked in (([1, 2, 3], 1), ([1, 2, 3], 2), ([1, 2, 3, 4, 5, 6], 2), ([1, 2, 3, 4, 5, 6], 1)):
        read = pickup_time_s(of_rows(*numbers).SerializeToString(), n_asked, "here")
        np.testing.assert_array_equal(read, np.float32(numbers).reshape(-1, 3))


def test_answer_that_is_no_message_is_refused():
    good = of_rows(1, 2, 3).SerializeToString()
    pickup_time_s(good, 1, "here")
    for content in (b"\xff" * 40, good[:-5], good + b"\xff"):
        with pytest.raises(PredictionError):
            pickup_time_s(content, 1, "here")


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
