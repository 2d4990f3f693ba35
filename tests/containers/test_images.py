"""Every step of Dockerfile.cuda carried out by buildah, and what came of it run by its own commands and user."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from hailtime.client import EtaClient, PredictionLog
from hailtime.serving.deploy import deploy
from hailtime.serving.triton import TritonServer
from hailtime.serving.triton_install import find_or_install
from tests.ports import free_port

pytestmark = pytest.mark.containers
ROOT = Path(__file__).parents[2]
KEY = "a key of these tests"
TOKEN = "a token of these tests"


def wait_for(true, wait_s=40.0) -> None:
    until = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < until, f"not within {wait_s:g} s"
        time.sleep(0.3)


def request_row(run) -> dict:
    rows = run.prepared.part("test").head(1).select(run.schema.input_names)
    return rows.with_columns(rows[run.schema.requested_at] // 1_000_000).to_dicts()[0]


@pytest.fixture(scope="module")
def triton(small_run, tmp_path_factory):
    """A real Triton outside the containers, with a live model."""
    models = tmp_path_factory.mktemp("outside") / "models"
    with TritonServer(models, grpc_port=0, metrics_port=0, installation=find_or_install()) as server:
        deploy(small_run.folder, models, server.url)
        yield server


@pytest.mark.parametrize("target", ["client", "monitor", "serve", "train"])
def test_an_image_runs_as_nobody_in_particular_and_cannot_change_itself(container, target):
    said = container(target).run("sh", "-c", "id -u; touch src/hailtime/mine || echo refused").stdout
    assert said.split() == ["10001", "refused"]


def test_the_client_image_asks_a_real_triton(container, triton, small_run, tmp_path):
    client = container("client")
    assert client.run(*client.health_check, HAILTIME_TRITON_URL=triton.url).returncode == 0
    (tmp_path / "rows.json").write_text(json.dumps([request_row(small_run)]))
    tmp_path.chmod(0o755)
    asked = client.run(
        "hailtime-ask", "/rows/rows.json", volumes=[f"{tmp_path}:/rows:ro"], HAILTIME_TRITON_URL=triton.url
    )
    (answer,) = json.loads(asked.stdout)
    assert 0 < answer["p10_s"] <= answer["p50_s"] <= answer["p90_s"]
    assert answer["path"] == "triton"


def test_the_client_image_is_unwell_without_a_server(container):
    client = container("client")
    done = client.run(*client.health_check, HAILTIME_TRITON_URL=f"127.0.0.1:{free_port()}")
    assert (done.returncode, done.stderr.split(":")[0]) == (1, "ServerUnavailable")


def test_the_client_image_has_no_torch_and_no_pandas(container):
    found = "[name for name in ('torch', 'pandas', 'polars') if find_spec(name)]"
    done = container("client").run("python", "-c", f"from importlib.util import find_spec; print({found})")
    assert done.stdout.strip() == "[]", done.stderr


def test_the_monitor_image_watches_a_log_and_says_so_only_to_who_has_the_token(container, triton, small_run, tmp_path):
    with EtaClient(triton.url, 20, log=PredictionLog(tmp_path / "log.sqlite", features="all")) as client:
        client.predict(request_row(small_run))
    for path in (tmp_path, *tmp_path.iterdir()):
        os.chown(path, 10001, 10001)
    monitor, port = container("monitor"), free_port()
    settings = (ROOT / "deploy" / "monitor.yaml").read_text().replace("port: 8050", f"port: {port}")
    (tmp_path / "monitor.yaml").write_text(settings)
    shown = f"http://127.0.0.1:{port}"
    volumes = [
        f"{tmp_path}:/log",
        f"{triton.repository}:/models:ro",
        f"{tmp_path}/monitor.yaml:/etc/hailtime/monitor.yaml",
    ]
    with monitor.running(*monitor.launch, "--log", "/log/log.sqlite", volumes=volumes, HAILTIME_PAGE_TOKEN=TOKEN):
        wait_for(lambda: monitor.run(*monitor.health_check, shown, HAILTIME_PAGE_TOKEN=TOKEN).returncode == 0)
        read = f"import hailtime.monitoring.health as h; print(h.read_metrics('{shown}', '{TOKEN}'))"
        wait_for(lambda: "hailtime_monitor_looked_at_seconds " in monitor.run("python", "-c", read).stdout)
        assert monitor.run(*monitor.health_check, shown).returncode == 1
    assert monitor.run(*monitor.health_check, shown, HAILTIME_PAGE_TOKEN=TOKEN).returncode == 1


def test_the_serve_image_is_well_without_a_model_takes_one_and_ends_in_order(container, small_run, tmp_path):
    serve, models, port = container("serve"), tmp_path / "models", free_port()
    models.mkdir()
    tmp_path.chmod(0o755)
    url, volumes = f"127.0.0.1:{port}", [f"{models}:/models:ro"]
    more = ("--grpc-port", str(port), "--metrics-port", str(free_port()))
    asked = ["python3", "-m", "hailtime.client.command", "--health", "--url", url]
    with serve.running(*serve.launch, *more, volumes=volumes, HAILTIME_TRITON_KEY=KEY) as process:
        wait_for(lambda: serve.run(*asked).returncode == 3)  # it is there, and has no such model
        assert serve.run(*serve.health_check, HAILTIME_TRITON_URL=url).returncode == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HAILTIME_TRITON_KEY", KEY)
            deploy(small_run.folder, models, url)
        assert serve.run(*asked).returncode == 0
        with EtaClient(url, 20) as client:
            assert client.predict(request_row(small_run)).version == "1"
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    assert serve.run(*serve.health_check, HAILTIME_TRITON_URL=url).returncode == 1


def test_the_train_image_trains_judges_and_exports(container, tmp_path):
    train = container("train")
    for name in ("data", "runs"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, 10001, 10001)
    tmp_path.chmod(0o755)
    options = {
        "volumes": [f"{tmp_path}/{name}:/opt/hailtime/{name}" for name in ("data", "runs")],
        "MPLCONFIGDIR": "/tmp/matplotlib",
    }
    for words in (
        ["train.py", "experiment=smoke", "run_name=image"],
        ["scripts/evaluate.py", "runs/image"],
        ["scripts/export.py", "runs/image"],
    ):
        done = train.run("python", *words, timeout_s=900, **options)
        assert done.returncode == 0, done.stdout + done.stderr
    shutil.copytree(tmp_path / "runs" / "image", tmp_path / "copy")
    assert re.search(r'"mae_s": \d', (tmp_path / "copy" / "metrics.json").read_text())
    assert json.loads((tmp_path / "copy" / "export.json").read_text())["parity"]["max_abs_s"] <= 0.05
