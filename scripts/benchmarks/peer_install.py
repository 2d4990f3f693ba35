"""Peers whose dependencies clash with ours: each has its own environment in $HAILTIME_PEERS_HOME, else `.peers`."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hailtime.errors import HailtimeError


def install(name: str, packages: Sequence[str]) -> Path:
    """The environment's folder of programs, set up first where it is missing or holds other packages."""
    venv = Path(os.environ.get("HAILTIME_PEERS_HOME") or ".peers").absolute() / name
    marker, programs = venv / "complete.json", venv / "bin"
    if not marker.is_file() or marker.read_text() != json.dumps(packages):
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", *packages]
        for command in ([sys.executable, "-m", "venv", "--clear", str(venv)], pip):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise HailtimeError(f"{name} could not be installed in {venv}: {done.stderr.strip()[-500:]}")
        marker.write_text(json.dumps(packages))
    return programs


def ask(python: Path | str, program: str, *arguments: object, **environment: str) -> dict[str, Any]:
    """What a program of this folder says as JSON in its last line, run in a peer's environment without Hailtime."""
    command = [str(word) for word in (python, Path(__file__).absolute().with_name(program), *arguments)]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    with tempfile.TemporaryDirectory() as left:  # where libraries put their logs
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone, cwd=left)
    if done.returncode:
        raise SystemExit(f"{program} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
