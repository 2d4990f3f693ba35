"""Serves a model repository with a real Triton until Ctrl-C: python scripts/serve.py [--repository model_repository]

    python scripts/serve.py --exec --host 0.0.0.0    # becomes Triton: a container's only process, its log on stderr
    python scripts/serve.py --exec --poll 5 --repository followed    # follows another server's deployments

Takes the `tritonserver` on PATH, else sets up an embedded one in `.triton/` first (once, half a minute). Only who has
the key in the file beside the repository may load models; docs/security.md says more.
"""

import argparse
import logging
import signal
from pathlib import Path
from types import FrameType

from hailtime.errors import DeployError, ServerError
from hailtime.report import run_script
from hailtime.serving.access import key_file
from hailtime.serving.tls import ServerTls
from hailtime.serving.triton import TritonServer
from hailtime.serving.triton_install import Installation, find_or_install


def main() -> None:
    arguments = read_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    installation = find_or_install()
    print(f"server:     {installation.program}", flush=True)
    if arguments.install_only:
        return
    if arguments.exec:
        server_of(arguments, installation).become()
    signal.signal(signal.SIGTERM, _stop)
    mend(arguments.repository)
    server = server_of(arguments, installation)
    try:
        with server:
            tell(server)
            status = server.wait()
            raise ServerError(f"Triton ended by itself with status {status}, its log is in {server.log}")
    except KeyboardInterrupt:
        print("stopped")


def server_of(arguments: argparse.Namespace, installation: Installation) -> TritonServer:
    return TritonServer(
        arguments.repository,
        arguments.host,
        arguments.grpc_port,
        arguments.http_port,
        arguments.metrics_port,
        arguments.log or arguments.repository / "triton.log",
        tls=ServerTls(arguments.tls[0], arguments.tls[1], arguments.client_ca) if arguments.tls else None,
        installation=installation,
        poll_s=arguments.poll,
    )


def mend(repository: Path) -> None:
    from hailtime.serving.switch import mend_warm_up  # needs onnx, which the image that serves has not

    try:
        mend_warm_up(repository)
    except (DeployError, OSError) as error:  # what matters of it the server will say
        logging.warning("the row for warming up could not be looked after: %s", error)


def tell(server: TritonServer) -> None:
    print(f"repository: {server.repository}")
    print(f"gRPC:       {server.url}")
    if server.http_url:
        print(f"HTTP:       http://{server.http_url}")
    print(f"metrics:    {server.metrics_url}")
    print(f"key:        {key_file(server.repository)}")
    print("Ctrl-C stops it", flush=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a model repository with Triton.")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="the folder of models")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines ask; use --tls then")
    parser.add_argument("--grpc-port", type=int, default=8001, help="0 picks a free one, as with the others")
    parser.add_argument("--http-port", type=int, help="serve HTTP as well, which is off unless a port is given")
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("--tls", type=Path, nargs=2, metavar=("CERT", "KEY"), help="gRPC over TLS; files in PEM")
    parser.add_argument(
        "--client-ca", type=Path, metavar="CA", help="with --tls: only clients with a certificate of it"
    )
    parser.add_argument("--log", type=Path, help="the file Triton writes to, triton.log in the repository if not given")
    parser.add_argument("--exec", action="store_true", help="become Triton itself, for a container; it logs to stderr")
    parser.add_argument(
        "--poll", type=int, metavar="SECONDS", help="follow another server's deployments, looking so often"
    )
    parser.add_argument("--install-only", action="store_true", help="set the embedded server up and exit")
    arguments = parser.parse_args()
    if arguments.client_ca and not arguments.tls:
        parser.error("--client-ca needs --tls CERT KEY")
    if arguments.poll is not None and arguments.poll < 1:
        parser.error("--poll must be from 1 second")
    if arguments.http_port is not None and arguments.tls:
        parser.error("--http-port goes not with --tls: Triton's HTTP knows no TLS and would answer everybody in clear")
    return arguments


def _stop(signal_number: int, frame: FrameType | None) -> None:
    """SIGTERM, as from a process manager, stops the server as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    run_script(main)
