"""Settings of serving.yaml on a real Triton, and the script that finds them there."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from hailtime.errors import DeployError, ServerError
from hailtime.serving.config_file import read_served
from hailtime.serving.deploy import deploy
from hailtime.serving.settings import Settings, read_settings, store_settings
from tests.tiny_run import write_tiny_run
from tests.triton.asking import base_s

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]


def served_config(server):
    with InferenceServerClient(server.url) as client:
        return client.get_model_config("pickup_eta").config


def test_a_deployment_serves_by_serving_yaml_and_without_it_as_before(serve, tmp_path):
    models, run = tmp_path / "models", write_tiny_run(tmp_path / "run")
    server = serve(models)
    deploy(run, models, server.url)
    assert served_config(server).instance_group[0].count == 1
    store_settings(models, Settings(instances=2, max_queue_delay_us=300, warm_up=(1, 8)), "by hand")
    deploy(run, models, server.url)
    assert served_config(server).instance_group[0].count == 2
    (models / "serving.yaml").unlink()
    deploy(run, models, server.url)
    config = served_config(server)
    assert (config.instance_group[0].count, config.dynamic_batching.max_queue_delay_microseconds) == (2, 300)
    assert [sample.batch_size for sample in config.model_warmup] == [1, 8]
    assert base_s(server.url) == 100


def test_a_gpu_that_is_not_there_is_refused_and_the_version_before_answers(serve, tmp_path):
    models, run = tmp_path / "models", write_tiny_run(tmp_path / "run")
    server = serve(models)
    deploy(run, models, server.url)
    store_settings(models, Settings("gpu"), "by hand")
    with pytest.raises(DeployError, match=r"(?s)refused.*no GPUs are available|needs CUDAExecutionProvider"):
        deploy(write_tiny_run(tmp_path / "other", base_s=200), models, server.url)
    assert base_s(server.url) == 100
    assert served_config(server).instance_group[0].kind == served_config(server).instance_group[0].KIND_CPU


def test_settings_that_cannot_be_change_nothing(serve, tmp_path):
    models, run = tmp_path / "models", write_tiny_run(tmp_path / "run")
    server = serve(models)
    models.mkdir(exist_ok=True)
    (models / "serving.yaml").write_text("instances: many")
    with pytest.raises(DeployError, match=r"serving\.yaml: instances must be"):
        deploy(run, models, server.url)
    assert read_served(models) is None
    assert not (models / "pickup_eta/1").exists()


def test_the_server_runs_the_row_in_the_files_before_it_answers(serve, tmp_path):
    """Cut the file, and the model does not load."""
    models = tmp_path / "models"
    server = serve(models)
    deploy(write_tiny_run(tmp_path / "run"), models, server.url)
    server.kill()
    (models / "pickup_eta/warmup/numeric").write_bytes(b"123")
    with pytest.raises(ServerError, match="warmup setting expects 12 bytes"):
        serve(models)


def test_a_row_that_is_gone_is_written_again_before_serving(serve, tmp_path):
    models = tmp_path / "models"
    server = serve(models)
    deploy(write_tiny_run(tmp_path / "run"), models, server.url)
    server.kill()
    before = {file.name: file.read_bytes() for file in (models / "pickup_eta/warmup").iterdir()}
    shutil.rmtree(models / "pickup_eta/warmup")
    command = [sys.executable, ROOT / "scripts/serve.py", "--repository", models, "--grpc-port=0", "--metrics-port=0"]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    told = list(itertools.takewhile(lambda line: line != "Ctrl-C stops it\n", serving.stdout))
    try:
        (url,) = (line.split()[1] for line in told if line.startswith("gRPC:"))
        assert base_s(url) == 100
    finally:
        serving.terminate()
        serving.communicate(timeout=30)
    assert {file.name: file.read_bytes() for file in (models / "pickup_eta/warmup").iterdir()} == before


def run_script(models, run, *options):
    command = [sys.executable, ROOT / "scripts/tune_serving.py", run, "--repository", models, "--seconds=0.2"]
    return subprocess.run([*command, *options], capture_output=True, text=True)


def test_tuning_writes_what_the_next_deployment_serves(serve, tmp_path):
    models, run = tmp_path / "models", write_tiny_run(tmp_path / "run")
    done = run_script(models, run, "--p99-ms=900", "--rps=50", "--cores=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the next deployment takes it" in done.stdout
    found = json.loads((run / "tuning.json").read_text())
    assert found["goal"] == {"p99_ms": 900, "rps": 50}
    assert {trial["seed"] for trial in found["trials"]} == {1, 2, 3, 4}
    assert all(trial["n_answered"] == trial["n_due"] for trial in found["trials"])
    assert (run / "plots/latency_against_load.png").read_bytes().startswith(b"\x89PNG")
    settings = read_settings(models)
    assert settings == Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in found["settings"].items()})
    server = serve(models)
    deploy(run, models, server.url)
    assert served_config(server).dynamic_batching.max_queue_delay_microseconds == settings.max_queue_delay_us


def test_a_goal_that_nothing_meets_is_said_and_changes_nothing(installation, tmp_path):
    models, run = tmp_path / "models", write_tiny_run(tmp_path / "run")
    done = run_script(models, run, "--p99-ms=0.01", "--rps=50", "--cores=1")
    assert done.returncode == 1, done.stderr
    assert "no setting meets the goal on this machine, nothing was changed; the best was 1 × 1 thread" in done.stdout
    assert read_settings(models) is None
    assert json.loads((run / "tuning.json").read_text())["settings"] is None
