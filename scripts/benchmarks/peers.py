"""What else could answer the same rows from the same file: FastAPI with onnxruntime, LightGBM behind FastAPI, MLServer.

Each is one warm process with one thread for its model. MLServer's dependencies clash with ours (`peer_install.py`).
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl

from benchmarks.peer_install import install
from hailtime.baselines import LightGBM
from hailtime.errors import HailtimeError
from hailtime.schema import MODEL_NAME
from hailtime.serving.triton import pick_ports
from hailtime.training.features import raw_inputs
from hailtime.training.train import Run

HERE = Path(__file__).parent
MLSERVER = ("mlserver==1.7.1", "onnxruntime==1.32.0")
START_S = 60.0
N_TREES = 200  # early stopping takes more; fewer answer faster, which is in its favour


class Columns(NamedTuple):
    """What peer.json tells an app."""

    numeric: list[str]
    categorical: list[str]
    requested_at: str
    timezone: str
    vocabulary: dict[str, list[str]]


class Peer:
    """A server process; ready when its port takes connections, ended with the block."""

    def __init__(self, command: list[str], port: int, ready: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.port, self._ready = port, ready
        self._log = (folder / f"{port}.log").open("w+")
        said = {**os.environ, "OMP_NUM_THREADS": "1", "PEER_FOLDER": str(folder), **environment}
        self._process = subprocess.Popen(command, cwd=HERE.parent, env=said, stdout=self._log, stderr=self._log)

    def __enter__(self) -> Self:
        until = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self._log.seek(0)
                said = self._log.read()[-1500:]
                self.__exit__(None, None, None)
                raise HailtimeError(f"a peer must start within {START_S:g} s, it did not:\n{said}")
            time.sleep(0.1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=1.0)
        try:
            connection.request("GET", self._ready)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def fastapi(model: str, folder: Path) -> Peer:
    """`model`: onnx or lightgbm."""
    port = pick_ports("127.0.0.1", {"http": 0})["http"]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.peer_app:app", "--port", str(port), "--no-access-log"]
    command += [
        "--log-level",
        "warning",
        "--timeout-keep-alive",
        "600",
    ]  # 5 s by default: the others' turns take longer
    return Peer(command, port, "/openapi.json", folder, {"PEER_MODEL": model})


def mlserver(folder: Path) -> tuple[Peer, str]:
    """The process, and where it takes the protocol that Triton takes; HailtimeError where it cannot be set up."""
    program = install("mlserver", MLSERVER) / "mlserver"
    ports = pick_ports("127.0.0.1", {"http": 0, "grpc": 0, "metrics": 0})
    served = folder / "mlserver"
    served.mkdir()
    shutil.copy(HERE / "mlserver_model.py", served)
    settings = {"host": "127.0.0.1", "http_port": ports["http"], "grpc_port": ports["grpc"], "parallel_workers": 0}
    settings |= {"metrics_port": ports["metrics"], "metrics_endpoint": None, "debug": False}
    (served / "settings.json").write_text(json.dumps(settings))
    model = {"name": MODEL_NAME, "implementation": "mlserver_model.OnnxModel"}
    model_settings = {**model, "parameters": {"uri": str(folder / "model.onnx")}}
    (served / "model-settings.json").write_text(json.dumps(model_settings))
    peer = Peer([str(program), "start", str(served)], ports["http"], "/v2/health/ready", folder, {})
    return peer, f"127.0.0.1:{ports['grpc']}"


def write_folder(run: Run, folder: Path) -> None:
    """What the apps read: the run's file, and trees fitted on the same trips."""
    schema = run.schema
    shutil.copy(run.folder / "model.onnx", folder)
    columns = Columns(
        list(schema.numeric_names), list(schema.categorical_names), schema.requested_at, schema.timezone,
        run.spec.vocabulary,
    )  # fmt: skip
    (folder / "peer.json").write_text(json.dumps(columns._asdict()))
    _fit_trees(run).save_model(folder / "model.txt")


def _fit_trees(run: Run) -> Any:
    """With the settings of the baseline, over what peer_app.py makes of a row."""
    import lightgbm

    settings, schema = LightGBM().settings, run.schema
    train = run.prepared.part("train")
    rows = lightgbm.Dataset(_matrix(run, train), train[schema.target].to_numpy())
    return lightgbm.train(settings, rows, N_TREES)


def _matrix(run: Run, part: pl.DataFrame) -> Any:
    schema = run.schema
    numeric, texts, _ = raw_inputs(schema, part)
    known = [{text: code for code, text in enumerate(run.spec.vocabulary[c], 1)} for c in schema.categorical_names]
    codes = np.array([[of.get(text, 0) for of, text in zip(known, row, strict=True)] for row in texts], np.float64)
    local = pl.from_epoch(part[schema.requested_at], "us").dt.replace_time_zone("UTC")
    local = local.dt.convert_time_zone(schema.timezone)
    hours = (local.dt.weekday() - 1) * 24 + local.dt.hour() + local.dt.minute() / 60
    return np.column_stack([numeric.astype(np.float64), codes, hours.to_numpy()])
