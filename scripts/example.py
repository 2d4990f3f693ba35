"""The example backend with its two pages: python scripts/example.py --triton 127.0.0.1:8001 --conditions sqlite:///...

    python scripts/example.py --triton HOST:PORT --run runs/NAME --conditions sqlite:///conditions.sqlite

The rider's page is at the address it prints, the drivers' beside it at /driver. A city that plays against it comes
with `make live`.
"""

import argparse
import logging
import socket
from contextlib import suppress
from pathlib import Path

from hailtime.client import AsyncEtaClient, PredictionLog
from hailtime.errors import ConfigError
from hailtime.report import run_script


def main() -> None:
    arguments = read_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        import uvicorn

        from hailtime.example.backend import Backend, make_app
        from hailtime.example.condition_tables import ConditionTables
    except ImportError as error:
        raise ConfigError("the example needs more packages: pip install 'hailtime[example]'") from error

    def make_client(log: PredictionLog) -> AsyncEtaClient:
        # 5 ms: who asks in the same moment shares a call to Triton, so a moment of the city is one call a version
        return AsyncEtaClient(
            arguments.triton, arguments.deadline_s, plan_refresh_s=1.0, batch_wait_s=0.005, log=log, max_batch=256
        )

    tables = ConditionTables(arguments.conditions)
    backend = Backend(make_client, PredictionLog(arguments.log, "all"), arguments.run, tables, arguments.monitor)
    listening = socket.create_server(("127.0.0.1", arguments.port))
    print(f"the pages: http://127.0.0.1:{listening.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
    with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has ended in order
        uvicorn.Server(uvicorn.Config(make_app(backend), log_level="warning", access_log=False)).run([listening])


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the example ride-hailing backend, on this machine only.")
    parser.add_argument("--triton", default="127.0.0.1:8001", metavar="HOST:PORT", help="who is asked")
    parser.add_argument("--run", type=Path, required=True, help="a run or prepared folder: which conditions to join")
    parser.add_argument(
        "--conditions", required=True, metavar="URL", help="sqlite:///FILE or postgresql://user@host/db"
    )
    parser.add_argument("--log", type=Path, default=Path("predictions.sqlite"), help="the prediction log")
    parser.add_argument("--deadline-s", type=float, default=0.5, help="what one answer may take")
    parser.add_argument("--port", type=int, default=8000, help="0 picks a free one")
    parser.add_argument("--monitor", metavar="URL", help="the monitor's page, for a link to it")
    return parser.parse_args()


if __name__ == "__main__":
    run_script(main)
