"""Measures and writes it down: python scripts/benchmark.py SUBJECT [--help], --help lists the subjects.

Ratios are the claim, times depend on the machine. Each subject is a file in scripts/benchmarks/; its figures go to
benchmarks/<subject>.json, a table to the terminal and, of a whole run, to docs/benchmarks.md. Status 1 where a goal
that the subject sets itself was missed.
"""

import argparse
import importlib
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

from hailtime.errors import HailtimeError

PAGE = Path("docs/benchmarks.md")
SUBJECTS = ("alerts", "engines", "faults", "gpu", "monitor", "page", "prepare", "retrain", "serve", "soak", "train")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure, and write it down.")
    parser.add_argument("subject", choices=SUBJECTS)
    name = parser.parse_args(sys.argv[1:2]).subject
    subject: Any = importlib.import_module(f"benchmarks.{name}")  # alone: a GPU machine has less than all need
    parser = argparse.ArgumentParser(description=subject.__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder for the JSON")
    subject.add_arguments(parser)
    arguments = parser.parse_args(sys.argv[2:])
    logging.basicConfig(level=logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers it started end with it
    taken = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    figures = subject.measure(arguments)
    arguments.out.mkdir(exist_ok=True)
    (arguments.out / f"{name}.json").write_text(json.dumps({**taken, **figures}, indent=1))
    subject.show(figures)
    if hasattr(subject, "page") and arguments.out == Path("benchmarks"):
        write_page(name, subject.page(figures))
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
    try:
        main()
    except HailtimeError as error:  # not hailtime.report, which needs more than a GPU machine may have
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2)
