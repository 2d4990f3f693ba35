"""`hailtime-ask`: asks a served model from a shell. Needs what the client needs.

    hailtime-ask --health                     # exit status 0 when a row of which nothing is known was answered
    hailtime-ask --columns                    # what a row holds
    hailtime-ask rows.json                    # a row or a list of rows; - reads them from standard input

Exit status: 0 answered, 1 no answer, 2 the rows or the settings are wrong, 3 a server is there and has no such model.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hailtime.client.connection import Tls
from hailtime.client.eta_client import EtaClient
from hailtime.client.plan import Plan
from hailtime.client.prediction import Prediction
from hailtime.client.transport import GrpcTransport
from hailtime.errors import ConfigError, HailtimeError, ModelUnavailable, RequestError, SchemaError

NO_ANSWER, WRONG, NO_MODEL = 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> None:
    try:
        run(read_arguments(arguments))
    except HailtimeError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(status_of(error))


def run(arguments: argparse.Namespace) -> None:
    tls = Tls(arguments.tls_ca, *(arguments.tls_cert or ())) if arguments.tls_ca else None
    if arguments.columns:
        say(columns(GrpcTransport(arguments.url, tls), arguments.deadline))
        return
    rows = None if arguments.health else read_rows(arguments.rows)
    with EtaClient(arguments.url, arguments.deadline, answer_by_rule=False, tls=tls) as client:
        if rows is None:
            client.wait_ready(0)
            return
        answer = client.predict(rows)
    say(asdict(answer) if isinstance(answer, Prediction) else [asdict(one) for one in answer])


def columns(transport: GrpcTransport, deadline_s: float) -> list[dict[str, Any]]:
    """The columns of a request by the schema that is served."""
    try:
        schema = Plan.from_config(transport.config(deadline_s)).packer.schema
    finally:
        transport.close()
    told = {column["name"]: column for column in schema.to_dict()["columns"]}
    return [told[name] for name in schema.input_names]


def read_rows(source: str | None) -> Any:
    """ConfigError when it is no JSON."""
    if source is None:
        raise ConfigError("asking needs rows: a file with JSON, or - for standard input; or --health, --columns")
    try:
        return json.loads(sys.stdin.read() if source == "-" else Path(source).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"rows must be JSON, a row or a list of rows, {source} is not: {error}") from error


def say(found: Any) -> None:
    sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def status_of(error: HailtimeError) -> int:
    if isinstance(error, ConfigError | RequestError | SchemaError):
        return WRONG
    return NO_MODEL if isinstance(error, ModelUnavailable) else NO_ANSWER


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("hailtime-ask", description="Ask a served model for pickup times.")
    parser.add_argument("rows", nargs="?", help="a file with a row or a list of rows as JSON; - for standard input")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--health", action="store_true", help="only whether it answers, by a real inference")
    what.add_argument("--columns", action="store_true", help="only what a row holds")
    url = os.environ.get("HAILTIME_TRITON_URL", "127.0.0.1:8001")
    parser.add_argument("--url", default=url, help="host:port of gRPC, else $HAILTIME_TRITON_URL, else 127.0.0.1:8001")
    parser.add_argument("--deadline", type=float, default=2.0, metavar="S", help="seconds an answer may take")
    parser.add_argument("--tls-ca", type=Path, metavar="CA", help="the server speaks TLS; who signed its certificate")
    parser.add_argument(
        "--tls-cert", type=Path, nargs=2, metavar=("CERT", "KEY"), help="with --tls-ca: who we are, for mutual TLS"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
