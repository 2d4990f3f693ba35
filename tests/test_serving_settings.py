"""serving.yaml and what it makes of Triton's config. A server that reads it: tests/triton/test_tuning.py."""

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from hailtime.errors import DeployError
from hailtime.rollout import Rollout
from hailtime.serving.config_file import Served, write_config
from hailtime.serving.settings import Settings, read_settings, store_settings, warm_up_files
from hailtime.serving.triton_install import BACKEND
from tests.tiny_run import TINY_SCHEMA

TUNED = Settings(instances=2, threads=3, max_queue_delay_us=500, preferred_batch_sizes=(4, 8), warm_up=(1, 16))


def config_of(settings):
    return text_format.Parse(write_config(TINY_SCHEMA, (1,), Rollout(1), settings), model_config_pb2.ModelConfig())


def test_stored_settings_are_read_back(tmp_path):
    store_settings(tmp_path / "models", TUNED, "found by hand")
    assert (tmp_path / "models/serving.yaml").read_text().startswith("# found by hand\n")
    assert read_settings(tmp_path / "models") == TUNED


def test_no_file_is_no_settings(tmp_path):
    assert read_settings(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("instance: 2", r"no entry 'instance', did you mean 'instances'", id="misspelt"),
        pytest.param("instances: 0", r"instances must be a whole number from 1 to 64, got 0", id="none"),
        pytest.param("threads: 1.5", r"threads must be a whole number", id="fraction"),
        pytest.param("device: cuda", r"device must be cpu or gpu, got 'cuda'", id="device"),
        pytest.param("tf32: true", r"tf32 must be true on a gpu only", id="tf32 on a cpu"),
        pytest.param("warm_up: [1, 5000]", r"batch sizes from 1 to 4096", id="batch too large"),
        pytest.param("warm_up: 64", r"a list of batch sizes", id="no list"),
        pytest.param("max_queue_delay_us: -1", r"microseconds from 0", id="delay"),
        pytest.param("[1, 2]", r"must hold entries", id="a list"),
        pytest.param("a: [", r"must be yaml", id="no yaml"),
    ],
)
def test_wrong_settings_are_named_with_their_file(tmp_path, text, message):
    (tmp_path / "serving.yaml").write_text(text)
    with pytest.raises(DeployError, match=rf"(?s)serving\.yaml.*{message}"):
        read_settings(tmp_path)


def test_config_says_instances_threads_batching_and_warm_up():
    config = config_of(TUNED)
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, model_config_pb2.ModelInstanceGroup.KIND_CPU)
    assert config.parameters["intra_op_thread_count"].string_value == "3"
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert [sample.batch_size for sample in config.model_warmup] == [1, 16]
    assert not config.HasField("optimization")


def test_gpu_config_has_the_words_of_the_native_backend():
    """As the README of triton-inference-server/onnxruntime_backend spells them; order is precedence."""
    text = write_config(TINY_SCHEMA, (1,), Rollout(1), Settings("gpu", tensorrt_fp16=True))
    assert "kind: KIND_GPU" in text
    words = "".join(text.split())
    tensorrt = 'name:"tensorrt"parameters{key:"precision_mode"value:"FP16"}'
    cuda = 'name:"cuda"parameters{key:"use_tf32"value:"0"}'
    accelerators = f"gpu_execution_accelerator{{{tensorrt}}}gpu_execution_accelerator{{{cuda}}}"
    assert f"optimization{{execution_accelerators{{{accelerators}}}}}" in words


def test_tensorrt_sees_the_smallest_and_the_largest_batch_before_it_answers():
    config = config_of(Settings("gpu", tensorrt_fp16=True, warm_up=(64,)))
    assert [sample.batch_size for sample in config.model_warmup] == [1, 64, 4096]


def test_tf32_is_on_only_where_asked():
    (cuda,) = config_of(Settings("gpu", tf32=True)).optimization.execution_accelerators.gpu_execution_accelerator
    assert dict(cuda.parameters) == {"use_tf32": "1"}


def test_new_settings_take_the_place_of_the_old_and_leave_the_rest():
    before = Served.from_text(write_config(TINY_SCHEMA, (1, 2), Rollout(1), Settings("gpu", tensorrt_fp16=True)))
    config = text_format.Parse(before.with_settings(TUNED).text, model_config_pb2.ModelConfig())
    config.parameters["revision"].string_value = ""
    wanted = config_of(TUNED)
    wanted.version_policy.specific.versions[:] = [1, 2]
    wanted.parameters["revision"].string_value = ""
    config.ClearField("optimization")  # left behind empty
    assert config == wanted
    assert before.with_settings(None) is before


def test_warm_up_files_hold_the_first_row_as_triton_reads_it():
    files = warm_up_files(
        {
            "numeric": np.array([[1.5, np.nan], [7, 7]], np.float32),
            "categorical": np.array([["Łódź", ""], ["x", "y"]]),
            "requested_at": np.array([[1_775_133_000], [0]]),
        }
    )
    np.testing.assert_array_equal(np.frombuffer(files["numeric"], "<f4"), np.float32([1.5, np.nan]))
    assert files["categorical"] == b"\x07\0\0\0\xc5\x81\xc3\xb3d\xc5\xba\0\0\0\0"
    assert np.frombuffer(files["requested_at"], "<i8").tolist() == [1_775_133_000]


@pytest.fixture
def backend(monkeypatch):
    """The Python-based backend as a module. Triton's own module, which only its process has, is stood in for."""
    refusal = type("TritonModelException", (Exception,), {})
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", SimpleNamespace(TritonModelException=refusal))
    spec = importlib.util.spec_from_file_location("our_triton_backend", BACKEND)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GPU_CONFIG = {
    "optimization": {
        "execution_accelerators": {
            "gpu_execution_accelerator": [
                {"name": "tensorrt", "parameters": {"precision_mode": "FP16"}},
                {"name": "cuda", "parameters": {"use_tf32": "0"}},
            ]
        }
    }
}


def test_backend_runs_where_the_config_says(backend):
    assert backend.wanted_providers(GPU_CONFIG, "CPU", "0") == [("CPUExecutionProvider", {})]
    assert backend.wanted_providers(GPU_CONFIG, "GPU", "1") == [
        ("TensorrtExecutionProvider", {"device_id": "1", "trt_fp16_enable": "1"}),
        ("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"}),
        ("CPUExecutionProvider", {}),
    ]
    assert backend.wanted_providers({}, "GPU", "0")[0] == ("CUDAExecutionProvider", {"device_id": "0"})


def test_backend_refuses_a_gpu_model_where_onnxruntime_has_no_gpu(backend):
    """This machine's onnxruntime is the one without CUDA, as that of the embedded server."""
    args = {"model_config": "{}", "model_repository": "/nowhere", "model_version": "1"}
    with pytest.raises(Exception, match=r"needs CUDAExecutionProvider, .* has only .*CPUExecutionProvider.*NVIDIA"):
        backend.TritonPythonModel().initialize({**args, "model_instance_kind": "GPU", "model_instance_device_id": "0"})


def test_backend_refuses_when_the_session_left_the_gpu_out(backend):
    wanted = backend.wanted_providers({}, "GPU", "0")
    with pytest.raises(Exception, match="needs CUDAExecutionProvider"):
        backend._check_providers(wanted, ["CPUExecutionProvider"])
    backend._check_providers(wanted, ["CUDAExecutionProvider", "CPUExecutionProvider"])
