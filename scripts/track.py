"""Brings runs and releases into MLflow: python scripts/track.py [RUN ...] [--repository FOLDER]

MLFLOW_TRACKING_URI says where: sqlite:////srv/mlflow.db or http://host:5000. With that variable set train.py,
evaluate.py, export.py, deploy.py, rollback.py and retrain.py do it by themselves; this catches up what they could not.
It may be repeated.
"""

import argparse
import os
from pathlib import Path

from hailtime.errors import ConfigError
from hailtime.report import run_script
from hailtime.tracking import URI, first_line, track


def main() -> None:
    parser = argparse.ArgumentParser(description="Bring runs and releases into MLflow.")
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="run folders, such as runs/demo")
    parser.add_argument("--repository", type=Path, help="the folder Triton serves, for the registry and its aliases")
    arguments = parser.parse_args()
    uri = os.environ.get(URI)
    if not uri:
        raise ConfigError(f"{URI} must say where, such as sqlite:///{Path('mlflow.db').absolute()}")
    try:
        track(uri, arguments.runs, arguments.repository)
    except ConfigError:
        raise
    except Exception as error:  # MLflow, its database and its server raise dozens of kinds
        raise ConfigError(f"{uri} did not take it: {first_line(error)}") from error
    print(f"{len(arguments.runs)} runs{' and the releases' if arguments.repository else ''} are in {uri}")


if __name__ == "__main__":
    run_script(main)
