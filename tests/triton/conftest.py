"""A real Triton for the tests in this folder, set up once."""

import os
import shutil

import pytest

from hailtime.serving.triton import TritonServer
from hailtime.serving.triton_install import default_home, find_or_install, is_installed


@pytest.fixture(scope="session")
def installation():
    """The server to run. HAILTIME_TRITON=1 sets it up where it is missing, HAILTIME_REQUIRE_TRITON=1 never skips."""
    wanted = os.environ.get("HAILTIME_REQUIRE_TRITON") == "1" or os.environ.get("HAILTIME_TRITON")
    if not (wanted or shutil.which("tritonserver") or is_installed(default_home())):
        pytest.skip("no Triton here: make triton, or set HAILTIME_TRITON=1")
    return find_or_install()


@pytest.fixture
def serve(installation):
    """serve(repository) starts a server on free ports; all of them are ended after the test."""
    servers = []

    def start(repository, **options):
        ports = {"grpc_port": 0, "metrics_port": 0, **options}
        servers.append(TritonServer(repository, installation=installation, **ports).start())
        return servers[-1]

    yield start
    for server in servers:
        server.kill()  # 2 s less than stop(), which has tests of its own
