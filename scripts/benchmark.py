"""Measures and writes it down: python scripts/benchmark.py alerts|engines|faults|monitor|prepare|serve|soak [--help]

Ratios are the claim, times depend on the machine. Each subject is a file in scripts/benchmarks/; its figures go to
benchmarks/<subject>.json, a table to the terminal and, of a whole run, to docs/benchmarks.md. Status 1 where a goal
that the subject sets itself was missed.
"""

import argparse
import json
import logging
import os
import platform
import re
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import alerts, engines, faults, monitor, prepare, serve, soak
from hailtime.report import run_script

PAGE = Path("docs/benchmarks.md")
SUBJECTS: dict[str, Any] = {
    "alerts": alerts,
    "engines": engines,
    "faults": faults,
    "monitor": monitor,
    "prepare": prepare,
    "serve": serve,
    "soak": soak,
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers it started end with it
    taken = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    subject = SUBJECTS[arguments.subject]
    figures = subject.measure(arguments)
    arguments.out.mkdir(exist_ok=True)
    (arguments.out / f"{arguments.subject}.json").write_text(json.dumps({**taken, **figures}, indent=1))
    subject.show(figures)
    if hasattr(subject, "page") and arguments.out == Path("benchmarks"):
        write_page(arguments.subject, subject.page(figures))
    if hasattr(subject, "missed") and (goals := subject.missed(figures)):
        sys.exit("\n".join(["missed:", *goals]))


def write_page(subject: str, text: str) -> None:
    """Between the marks of this subject in docs/benchmarks.md; no text leaves what is there."""
    start, end = f"<!-- {subject} -->", f"<!-- end of {subject} -->"
    if text:
        page = PAGE.read_text()
        PAGE.write_text(re.sub(f"{start}.*{end}", lambda _: f"{start}\n{text}\n{end}", page, flags=re.DOTALL))


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
