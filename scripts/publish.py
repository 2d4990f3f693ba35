"""Puts a run into a model repository in an object store: python scripts/publish.py s3://bucket/models RUN

`--stable VERSION` instead of RUN changes the plan to a version that is there, as to go back. A folder that a Triton
on this machine serves is deployed to with scripts/deploy.py, which holds the version against the live one first.
"""

import argparse
from pathlib import Path

from hailtime.report import run_script
from hailtime.serving.remote import RemoteRepository


def main() -> None:
    parser = argparse.ArgumentParser(description="Publish a run to a model repository in an object store.")
    parser.add_argument("url", help="where the repository is, such as s3://bucket/models")
    parser.add_argument("run", type=Path, nargs="?", help="a run folder with model.onnx")
    parser.add_argument("--stable", type=int, metavar="VERSION", help="make a published version the stable one")
    arguments = parser.parse_args()
    if (arguments.run is None) == (arguments.stable is None):
        parser.error("name either a RUN to publish or a VERSION by --stable")
    repository = RemoteRepository(arguments.url)
    if arguments.run is not None:
        print(f"version {repository.publish(arguments.run)} is stable at {arguments.url} for servers that load it")
    else:
        repository.make_stable(arguments.stable)
        print(f"version {arguments.stable} is stable at {arguments.url} for servers that load it")


if __name__ == "__main__":
    run_script(main)
