"""Asking a real Triton that is guarded: encrypted, known by certificate, its model config behind a header."""

import subprocess

import pytest

from hailtime.client import EtaClient, Tls
from hailtime.client.transport import GrpcTransport
from hailtime.errors import ConfigError, PredictionError, ServerUnavailable
from hailtime.serving.deploy import deploy
from hailtime.serving.tls import ServerTls
from hailtime.serving.triton import TritonServer
from tests.triton.test_client_faults import ROW, run_with_rule

pytestmark = pytest.mark.triton

DEADLINE_S = 10
HEADERS = {"triton-grpc-protocol-admin": "sesame"}


class GuardedServer(TritonServer):
    """A server with more on its command line."""

    guards: tuple[str, ...] = ()

    def _command(self, installation):
        return [*super()._command(installation), *self.guards]


@pytest.fixture(scope="module")
def models(installation, tmp_path_factory):
    """A repository with a version that is live, whose server has ended."""
    folder = tmp_path_factory.mktemp("guarded")
    with TritonServer(folder / "models", grpc_port=0, http_port=0, metrics_port=0, installation=installation) as server:
        deploy(run_with_rule(folder / "run"), folder / "models", server.url)
    return folder / "models"


@pytest.fixture
def guarded(installation, models):
    servers = []

    def start(*guards, tls=None):
        server = GuardedServer(models, grpc_port=0, metrics_port=0, tls=tls, installation=installation)
        server.guards = guards
        servers.append(server.start())
        return server.url

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """An authority, and certificates of a server named localhost and of a backend, all of it signed by openssl."""
    folder = tmp_path_factory.mktemp("keys")

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=town")
    for name in ("localhost", "backend"):
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "names").write_text(f"subjectAltName=DNS:{name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


def test_restricted_config_is_read_with_the_header_and_refused_without(guarded):
    url = guarded("--grpc-restricted-protocol=model-config:admin=sesame")
    with EtaClient(url, DEADLINE_S, headers=HEADERS) as client:
        assert client.predict(ROW).path == "triton"
    with EtaClient(url, DEADLINE_S, headers=lambda: HEADERS) as client:
        assert client.predict(ROW).path == "triton"
    with EtaClient(url, DEADLINE_S) as client, pytest.raises(PredictionError, match="give EtaClient headers="):
        client.predict(ROW)


def test_both_sides_show_certificates(guarded, keys):
    url = guarded(tls=ServerTls(keys / "localhost.pem", keys / "localhost.key", keys / "ca.pem"))
    known = Tls(keys / "ca.pem", keys / "backend.pem", keys / "backend.key", server_name="localhost")
    with EtaClient(url, DEADLINE_S, tls=known) as client:
        client.wait_ready(timeout_s=DEADLINE_S)
        assert client.predict(ROW).path == "triton"
    unknown, elsewhere = Tls(keys / "ca.pem", server_name="localhost"), Tls(keys / "ca.pem", server_name="else")
    for tls in (None, unknown, elsewhere):
        with EtaClient(url, 1.0, tls=tls) as client, pytest.raises(ServerUnavailable):
            client.predict(ROW)


def test_files_of_tls_are_read_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match="certificate and key go together"):
        Tls(certificate=tmp_path / "backend.pem")
    with pytest.raises(ConfigError, match="must be readable PEM files"):
        GrpcTransport("127.0.0.1:8001", Tls(tmp_path / "none.pem"))
