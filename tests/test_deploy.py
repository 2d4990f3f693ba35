"""Publishing without a server: what appears in the repository, and what never does. Live: tests/triton."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2

from hailtime.errors import DeployError
from hailtime.rollout import Rollout
from hailtime.serving.config_file import read_config, write_config
from hailtime.serving.model_file import read_probe
from hailtime.serving.places import version_folder
from hailtime.serving.repository import check_version, prune, publish, quarantine, store_warm_up
from tests.tiny_run import TINY_SCHEMA, store_model, tiny_model, write_tiny_run

PLAN = Rollout(stable=3, canary=4, canary_percent=5)


@pytest.fixture
def run(tmp_path):
    return write_tiny_run(tmp_path / "run")


@pytest.fixture
def models(tmp_path):
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_config_is_what_triton_reads_and_says_types_and_widths():
    config = text_format.Parse(write_config(TINY_SCHEMA, (3, 4), PLAN), model_config_pb2.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("pickup_eta", "onnxruntime", 4096)
    tensors = {
        t.name: (model_config_pb2.DataType.Name(t.data_type), list(t.dims)) for t in (*config.input, *config.output)
    }
    assert tensors == {
        "numeric": ("TYPE_FP32", [3]),
        "categorical": ("TYPE_STRING", [2]),
        "requested_at": ("TYPE_INT64", [1]),
        "pickup_time_s": ("TYPE_FP32", [3]),
    }
    assert list(config.version_policy.specific.versions) == [3, 4]
    assert json.loads(config.parameters["rollout"].string_value)["canary"] == 4
    assert config.parameters["intra_op_thread_count"].string_value == "1"


def test_config_can_be_read_back(tmp_path):
    (tmp_path / "config.pbtxt").write_text(write_config(TINY_SCHEMA, (3, 4), PLAN))
    served = read_config(tmp_path)
    assert (served.schema, served.versions, served.rollout) == (TINY_SCHEMA, (3, 4), PLAN)


def test_every_plan_has_a_revision_of_its_own(tmp_path):
    (tmp_path / "config.pbtxt").write_text(write_config(TINY_SCHEMA, (3, 4), PLAN))
    served = read_config(tmp_path)
    assert served.with_plan(served.versions, served.rollout).revision not in ("", served.revision)


@pytest.mark.parametrize(
    "text", ["this is no config", 'name: "pickup_eta"', "\x00\xff"], ids=["words", "bare", "bytes"]
)
def test_unreadable_config_is_named_with_the_way_out(tmp_path, text):
    (tmp_path / "config.pbtxt").write_text(text)
    with pytest.raises(DeployError, match=r"config\.pbtxt cannot be read: .* or move the folder away"):
        read_config(tmp_path)


def test_published_version_is_complete_and_as_it_was_sent(run, models):
    version = publish(run, models)
    folder = models / "pickup_eta" / str(version)
    assert version == 1
    assert {file.name for file in folder.iterdir()} == {
        *("model.onnx", "schema.json", "export.json", "probe.npz", "manifest.json")
    }
    assert (folder / "model.onnx").read_bytes() == (run / "model.onnx").read_bytes()
    assert json.loads((folder / "manifest.json").read_text())["run"] == "run"


def test_published_version_is_not_served_yet(run, models):
    publish(run, models)
    assert not (models / "pickup_eta/config.pbtxt").exists()


def test_version_number_is_never_given_twice(run, models):
    assert [publish(run, models) for _ in range(3)] == [1, 2, 3]
    quarantine(models, 3, "its answers were wrong")
    assert publish(run, models) == 4


def test_publishers_at_the_same_time_get_versions_of_their_own(run, models):
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda _: publish(run, models), range(8)))
    assert sorted(versions) == list(range(1, 9))
    for version in versions:
        check_version(models / f"pickup_eta/{version}")


def test_what_a_killed_publisher_left_does_not_appear(run, models):
    (models / ".incoming").mkdir()
    (models / ".incoming/half.onnx").write_text("half a model")
    folder = models / "pickup_eta" / str(publish(run, models))
    assert not (folder / "half.onnx").exists()


def test_file_changed_after_publishing_is_noticed(run, models):
    folder = models / "pickup_eta" / str(publish(run, models))
    (folder / "probe.npz").write_bytes(b"other rows")
    with pytest.raises(DeployError, match=r"changed since: probe\.npz"):
        check_version(folder)


@pytest.mark.parametrize("name", ["model.onnx", "schema.json", "export.json", "probe.npz"])
def test_run_with_a_missing_file_is_told_how_to_get_it(run, models, name):
    (run / name).unlink()
    with pytest.raises(DeployError, match=rf"needs {name}, .*: python scripts/export.py {run}"):
        publish(run, models)


def truncated():
    return tiny_model().SerializeToString()[:-100]


def with_weights_outside():
    model = tiny_model()
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "spread")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../../etc/passwd")
    return model.SerializeToString()


def with_node(node):
    model = tiny_model()
    model.graph.node.append(node)
    return model.SerializeToString()


def with_custom_operator():
    return with_node(helper.make_node("Shell", ["numeric"], ["x"], domain="com.stranger"))


def with_custom_operator_in_a_branch():
    shell = helper.make_node("Shell", ["numeric"], ["x"], domain="com.stranger")
    branch = helper.make_graph([shell], "b", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)])
    return with_node(helper.make_node("If", ["day_s"], ["y"], then_branch=branch, else_branch=branch))


def with_operator_that_does_not_exist():
    return with_node(helper.make_node("Guess", ["numeric"], ["x"]))


def of_other_width():
    model = tiny_model()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
    return model.SerializeToString()


def of_other_schema():
    model = tiny_model()
    helper.set_model_props(model, {"hailtime.schema": replace(TINY_SCHEMA, timezone="Asia/Tokyo").to_json()})
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(truncated, "not a whole ONNX file", id="truncated"),
        pytest.param(lambda: b"", r"model\.onnx cannot be used", id="empty"),
        pytest.param(with_weights_outside, "it keeps 'spread' in another file", id="weights outside"),
        pytest.param(with_custom_operator, r"it uses some of com\.stranger", id="custom operator"),
        pytest.param(
            with_custom_operator_in_a_branch, r"it uses some of com\.stranger", id="custom operator in a branch"
        ),
        pytest.param(with_operator_that_does_not_exist, r"cannot be used: .*Guess", id="no such operator"),
        pytest.param(of_other_width, r"numeric FLOAT \[N, 3\].* it has numeric FLOAT \[N, 4\]", id="width"),
        pytest.param(of_other_schema, "made for another schema", id="schema"),
    ],
)
def test_model_that_must_not_be_served_is_refused(run, models, make, message):
    store_model(run, make())
    with pytest.raises(DeployError, match=f"(?s){message}"):
        publish(run, models)
    assert not list(models.iterdir())


def test_model_changed_after_its_export_is_refused(run, models):
    onnx.save(tiny_model(base_s=5), run / "model.onnx")
    with pytest.raises(DeployError, match="must be those exported"):
        publish(run, models)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"numeric": np.zeros((64, 4), np.float32)}, id="width"),
        pytest.param({"numeric": np.zeros((64, 3))}, id="type"),
        pytest.param({"requested_at": np.zeros((3, 1), np.int64)}, id="rows that do not match"),
        pytest.param({"categorical": np.full((64, 2), "a", dtype=np.object_)}, id="objects"),
        pytest.param({"surprise": np.zeros((64, 1))}, id="one too many"),
    ],
)
def test_probe_that_does_not_fit_is_refused(run, models, changed):
    with np.load(run / "probe.npz") as probe:
        np.savez(run / "probe.npz", **{**probe, **changed})
    with pytest.raises(DeployError, match=r"probe\.npz"):
        publish(run, models)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        pytest.param("a_file", "must be a folder, .*a_file is none", id="a file"),
        pytest.param("nowhere", "must be a folder, .*nowhere is none", id="missing"),
        pytest.param("/proc/self", r"/proc/self cannot be written: \w+", id="a file system nobody can write"),
    ],
)
def test_repository_that_cannot_be_written_is_named(run, tmp_path, place, message):
    (tmp_path / "a_file").write_text("")
    with pytest.raises(DeployError, match=message):
        publish(run, tmp_path / place)


def test_model_folder_that_leads_out_of_the_repository_is_refused(run, models, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (models / "pickup_eta").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeployError, match=r"must lie in its repository, .* leads to .*elsewhere"):
        publish(run, models)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", [".incoming", ".quarantine", ".trash", "pickup_eta/warmup"])
def test_folder_of_the_repository_that_leads_out_of_it_is_refused(run, models, tmp_path, name):
    publish(run, models)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").write_text("somebody's")
    (models / name).symlink_to(tmp_path / "elsewhere")
    use = {
        ".incoming": lambda: publish(run, models),
        ".quarantine": lambda: quarantine(models, 1, "its answers were wrong"),
        ".trash": lambda: prune(models, needed=()),
        "pickup_eta/warmup": lambda: store_warm_up(models, read_probe((run / "probe.npz").read_bytes(), TINY_SCHEMA)),
    }
    with pytest.raises(DeployError, match=rf"{Path(name).name} must lie in its repository, .* leads to .*elsewhere"):
        use[name]()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["kept"]


def test_version_that_is_a_link_is_refused(run, models, tmp_path):
    publish(run, models)
    (models / "pickup_eta/1").rename(tmp_path / "moved")
    (models / "pickup_eta/1").symlink_to(tmp_path / "moved")
    with pytest.raises(DeployError, match=r"1 must lie in its repository, .* leads to .*moved"):
        version_folder(models, 1)


def test_file_that_is_a_link_to_the_same_content_is_noticed(run, models, tmp_path):
    folder = models / "pickup_eta" / str(publish(run, models))
    (folder / "model.onnx").rename(tmp_path / "model.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "model.onnx")
    with pytest.raises(DeployError, match=r"changed since: model\.onnx"):
        check_version(folder)


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "sub/file"])
def test_manifest_that_names_files_elsewhere_is_refused(run, models, name):
    folder = models / "pickup_eta" / str(publish(run, models))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][name] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DeployError, match=f"changed since: {name}"):
        check_version(folder)


@pytest.mark.parametrize("version", ["../../etc", "1", 0, -1, True, 1.0], ids=repr)
def test_version_must_be_a_number_from_1(version):
    with pytest.raises(DeployError, match="whole number from 1"):
        version_folder(Path("models"), version)
