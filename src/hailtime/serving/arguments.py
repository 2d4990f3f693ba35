"""What the scripts that talk to a running Triton have in common on their command lines."""

import argparse
from pathlib import Path

from hailtime.serving.tls import Tls


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """--repository, --url, --tls-ca, --tls-cert."""
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="the folder Triton serves")
    parser.add_argument("--url", default="127.0.0.1:8001", help="Triton's gRPC address")
    parser.add_argument("--tls-ca", type=Path, metavar="CA", help="the server speaks TLS; who signed its certificate")
    parser.add_argument(
        "--tls-cert", type=Path, nargs=2, metavar=("CERT", "KEY"), help="with --tls-ca: who we are, for mutual TLS"
    )


def tls_of(arguments: argparse.Namespace) -> Tls | None:
    """How to reach the server, from the arguments above; None in clear."""
    return Tls(arguments.tls_ca, *(arguments.tls_cert or ())) if arguments.tls_ca else None
