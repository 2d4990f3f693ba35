"""The end of the line on a real network: trained, exported, deployed, asked; and the README's example as it stands."""

import contextlib
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from hailtime.client import EtaClient
from hailtime.client.transport import GrpcTransport
from hailtime.errors import DeployError, RequestError
from hailtime.export import hard_rows, session
from hailtime.serving.deploy import deploy
from hailtime.serving.triton import TritonServer
from tests.triton.asking import KINDS, ask

pytestmark = pytest.mark.triton

README = Path(__file__).parents[2] / "README.md"
SAME_S = 0.05


@pytest.fixture(scope="module")
def server(installation, small_run, tmp_path_factory):
    models = tmp_path_factory.mktemp("line") / "models"
    with TritonServer(models, grpc_port=0, http_port=0, metrics_port=0, installation=installation) as server:
        deploy(small_run.folder, models, server.url)
        yield server


@pytest.fixture(scope="module")
def client(server):
    with EtaClient(server.url, deadline_s=20) as client:
        yield client


def request_rows(run, n):
    rows = run.prepared.part("test").head(n).select(run.schema.input_names)
    return rows.with_columns(rows[run.schema.requested_at] // 1_000_000)


def test_served_answers_are_the_files_on_every_hard_set(server, small_run):
    runtime = session(small_run.folder / "model.onnx")
    for name, inputs in hard_rows(small_run.schema, small_run.prepared.part("test")):
        rows = dict(zip(KINDS, inputs, strict=True))
        np.testing.assert_allclose(ask(server.url, rows), runtime.run(None, rows)[0], atol=SAME_S, err_msg=name)


def test_the_client_packs_what_training_saw(client, small_run):
    """Pandas, dicts and the prepared frame through the client are what PyTorch says of the same rows."""
    from hailtime.evaluate import predict

    expected = predict(small_run, small_run.prepared.part("test").head(300))
    rows = request_rows(small_run, 300)
    for given in (rows.to_dicts(), rows.to_pandas(), rows):
        np.testing.assert_allclose(client.predict(given).quantiles_s, expected, atol=SAME_S)


def test_a_category_never_seen_is_answered(client, small_run):
    row = request_rows(small_run, 1).to_dicts()[0] | {"pickup_zone": "Atlantis", "app": None}
    answer = client.predict(row)
    assert 0 < answer.p10_s <= answer.p50_s <= answer.p90_s < 7200


@pytest.mark.parametrize("value", [float("inf"), 1e30])
def test_a_number_that_cannot_be_is_refused_by_the_client(client, small_run, value):
    row = request_rows(small_run, 1).to_dicts()[0] | {"pickup_lat": value}
    with pytest.raises(RequestError, match=r"row 0.*pickup_lat"):
        client.predict(row)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_number_that_cannot_be_is_answered_finitely_by_the_server(server, small_run, value):
    name, (numeric, categorical, requested_at) = next(hard_rows(small_run.schema, small_run.prepared.part("test")))
    rows = {
        "numeric": np.full_like(numeric[:8], value),
        "categorical": categorical[:8],
        "requested_at": requested_at[:8],
    }
    assert np.isfinite(ask(server.url, rows)).all(), name


def test_a_run_whose_file_was_swapped_is_refused_and_the_live_version_answers(server, client, small_run, tmp_path):
    before = client.predict(request_rows(small_run, 1).to_dicts()[0])
    shutil.copytree(small_run.folder, tmp_path / "run")
    content = bytearray((tmp_path / "run" / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "run" / "model.onnx").write_bytes(content)
    with pytest.raises(DeployError):
        deploy(tmp_path / "run", server.repository, server.url)
    assert client.predict(request_rows(small_run, 1).to_dicts()[0]).version == before.version


def test_the_readme_example_runs_as_it_stands(server):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(example.replace("127.0.0.1:8001", server.url).replace("deadline_s=0.5", "deadline_s=20"), {})
    assert re.fullmatch(r"\d+ minutes, 8 in 10 times between \d+ and \d+\n", said.getvalue())


def test_the_served_schema_is_the_runs(server, small_run):
    config = GrpcTransport(server.url).config(timeout_s=10)
    assert small_run.schema.to_json() == config.parameters["schema"]
