"""Writes a run's model.onnx: python scripts/export.py RUN

Refused when onnxruntime and PyTorch differ by more than 0.05 s on any row.
"""

import argparse
from pathlib import Path

from hailtime.export import export
from hailtime.report import run_script


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a run's model.onnx.")
    parser.add_argument("run", type=Path, help="a run folder, such as runs/demo")
    arguments = parser.parse_args()
    report = export(arguments.run)
    size, off_s = report["bytes"] / 1e6, report["parity"]["max_abs_s"]
    print(f"{arguments.run / 'model.onnx'}: {size:.1f} MB, at most {off_s:.5f} s off PyTorch")


if __name__ == "__main__":
    run_script(main)
