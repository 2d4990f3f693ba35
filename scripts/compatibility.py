"""Tries this package with the oldest and the newest of what it runs with: python scripts/compatibility.py RUN

For each Python from 3.11 to 3.13 that is found (on PATH or by pyenv) it makes fresh environments, installs the wheel
with the oldest and the newest versions that its declaration allows, asks a real Triton, and runs RUN/model.onnx in old
and new ONNX Runtimes on the run's probe rows. The table goes into docs/compatibility.md. Needs pip and a network; 5
minutes. torch is not tried: other wheels of it bring gigabytes of CUDA libraries.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from hailtime.errors import ConfigError
from hailtime.report import run_script
from hailtime.serving.deploy import deploy
from hailtime.serving.triton import TritonServer

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- scripts/compatibility.py writes from here -->\n", "<!-- to here -->\n"
PYTHONS = ("3.11", "3.12", "3.13")
# The oldest numpy with a wheel from 1.26, and the oldest tritonclient from 2.51 that takes it (numpy 2: from 2.57)
OLDEST = {"3.11": ("1.26.0", "2.51.0"), "3.12": ("1.26.0", "2.51.0"), "3.13": ("2.1.0", "2.57.0")}
# ONNX Runtime: one too old, the oldest allowed, those of Triton 24.09 and 24.12, some between, the newest
RUNTIMES = ("1.17.3", "1.18.0", "1.19.2", "1.20.1", "1.22.1", "1.24.4", "1.27.0", "1.30.0", "1.32.0")
SAME_S = 0.05

ASK = """
import json, sys, time
from importlib.metadata import version
from hailtime.client import EtaClient
rows = json.load(open(sys.argv[2]))
with EtaClient(sys.argv[1], 20, answer_by_rule=False) as client:
    said = [[one.p10_s, one.p50_s, one.p90_s] for one in client.predict(rows)]
print(json.dumps({"said": said, **{n: version(n) for n in ("numpy", "tritonclient", "grpcio", "protobuf")}}))
"""
RUN = """
import json, sys
import numpy, onnxruntime
probe = numpy.load(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = [one.name for one in session.get_inputs()]
wanted = probe["pickup_time_s"]
inputs = {n: probe[n].astype(object) if n == "categorical" else probe[n] for n in names}
off = float(numpy.abs(session.run(None, inputs)[0] - wanted).max())
print(json.dumps({"off_s": off, "numpy": numpy.__version__}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Try the oldest and the newest of what this package runs with.")
    parser.add_argument("run", type=Path, help="a run folder with model.onnx")
    run = parser.parse_args().run
    if not (run / "model.onnx").is_file():
        raise ConfigError(f"trying needs a run with model.onnx, {run} has none: python scripts/export.py {run}")
    with tempfile.TemporaryDirectory() as name:
        lines = list(table(run, Path(name)))
    before, rest = PAGE.read_text().split(BEGIN)
    today = f"{datetime.now(UTC):%Y-%m-%d}, with Triton 2.51 on CPU:\n\n"
    PAGE.write_text(before + BEGIN + today + "\n".join(lines) + "\n" + END + rest.split(END)[1])


def table(run: Path, folder: Path) -> Iterator[str]:
    """The table's lines, each as soon as it is known."""
    yield from ("| Python | tried | with | result |", "|---|---|---|---|")
    wheel, pythons = build_wheel(folder), find_pythons()
    with TritonServer(folder / "models", grpc_port=0, metrics_port=0) as server:
        deploy(run, folder / "models", server.url)
        rows = request_rows(run, folder)
        for version, python in pythons.items():
            numpy, client = OLDEST[version]
            for age, wanted in (("oldest", [f"numpy=={numpy}", f"tritonclient[grpc]=={client}"]), ("newest", [])):
                found = attempt(folder, python, [str(wheel), *wanted], ASK, server.url, str(rows))
                yield told(version, f"client, {age}", found, answered)
    for version, python in pythons.items():
        for runtime in RUNTIMES if version == "3.11" else RUNTIMES[-1:]:
            numpy = "numpy<2" if runtime < "1.19" else "numpy"  # ONNX Runtime 1.18 was built against numpy 1
            paths = str((run / "model.onnx").absolute()), str((run / "probe.npz").absolute())
            found = attempt(folder, python, [f"onnxruntime=={runtime}", numpy], RUN, *paths)
            yield told(version, f"ONNX Runtime {runtime}", found, parity)


def attempt(folder: Path, python: Path, wanted: list[str], code: str, *arguments: str) -> dict[str, object]:
    """What the code printed in a fresh environment; `error` where something failed."""
    shutil.rmtree(folder / "venv", ignore_errors=True)
    inside = str(folder / "venv" / "bin" / "python")
    install = [inside, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *wanted]
    # the tested command must not see this checkout
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    for command in ([str(python), "-m", "venv", str(folder / "venv")], install, [inside, "-c", code, *arguments]):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            return {"error": last.rsplit(") ", 1)[-1][:160]}  # ONNX Runtime says where it fails in C++, and then why
    return dict(json.loads(done.stdout))


def told(version: str, what: str, found: dict[str, object], result: Callable[[dict[str, object]], str]) -> str:
    packages = ", ".join(f"{name} {value}" for name, value in found.items() if name not in ("said", "off_s", "error"))
    line = f"| {version} | {what} | {packages or '–'} | {found.get('error') or result(found)} |"
    print(line, flush=True)
    return line


def answered(found: dict[str, object]) -> str:
    said = found["said"]
    assert isinstance(said, list)
    return f"{len(said)} rows answered"


def parity(found: dict[str, object]) -> str:
    off_s = float(str(found["off_s"]))
    return f"{off_s:.4f} s off PyTorch at most" if off_s <= SAME_S else f"WRONG: {off_s:.3f} s off PyTorch"


def request_rows(run: Path, folder: Path) -> Path:
    """A file with rows of which little is known, as any schema allows."""
    schema = json.loads((run / "schema.json").read_text())
    names = {column["role"]: column["name"] for column in schema["columns"]}
    inputs = [c["name"] for c in schema["columns"] if c["role"] in ("numeric", "categorical")]
    rows = [{names["requested_at"]: 1_775_000_000 + 3600 * hour, **dict.fromkeys(inputs)} for hour in range(24)]
    (folder / "rows.json").write_text(json.dumps(rows))
    return folder / "rows.json"


def build_wheel(folder: Path) -> Path:
    shutil.copytree(ROOT / "src", folder / "tree" / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(folder / "tree"),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.whl"))


def find_pythons() -> dict[str, Path]:
    """By version; a name on PATH may be a version manager's stand-in that runs nothing, so each is tried."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found: dict[str, Path] = {}
    for version in PYTHONS:
        named = shutil.which(f"python{version}")
        for path in ([Path(named)] if named else []) + sorted(versions.glob(f"{version}.*/bin/python")):
            if subprocess.run([path, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0:
                found.setdefault(version, path)
    return found


if __name__ == "__main__":
    run_script(main)
