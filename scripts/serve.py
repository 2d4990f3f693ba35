"""Serves a model repository with a real Triton until Ctrl-C: python scripts/serve.py [--repository model_repository]

Takes the `tritonserver` on PATH, else sets up an embedded one in `.triton/` first (once, half a minute).
"""

import argparse
import logging
import signal
from pathlib import Path
from types import FrameType

from hailtime.errors import ServerError
from hailtime.report import run_script
from hailtime.serving.triton import TritonServer
from hailtime.serving.triton_install import find_or_install


def main() -> None:
    arguments = read_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    installation = find_or_install()
    print(f"server:     {installation.program}", flush=True)
    if arguments.install_only:
        return
    signal.signal(signal.SIGTERM, _stop)
    server = TritonServer(
        arguments.repository,
        arguments.host,
        arguments.grpc_port,
        arguments.http_port,
        arguments.metrics_port,
        arguments.log or arguments.repository / "triton.log",
        installation=installation,
    )
    try:
        with server:
            print(f"repository: {server.repository}")
            print(f"gRPC:       {server.url}\nHTTP:       http://{server.http_url}\nmetrics:    {server.metrics_url}")
            print("Ctrl-C stops it", flush=True)
            status = server.wait()
            raise ServerError(f"Triton ended by itself with status {status}, its log is in {server.log}")
    except KeyboardInterrupt:
        print("stopped")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a model repository with Triton.")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="the folder of models")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in, who may then load models")
    parser.add_argument("--grpc-port", type=int, default=8001, help="0 picks a free one, as with the others")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("--log", type=Path, help="the file Triton writes to, triton.log in the repository if not given")
    parser.add_argument("--install-only", action="store_true", help="set the embedded server up and exit")
    return parser.parse_args()


def _stop(signal_number: int, frame: FrameType | None) -> None:
    """SIGTERM, as from a process manager, stops the server as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    run_script(main)
