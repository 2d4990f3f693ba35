"""Measures and writes it down: python scripts/benchmark.py prepare|serve|train|gpu [--help]

Ratios are the claim, times depend on the machine. Each subject is a file in scripts/benchmarks/; its figures go to
benchmarks/<subject>.json and a table to the terminal.
"""

import argparse
import importlib
import json
import logging
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SUBJECTS = ("prepare", "serve", "train", "gpu")


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
    taken = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    figures = subject.measure(arguments)
    arguments.out.mkdir(exist_ok=True)
    (arguments.out / f"{name}.json").write_text(json.dumps({**taken, **figures}, indent=1))
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
    main()
