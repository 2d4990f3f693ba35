"""What a fault happens to: models that answer differently, real Tritons over a repository, and backends that ask."""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.traffic import Backend, Settings
from hailtime.export import session
from hailtime.preparation.prepared import load_prepared
from hailtime.rule import FallbackRule
from hailtime.schema import Schema
from hailtime.serving.deploy import FOR_ALL, Aim, deploy
from hailtime.serving.triton import TritonServer
from hailtime.training.features import raw_inputs

N_ROWS = 512  # different questions
NAMES = ("numeric", "categorical", "requested_at")

Array = NDArray[Any]


class Models(NamedTuple):
    """Runs to deploy, by name, what each says to the questions, and what the rule in them says; (n, 3) seconds."""

    folders: Mapping[str, Path]
    said_s: Mapping[str, Array]
    rule_s: Array
    questions: Path


def make_models(run: Path, folder: Path, names: Sequence[str] = ("first", "second", "third")) -> Models:
    """Of one exported run, models that are a thousandth apart: far enough to tell, near enough for every gate."""
    schema = Schema.from_json((run / "schema.json").read_text())
    config = (run / "config.yaml").read_text()
    prepared = Path(next(line.split(": ")[1] for line in config.splitlines() if line.startswith("prepared: ")))
    rows = load_prepared(prepared).part("test").head(N_ROWS)
    inputs = raw_inputs(schema, rows)
    folders = {name: scaled(run, folder / name, 1 + place / 1000) for place, name in enumerate(names)}
    feed = dict(zip(NAMES, inputs, strict=True))
    said_s = {name: session(run / "model.onnx").run(None, feed)[0] for name, run in folders.items()}
    metadata = {entry.key: entry.value for entry in onnx.load(run / "model.onnx").metadata_props}
    rule_s = FallbackRule.from_json(metadata["hailtime.rule"]).quantiles_s(schema, *inputs)
    asked = rows.select(schema.input_names).with_columns(rows[schema.requested_at] // 1_000_000)
    (folder / "questions.json").write_text(json.dumps(asked.to_dicts()))
    return Models(folders, said_s, rule_s, folder / "questions.json")


def scaled(run: Path, folder: Path, factor: float) -> Path:
    """The run with every answer multiplied: a version that can be told from others by what it says."""
    folder.mkdir(parents=True)
    for name in ("schema.json", "config.yaml", "data.json"):
        (folder / name).write_bytes((run / name).read_bytes())
    model = onnx.load(run / "model.onnx")
    (last,) = (node for node in model.graph.node if "pickup_time_s" in node.output)
    last.output[list(last.output).index("pickup_time_s")] = "unscaled_s"
    model.graph.initializer.append(numpy_helper.from_array(np.array(factor, np.float32), "factor"))
    model.graph.node.append(helper.make_node("Mul", ["unscaled_s", "factor"], ["pickup_time_s"]))
    store_model(folder, model.SerializeToString(), json.loads((run / "export.json").read_text()))
    with np.load(run / "probe.npz", allow_pickle=False) as probe:
        answers = {"pickup_time_s": (probe["pickup_time_s"] * np.float32(factor)).astype(np.float32)}
        np.savez(folder / "probe.npz", **{**{name: probe[name] for name in NAMES}, **answers})
    return folder


def store_model(run: Path, content: bytes, report: Mapping[str, Any]) -> None:
    """As an export would, with its SHA-256 told."""
    (run / "model.onnx").write_bytes(content)
    (run / "export.json").write_text(json.dumps({**report, "sha256": hashlib.sha256(content).hexdigest()}))


class World:
    """One fault's servers and backends; all end with it. `models_of` says which model a version number is."""

    def __init__(self, folder: Path, models: Models, per_s: float, deadline_s: float) -> None:
        folder.mkdir()
        self.folder, self.models, self.repository = folder, models, folder / "models"
        self.servers: list[TritonServer] = []
        self.backends: list[Backend] = []
        self.models_of: dict[tuple[str, str], str] = {}
        self.logs = [folder / "log" / "predictions.sqlite"]
        self._settings = Settings(
            urls=[],
            rows=str(models.questions),
            answers="",
            log=str(self.logs[0]),
            fallback=str(models.folders["first"]),
            per_s=per_s,
            deadline_s=deadline_s,
        )

    @property
    def server(self) -> TritonServer:
        return self.servers[-1]

    def serve(self, repository: Path | None = None, grpc_port: int = 0) -> TritonServer:
        """One more server, of this world's repository if none is named."""
        self.servers.append(
            TritonServer(
                repository or self.repository, grpc_port=grpc_port, metrics_port=0, log=self.folder / "triton.log"
            ).start()
        )
        return self.server

    def begin(self) -> None:
        """A server with the first model."""
        self.serve()
        self.deploy("first")

    def restart(self) -> None:
        """A new server at the address of the last one."""
        self.serve(self.server.repository, int(self.server.url.rpartition(":")[2]))

    def deploy(self, name: str, aim: Aim = FOR_ALL) -> int:
        """One of the models, to the last server; its version."""
        release = deploy(self.models.folders[name], self.server.repository, self.server.url, aim)
        self.models_of[self.server.url, str(release.version)] = name
        return release.version

    def backend(self, *urls: str, environment: Mapping[str, str] | None = None, **settings: Any) -> Backend:
        """A process that asks these servers, else the last one."""
        answers = str(self.folder / f"answers_{len(self.backends)}.jsonl")
        said = replace(self._settings, urls=urls or [self.server.url], answers=answers, **settings)
        changed = {**os.environ, **environment} if environment else None
        self.backends.append(Backend(said, changed))
        return self.backends[-1]

    def flowing(self, *urls: str, **settings: Any) -> Backend:
        """The same, asking since a second."""
        backend = self.backend(*urls, **settings).start()
        time.sleep(1)
        return backend

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for backend in self.backends:
            backend.__exit__(BaseException, None, None)
        for server in self.servers:
            server.kill()
