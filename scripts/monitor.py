"""Watches what the served model says: python scripts/monitor.py read|serve|report|forward [--help]

    python scripts/monitor.py serve                                       # the page at http://127.0.0.1:8050
    python scripts/monitor.py read                                        # one pass over the log, --on and on
    python scripts/monitor.py report --day 2026-04-07 --out report.html   # or --version 3
    python scripts/monitor.py forward                                     # a backend's log into PostgreSQL

The settings are in configs/monitor.yaml; docs/monitoring.md says what the page shows.
"""

import argparse
import logging
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

from hailtime.errors import ConfigError
from hailtime.monitoring.forward import Forwarder
from hailtime.monitoring.loops import Reading, Sending
from hailtime.monitoring.settings import MonitorSettings
from hailtime.report import run_script

SETTINGS = Path(__file__).parents[1] / "configs" / "monitor.yaml"
CHANGES = ("log", "store", "repository", "host", "port", "forward_to")


def main() -> None:
    arguments = read_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    changes = {name: getattr(arguments, name, None) for name in CHANGES}
    arguments.run(MonitorSettings.read(arguments.config, changes), arguments)


def read(settings: MonitorSettings, arguments: argparse.Namespace) -> None:
    reading = Reading(settings)
    if arguments.on:
        reading.run(until_stopped())
        return
    print(f"{reading.once():,} new rows; the store is {settings.store}")


def serve(settings: MonitorSettings, arguments: argparse.Namespace) -> None:
    try:
        import uvicorn

        from hailtime.monitoring.page.app import make_app, plotly_js
    except ImportError as error:
        raise ConfigError("the page needs more packages: pip install 'hailtime[monitor]'") from error
    from hailtime.monitoring.page.watched import Watched

    app = make_app(Watched(settings), settings.token())
    listening = listen(settings)
    stop = threading.Event()
    reading = threading.Thread(target=Reading(settings).run, args=(stop,), name="hailtime-reading", daemon=True)
    if not arguments.no_reading:
        reading.start()
    threading.Thread(target=plotly_js, daemon=True).start()  # packed before somebody waits for it
    print(f"the page: http://{settings.host}:{listening.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
    signal.signal(signal.SIGTERM, _interrupt)
    with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has ended in order
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])
    stop.set()
    print("stopped")


def listen(settings: MonitorSettings) -> socket.socket:
    """ConfigError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        raise ConfigError(
            f"the page cannot be at {settings.host}:{settings.port}: {error.strerror}; another --port, or 0 for any"
        ) from error
    return listening


def report(settings: MonitorSettings, arguments: argparse.Namespace) -> None:
    from hailtime.monitoring.page.report import report_of_day, report_of_version
    from hailtime.monitoring.page.watched import Watched

    watched = Watched(settings)
    by_day = arguments.day is not None
    text = report_of_day(watched, arguments.day) if by_day else report_of_version(watched, arguments.version)
    arguments.out.write_text(text)
    print(f"{arguments.out}, {len(text.encode()) / 1000:.0f} kB")


def forward(settings: MonitorSettings, arguments: argparse.Namespace) -> None:
    if not settings.forward_to:
        raise ConfigError(
            "forwarding needs where to: forward_to in the settings, or --to postgresql://user@host/database"
        )
    forwarder = Forwarder(Path(settings.log), settings.forward_to, settings.forward_password_env, settings.keep_days)
    Sending(forwarder).run(until_stopped())


def until_stopped() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()

    def end(signal_number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return stop


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Watch what the served model says.")
    commands = parser.add_subparsers(dest="command", required=True)
    told = {
        "read": (read, "read the log into the store, once"),
        "serve": (serve, "show the page, and read the log beside it"),
        "report": (report, "write one HTML file on a day or a version"),
        "forward": (forward, "send a backend's log file to PostgreSQL, until it is stopped"),
    }
    of = {name: commands.add_parser(name, help=words) for name, (_, words) in told.items()}
    for name, one in of.items():
        one.set_defaults(run=told[name][0])
        one.add_argument("--config", type=Path, default=SETTINGS, help="the yaml with the settings")
        one.add_argument("--log", help="in place of the settings': a log file, or a postgresql:// URL")
        if name != "forward":
            one.add_argument("--store", help="in place of the settings': the monitor's file")
            one.add_argument("--repository", help="in place of the settings': the model repository")
    of["read"].add_argument("--on", action="store_true", help="go on, a pass every few seconds")
    of["serve"].add_argument("--host", help="in place of the settings'")
    of["serve"].add_argument("--port", type=int, help="in place of the settings'; 0 picks a free one")
    of["serve"].add_argument("--no-reading", action="store_true", help="only show what another `read --on` reads")
    which = of["report"].add_mutually_exclusive_group(required=True)
    which.add_argument("--day", help="a local day, as 2026-04-07")
    which.add_argument("--version", help="a version of the model")
    of["report"].add_argument("--out", type=Path, default=Path("report.html"))
    of["forward"].add_argument("--to", dest="forward_to", help="in place of the settings': postgresql://...")
    return parser.parse_args()


if __name__ == "__main__":
    run_script(main)
