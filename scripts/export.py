"""Writes a run's model.onnx: python scripts/export.py RUN

Several runs, such as the seeds of one network, become one model, the mean of them, in a run folder of its own:
python scripts/export.py RUN RUN RUN --into RUN. Refused when onnxruntime and PyTorch differ by more than 0.05 s on any
row.
"""

import argparse
from pathlib import Path

from hailtime.export import export
from hailtime.report import run_script
from hailtime.tracking import follow
from hailtime.training.ensemble import fold


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a run's model.onnx.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run folder, such as runs/demo")
    parser.add_argument("--into", type=Path, help="the run folder that several runs are folded into")
    arguments = parser.parse_args()
    if (len(arguments.runs) > 1) != (arguments.into is not None):
        parser.error("name one RUN, or several and --into the folder of their mean")
    run: Path = arguments.into or arguments.runs[0]
    if arguments.into:
        fold(arguments.runs, run)
    report = export(run)
    size, off_s = report["bytes"] / 1e6, report["parity"]["max_abs_s"]
    print(f"{run / 'model.onnx'}: {size:.1f} MB, at most {off_s:.5f} s off PyTorch")
    follow([run])


if __name__ == "__main__":
    run_script(main)
