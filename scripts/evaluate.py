"""Judges a run on its test part: python scripts/evaluate.py RUN [--against rule lightgbm]

Leaves metrics.json and plots/ in the run folder.
"""

import argparse
import logging
from pathlib import Path

from hailtime.evaluate import evaluate
from hailtime.report import metrics_table, run_script
from hailtime.tracking import follow


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge a run on its test part.")
    parser.add_argument("run", type=Path, help="a run folder, such as runs/demo")
    parser.add_argument("--against", nargs="*", choices=["rule", "lightgbm"], default=["rule", "lightgbm"])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    metrics_table(evaluate(arguments.run, tuple(arguments.against)))
    follow([arguments.run])


if __name__ == "__main__":
    run_script(main)
