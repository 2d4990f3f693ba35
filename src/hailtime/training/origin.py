"""By what code, on which machine and with which packages a run is made: origin.json in its folder."""

import hashlib
import json
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

ORIGIN = "origin.json"
# Those that decide the figures of a training; another one of them may give other last digits.
PACKAGES = ("torch", "pytorch-lightning", "numpy", "polars", "pyarrow", "hydra-core", "tabm", "rtdl_num_embeddings")


def origin(seed: int) -> dict[str, Any]:
    """What is true of this process now."""
    return {
        "code": code_version(),
        "command": sys.argv,
        "seed": seed,
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": packages(),
        "machine": machine(),
    }


def read_origin(run: Path) -> dict[str, Any] | None:
    """What a run folder says of it; None in those of before there was such a file, or where it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((run / ORIGIN).read_text())
    except (OSError, ValueError):
        return None
    return found


def packages() -> dict[str, str]:
    """Python and the packages that decide the figures, with their versions."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The host, its processor and the threads that torch uses."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "cpu": names[0] if names else platform.processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def code_version() -> str:
    """The commit, with '+' when files differ from it; a hash of the package's files where there is no git."""
    package = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=package, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        content = b"".join(path.read_bytes() for path in sorted(package.rglob("*.py")))
        return "files-" + hashlib.sha256(content).hexdigest()[:12]
