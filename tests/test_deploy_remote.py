"""A repository in an object store: in memory, as fsspec's stand-in for one, and as files."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from hailtime.errors import DeployError
from hailtime.rollout import Rollout
from hailtime.serving.config_file import read_config
from hailtime.serving.remote import RemoteRepository
from hailtime.serving.repository import check_version
from tests.tiny_run import TINY_SCHEMA, write_tiny_run


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    yield f"memory://{tmp_path.name}/models" if request.param == "memory" else f"file://{tmp_path}/models"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def run(tmp_path):
    return write_tiny_run(tmp_path / "run")


def test_published_versions_are_whole_and_the_newest_is_stable(url, run):
    repository = RemoteRepository(url)
    assert [repository.publish(run) for _ in range(3)] == [1, 2, 3]
    served = repository.served()
    assert (served.rollout, served.versions, served.schema) == (Rollout(3), (2, 3), TINY_SCHEMA)
    files, root = fsspec.core.url_to_fs(url)
    assert files.cat_file(f"{root}/pickup_eta/3/model.onnx") == (run / "model.onnx").read_bytes()


def test_a_folder_published_to_is_one_that_triton_and_our_checks_read(tmp_path, run):
    RemoteRepository(f"file://{tmp_path}/models").publish(run)
    assert check_version(tmp_path / "models/pickup_eta/1")["run"] == "run"
    assert read_config(tmp_path / "models/pickup_eta").rollout == Rollout(1)


def test_config_is_written_last(tmp_path, run, monkeypatch):
    written, url = [], f"memory://{tmp_path.name}/models"
    files, _ = fsspec.core.url_to_fs(url)
    pipe_file = type(files).pipe_file

    def noting(self, path, value, mode="overwrite", **options):
        written.append(path.rpartition("pickup_eta/")[2])
        return pipe_file(self, path, value, mode=mode, **options)

    monkeypatch.setattr(type(files), "pipe_file", noting)
    RemoteRepository(url).publish(run)
    assert written[0] == ".claims/1"
    assert written[-2:] == ["1/manifest.json", "config.pbtxt"]
    warm_up = {"warmup/numeric", "warmup/categorical", "warmup/requested_at"}
    assert set(written[1:-2]) == {"1/model.onnx", "1/schema.json", "1/export.json", "1/probe.npz", *warm_up}


def test_going_back_is_a_change_of_the_plan(url, run):
    repository = RemoteRepository(url)
    for _ in range(2):
        repository.publish(run)
    repository.make_stable(1)
    assert (repository.served().rollout, repository.served().versions) == (Rollout(1), (1, 2))


@pytest.mark.parametrize("version", [7, 0, True, "1", "../1"], ids=repr)
def test_version_that_is_not_there_does_not_become_stable(url, run, version):
    repository = RemoteRepository(url)
    repository.publish(run)
    with pytest.raises(DeployError, match=r"manifest\.json cannot be read|whole number from 1"):
        repository.make_stable(version)
    assert repository.served().rollout == Rollout(1)


def test_changed_file_does_not_become_stable(url, run):
    repository = RemoteRepository(url)
    for _ in range(2):
        repository.publish(run)
    files, root = fsspec.core.url_to_fs(url)
    files.pipe_file(f"{root}/pickup_eta/1/probe.npz", b"other rows")
    with pytest.raises(DeployError, match=r"1/probe\.npz must be as it was published"):
        repository.make_stable(1)


def test_publishers_at_the_same_time_get_numbers_of_their_own(url, run, monkeypatch):
    RemoteRepository(url).publish(run)
    exists = MemoryFileSystem.exists
    monkeypatch.setattr(MemoryFileSystem, "exists", lambda *told: (exists(*told), time.sleep(0.01))[0])
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda _: RemoteRepository(url).publish(run), range(8)))
    assert sorted(versions) == list(range(2, 10))


def test_number_of_a_version_that_was_not_finished_is_not_given_again(url, run):
    files, root = fsspec.core.url_to_fs(url)
    RemoteRepository(url).publish(run)
    files.pipe_file(f"{root}/pickup_eta/.claims/2", b"")
    assert RemoteRepository(url).publish(run) == 3


def test_other_schema_is_refused(url, run, tmp_path):
    repository = RemoteRepository(url)
    repository.publish(run)
    other = write_tiny_run(tmp_path / "other", schema=replace(TINY_SCHEMA, timezone="Asia/Tokyo"))
    with pytest.raises(DeployError, match="must have the schema that is served"):
        repository.publish(other)
    assert repository.served().rollout == Rollout(1)


@pytest.mark.parametrize("url", ["nosuch://bucket/models"])
def test_protocol_that_does_not_exist_is_named(url):
    with pytest.raises(DeployError, match="nosuch://bucket/models is not"):
        RemoteRepository(url)


def test_manifest_tells_the_run(url, run):
    RemoteRepository(url).publish(run)
    files, root = fsspec.core.url_to_fs(url)
    assert json.loads(files.cat_file(f"{root}/pickup_eta/1/manifest.json"))["run"] == "run"
