"""Who may do what with a real Triton: the key for loading models, TLS, client certificates. Runs what the docs say."""

import itertools
import re
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from hailtime.errors import DeployError, ServerError
from hailtime.serving.access import KEY_HEADER, KEY_VARIABLE, key_file
from hailtime.serving.deploy import deploy
from hailtime.serving.tls import ServerTls, Tls
from hailtime.serving.triton import TritonServer
from tests.ports import free_port
from tests.tiny_run import write_tiny_run
from tests.triton.asking import ask, base_s, key_of, one_row

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]
SECURITY = (ROOT / "docs/security.md").read_text()


@pytest.fixture(scope="module")
def live(installation, tmp_path_factory):
    """A server in clear, with one version."""
    folder = tmp_path_factory.mktemp("live")
    with TritonServer(folder / "models", grpc_port=0, http_port=0, metrics_port=0, installation=installation) as server:
        deploy(write_tiny_run(folder / "run"), folder / "models", server.url)
        yield server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """The files that the commands of docs/security.md make."""
    folder = tmp_path_factory.mktemp("certificates")
    (commands,) = re.findall(r"```bash\n(.*?)```", SECURITY, re.DOTALL)
    subprocess.run(["bash", "-euc", commands], cwd=folder, check=True, capture_output=True)
    return folder


def test_key_is_readable_by_its_owner_only(live):
    assert stat.S_IMODE(key_file(live.repository).stat().st_mode) == 0o600
    assert len(key_file(live.repository).read_text()) == 64


@pytest.mark.parametrize("headers", [None, {KEY_HEADER: "guessed"}], ids=["no key", "a wrong key"])
@pytest.mark.parametrize(
    "call",
    [
        lambda client, **options: client.load_model("pickup_eta", **options),
        lambda client, **options: client.unload_model("pickup_eta", **options),
        lambda client, **options: client.get_model_repository_index(**options),
        lambda client, **options: client.register_system_shared_memory("x", "/x", 8, **options),
        lambda client, **options: client.update_log_settings({"log_info": False}, **options),
        lambda client, **options: client.update_trace_settings(settings={"trace_level": ["OFF"]}, **options),
    ],
    ids=["load", "unload", "index", "shared memory", "logging", "tracing"],
)
def test_control_without_the_key_is_refused(live, call, headers):
    with (
        InferenceServerClient(live.url) as client,
        pytest.raises(InferenceServerException, match="protocol is restricted"),
    ):
        call(client, headers=headers)
    assert base_s(live.url, 1) == 100


def test_with_the_key_a_model_is_loaded(live):
    with InferenceServerClient(live.url) as client:
        client.load_model("pickup_eta", headers=key_of(live.repository))
    assert base_s(live.url, 1) == 100


def test_without_the_key_one_can_ask_and_read_the_plan(live):
    with InferenceServerClient(live.url) as client:
        assert client.is_server_ready()
        assert "rollout" in client.get_model_config("pickup_eta").config.parameters
    assert base_s(live.url) == 100


def test_http_asks_for_the_key_as_well(live):
    url = f"http://{live.http_url}/v2/repository/models/pickup_eta/unload"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, data=b"{}", method="POST"))
    assert refused.value.code in (403, 503)
    refused.value.close()
    assert base_s(live.url, 1) == 100


def test_http_is_off_unless_a_port_is_given(serve, tmp_path):
    server = serve(tmp_path / "models")
    assert server.http_url is None
    command = Path(f"/proc/{server.pid}/cmdline").read_bytes().split(b"\0")
    assert b"--allow-http=false" in command
    with urllib.request.urlopen(server.metrics_url) as answer:
        assert answer.status == 200


def test_nothing_of_a_request_is_in_the_servers_log(serve, tmp_path):
    """Neither of one that is answered nor of those that are refused before and inside the model."""
    server = serve(tmp_path / "models", log=tmp_path / "triton.log")
    deploy(write_tiny_run(tmp_path / "run"), tmp_path / "models", server.url)
    words = np.array([["a-riders-word", "standard"]])
    ask(server.url, one_row(categorical=words))
    for wrong in ({"numeric": np.zeros((1, 4), np.float32)}, {"numeric": np.zeros((2, 3), np.float32)}):
        with pytest.raises(InferenceServerException):
            ask(server.url, one_row(categorical=words, **wrong))
    server.kill()
    told = (tmp_path / "triton.log").read_text()
    assert "pickup_eta" in told
    assert "a-riders-word" not in told


def test_server_listens_on_loopback_only(live):
    """Every socket it listens on, as the kernel tells it: 0100007F is 127.0.0.1, as IPv4 or mapped into IPv6."""
    ports = {f"{port:04X}" for port in live._ports.values()}
    rows = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    listening = [row[1].split(":") for row in rows if row[3] == "0A" and row[1].split(":")[1] in ports]
    assert {port for _, port in listening} == ports
    assert {address for address, _ in listening} <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_deployer_with_a_wrong_key_or_none_is_told_where_it_is(live, tmp_path, monkeypatch):
    run = write_tiny_run(tmp_path / "run", base_s=200)
    monkeypatch.setenv(KEY_VARIABLE, "guessed")
    with pytest.raises(DeployError, match=rf"who have its key, that in .*models\.key or {KEY_VARIABLE} is another"):
        deploy(run, live.repository, live.url)
    monkeypatch.delenv(KEY_VARIABLE)
    hidden = key_file(live.repository).rename(tmp_path / "hidden")
    with pytest.raises(DeployError, match=rf"who have its key, there is none in .*models\.key or {KEY_VARIABLE}"):
        deploy(run, live.repository, live.url)
    hidden.rename(key_file(live.repository))
    assert base_s(live.url, 1) == 100


def test_key_from_the_environment_is_enough(live, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, key_file(live.repository).read_text())
    hidden = key_file(live.repository).rename(tmp_path / "hidden")
    try:
        deploy(write_tiny_run(tmp_path / "run"), live.repository, live.url)
    finally:
        hidden.rename(key_file(live.repository))


def test_tls_round_trip(serve, certificates, tmp_path):
    models = tmp_path / "models"
    server = serve(models, tls=ServerTls(certificates / "server.pem", certificates / "server.key"))
    release = deploy(write_tiny_run(tmp_path / "run"), models, server.url, tls=Tls(certificates / "ca.pem"))
    assert release.version == 1
    with pytest.raises(DeployError, match="does not answer"):
        deploy(write_tiny_run(tmp_path / "in_clear"), models, server.url)


def test_server_that_another_authority_signed_is_not_trusted(serve, certificates, tmp_path):
    server = serve(tmp_path / "models", tls=ServerTls(certificates / "server.pem", certificates / "server.key"))
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -keyout k -out ca.pem"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    with pytest.raises(DeployError, match="does not answer"):
        deploy(write_tiny_run(tmp_path / "run"), tmp_path / "models", server.url, tls=Tls(tmp_path / "ca.pem"))


def test_mutual_tls_answers_those_with_a_certificate(serve, certificates, tmp_path):
    ca, models = certificates / "ca.pem", tmp_path / "models"
    server = serve(models, tls=ServerTls(certificates / "server.pem", certificates / "server.key", ca))
    run = write_tiny_run(tmp_path / "run")
    with pytest.raises(DeployError, match="does not answer"):
        deploy(run, models, server.url, tls=Tls(ca))
    known = Tls(ca, certificates / "client.pem", certificates / "client.key")
    assert deploy(run, models, server.url, tls=known).version == 1


def test_tls_server_is_ready_only_with_its_model(serve, certificates, tmp_path):
    """Its own certificate is all that its start looks at, and a restarted server answers from its first call on."""
    tls, ca = ServerTls(certificates / "server.pem", certificates / "server.key"), certificates / "ca.pem"
    server = serve(tmp_path / "models", tls=tls)
    deploy(write_tiny_run(tmp_path / "run"), tmp_path / "models", server.url, tls=Tls(ca))
    server.kill()
    again = serve(tmp_path / "models", tls=tls)
    with InferenceServerClient(again.url, ssl=True, root_certificates=str(ca)) as client:
        assert client.is_model_ready("pickup_eta", "1")


def test_certificate_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ServerError, match=r"nowhere\.pem is not there: docs/security\.md"):
        ServerTls(tmp_path / "nowhere.pem", tmp_path / "nowhere.key")


def test_certificate_that_is_none_does_not_start(serve, tmp_path):
    (tmp_path / "server.pem").write_text("no certificate")
    (tmp_path / "server.key").write_text("no key")
    with pytest.raises(ServerError):
        serve(tmp_path / "models", tls=ServerTls(tmp_path / "server.pem", tmp_path / "server.key"))


def test_scripts_serve_and_deploy_over_mutual_tls(installation, certificates, tmp_path):
    ca, port = certificates / "ca.pem", free_port()
    command = [sys.executable, ROOT / "scripts/serve.py", "--repository", tmp_path / "models", "--grpc-port", str(port)]
    command += ["--metrics-port=0", "--tls", certificates / "server.pem", certificates / "server.key"]
    serving = subprocess.Popen([*command, "--client-ca", ca], stdout=subprocess.PIPE, text=True)
    told = list(itertools.takewhile(lambda line: line != "Ctrl-C stops it\n", serving.stdout))
    assert f"key:        {tmp_path}/.models.key\n" in told
    command = [sys.executable, ROOT / "scripts/deploy.py", write_tiny_run(tmp_path / "run")]
    command += ["--repository", tmp_path / "models", "--url", f"localhost:{port}", "--tls-ca", ca]
    who = ["--tls-cert", certificates / "client.pem", certificates / "client.key"]
    done = subprocess.run([*command, *who], capture_output=True, text=True)
    serving.terminate()
    serving.communicate(timeout=30)
    assert done.stdout.startswith(f"version 1 answers at localhost:{port}\n"), done.stderr
