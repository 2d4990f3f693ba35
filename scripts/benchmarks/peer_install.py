"""Peers whose dependencies clash with ours: each has its own environment in $HAILTIME_PEERS_HOME, else `.peers`."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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
