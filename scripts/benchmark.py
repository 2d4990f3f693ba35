"""Measures and writes it down: python scripts/benchmark.py alerts|engines|monitor|prepare|serve [--help]

Ratios are the claim, times depend on the machine. Each subject is a file in scripts/benchmarks/; its figures go to
benchmarks/<subject>.json and a table to the terminal.
"""

import argparse
import json
import logging
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import alerts, engines, monitor, prepare, serve
from hailtime.report import run_script

SUBJECTS: dict[str, Any] = {
    "alerts": alerts,
    "engines": engines,
    "monitor": monitor,
    "prepare": prepare,
    "serve": serve,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure, and write it down.")
    subjects = parser.add_subparsers(dest="subject", required=True)
    for name, subject in SUBJECTS.items():
        of_subject = subjects.add_parser(name, help=subject.__doc__.strip().splitlines()[0])
        of_subject.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder for the JSON")
        subject.add_arguments(of_subject)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    taken = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    subject = SUBJECTS[arguments.subject]
    figures = subject.measure(arguments)
    arguments.out.mkdir(exist_ok=True)
    (arguments.out / f"{arguments.subject}.json").write_text(json.dumps({**taken, **figures}, indent=1))
    subject.show(figures)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": platform.system(),
    }


if __name__ == "__main__":
    run_script(main)
