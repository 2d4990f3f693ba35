"""Makes a run the version that answers: python scripts/deploy.py RUN [--repository model_repository] [--url HOST:PORT]

Refused, with the version before still answering, when the served model does not say what PyTorch said.
"""

import argparse
import logging
from pathlib import Path

from hailtime.report import run_script
from hailtime.serving.deploy import deploy


def main() -> None:
    parser = argparse.ArgumentParser(description="Deploy a run to a running Triton.")
    parser.add_argument("run", type=Path, help="a run folder with model.onnx, such as runs/demo")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="the folder Triton serves")
    parser.add_argument("--url", default="127.0.0.1:8001", help="Triton's gRPC address")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    release = deploy(arguments.run, arguments.repository, arguments.url)
    print(f"version {release.version} answers at {arguments.url}")
    print(f"at most {release.parity_max_abs_s:.5f} s off PyTorch on {release.n_probe_rows} rows")
    if release.previous is not None:
        print(f"version {release.previous} stays loaded")


if __name__ == "__main__":
    run_script(main)
