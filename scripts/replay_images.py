"""Builds the targets of Dockerfile.cuda where no registry can be reached: python scripts/replay_images.py [TARGET ...]

buildah carries out every step of the file as it stands, on stand-ins for the two bases that would come from a registry:
a Debian 12 with its Python 3.11, made by mmdebstrap, and for `serve` the same with the embedded Triton. So the steps,
the users, the files and the commands are the real ones; the bases' content is not. `train` gets the torch that pip
finds here. Needs root, buildah and mmdebstrap (Debian's packages); the stand-ins are kept for the next time.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hailtime.errors import ServerError
from hailtime.report import run_script

ROOT = Path(__file__).parents[1]
TARGETS = ("client", "monitor", "serve", "train")
PYTHON, TRITON = "localhost/hailtime-stand-in/python:bookworm", "localhost/hailtime-stand-in/triton:2.51"
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
MAKE_TRITON = f"""
FROM {PYTHON}
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends libpython3.11 python3-pip > /dev/null
COPY src /tmp/src
RUN PYTHONPATH=/tmp/src python -c \
    'from pathlib import Path; from hailtime.serving.triton_install import install; install(Path("/opt/triton"))'
COPY tritonserver /usr/local/bin/tritonserver
"""
# What the image of NVIDIA needs not be told: where the backends are, and the libraries of the Python-based one
TRITONSERVER = """#!/bin/sh
export PATH=/opt/triton/venv/bin:$PATH LD_LIBRARY_PATH=/opt/triton/venv/libpython
triton=/opt/triton/venv/lib/python3.11/site-packages/pytriton/tritonserver
exec "$triton/bin/tritonserver" "$@" --backend-directory="$triton/backends" --allow-gpu-metrics=false
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the images' targets without a registry.")
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help=f"all of {', '.join(TARGETS)} if not given")
    targets = parser.parse_args().targets or TARGETS
    check_programs()
    for target in targets:
        started = time.monotonic()
        name = build(target)
        print(f"{name:32} {time.monotonic() - started:6.1f} s  {size_mb(name):6.0f} MB", flush=True)


def check_programs() -> None:
    lacking = [name for name in ("buildah", "mmdebstrap") if shutil.which(name) is None]
    if lacking or os.geteuid() != 0:
        raise ServerError(f"replaying the images needs root, and lacks {lacking}: apt install buildah mmdebstrap")


def build(target: str) -> str:
    """The image's name."""
    bases = {"PYTHON_IMAGE": stand_in_python()}
    if target == "serve":
        bases["TRITON_IMAGE"] = stand_in_triton()
    name = f"localhost/hailtime/{target}"
    options = [f"--build-arg={base}={image}" for base, image in bases.items()]
    with host_pip() as pip:
        buildah("build", *options, *pip, "--target", target, "--tag", name, "--file", "Dockerfile.cuda", ".")
    return name


def stand_in_python() -> str:
    if not is_there(PYTHON):
        with tempfile.TemporaryDirectory() as folder:
            options = [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
            options += ["--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"']
            packages = "--include=python3-venv,ca-certificates"
            command = ["mmdebstrap", "--quiet", "--variant=minbase", *options, packages, "bookworm"]
            run([*command, f"{folder}/root.tar"])
            steps = "FROM scratch\nADD root.tar /\nRUN ln -s /usr/bin/python3 /usr/local/bin/python\n"
            Path(folder, "Dockerfile").write_text(steps)
            buildah("build", "--tag", PYTHON, folder)
    return PYTHON


def stand_in_triton() -> str:
    stand_in_python()
    if not is_there(TRITON):
        with tempfile.TemporaryDirectory() as name, host_pip() as pip:
            folder = Path(name)
            shutil.copytree(ROOT / "src", folder / "src")
            (folder / "tritonserver").write_text(TRITONSERVER)
            (folder / "tritonserver").chmod(0o755)
            (folder / "Dockerfile").write_text(MAKE_TRITON)
            buildah("build", *pip, "--tag", TRITON, name)
    return TRITON


@contextmanager
def host_pip() -> Iterator[list[str]]:
    """Options that let pip inside find packages as pip here does: its settings, certificates and folders."""
    named = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    lines = [f"{name.removeprefix('PIP_').lower().replace('_', '-')} = {value}" for name, value in named.items()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pip.conf")
        file.write_text("\n".join(["[global]", *lines, ""]))
        shared = [path for path in named.values() if path.startswith("/") and Path(path).exists()]
        yield [f"--volume={file}:/etc/pip.conf:ro", *(f"--volume={path}:{path}:ro" for path in shared)]


def is_there(image: str) -> bool:
    return subprocess.run(["buildah", "inspect", "--type=image", image], capture_output=True).returncode == 0


def size_mb(image: str) -> float:
    """Unpacked, the stand-in's base included."""
    listed = subprocess.run(["buildah", "images", "--json"], capture_output=True, text=True, check=True).stdout
    return next(
        float(one["size"].split()[0]) for one in json.loads(listed) if f"{image}:latest" in (one["names"] or ())
    )


def buildah(*arguments: str) -> None:
    # chroot: no daemon, no cgroups and no network of its own, so that it works inside a container and in a sandbox;
    # docker: the format that knows health checks
    command = ["buildah", arguments[0], "--isolation=chroot", "--format=docker", "--layers", *arguments[1:]]
    run(command)


def run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise ServerError(f"{' '.join(command[:2])} ended with status {done.returncode}, its words are above")


if __name__ == "__main__":
    run_script(main)
