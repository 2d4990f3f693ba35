"""Serving: one request and batches through `EtaClient`, beside a plain tritonclient call with ready arrays that checks
nothing, and beside onnxruntime alone; on a real Triton, in turn, in one run.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from tritonclient.grpc import InferenceServerClient, InferInput

from hailtime.client import EtaClient
from hailtime.export import session
from hailtime.report import console
from hailtime.schema import MODEL_NAME
from hailtime.serving.deploy import deploy
from hailtime.serving.triton import TritonServer
from hailtime.training.features import raw_inputs
from hailtime.training.train import load_run

BATCHES = (1, 64, 1024)
WARM_UP, BLOCK = 200, 20  # calls


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="an exported run folder")
    parser.add_argument("--calls", type=int, default=2000, help="timed calls of each kind at batch 1")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"serve_ms": serve(arguments.run, arguments.calls)}


def serve(run_folder: Path, n_calls: int) -> dict[str, dict[str, dict[str, float]]]:
    """By batch size and way of asking: p50, p95 and p99 in ms, and p50 as a multiple of the plain call's."""
    run = load_run(run_folder)
    rows = run.prepared.part("test").head(max(BATCHES))
    inputs = raw_inputs(run.schema, rows)
    asked = rows.select(run.schema.input_names)
    asked = asked.with_columns(asked[run.schema.requested_at] // 1_000_000)
    runtime = session(run_folder / "model.onnx")
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        with TritonServer(repository, grpc_port=0, http_port=0, metrics_port=0) as server:
            deploy(run_folder, repository, server.url)
            with InferenceServerClient(server.url) as plain, EtaClient(server.url, 5.0, answer_by_rule=False) as client:
                result = {}
                for n in BATCHES:
                    part = [array[:n] for array in inputs]
                    dicts, frame = asked.head(n).to_dicts(), asked.head(n).to_pandas()
                    ways: dict[str, Callable[[], Any]] = {
                        "tritonclient, ready arrays": plain_call(plain, part),
                        "EtaClient, dicts": lambda dicts=dicts: client.predict(dicts if len(dicts) > 1 else dicts[0]),  # type: ignore[misc]
                        "EtaClient, pandas": lambda frame=frame: client.predict(frame),  # type: ignore[misc]
                        "onnxruntime alone": model_call(runtime, part),
                    }
                    result[str(n)] = measured(ways, max(200, n_calls // (1 + n // 64)))
    return result


def plain_call(client: InferenceServerClient, arrays: list[Any]) -> Callable[[], Any]:
    """The least a gRPC client can do: arrays packed beforehand, no schema, no checks."""
    inputs = []
    for name, array, kind in zip(
        ("numeric", "categorical", "requested_at"), arrays, ("FP32", "BYTES", "INT64"), strict=True
    ):
        inputs.append(InferInput(name, list(array.shape), kind))
        inputs[-1].set_data_from_numpy(array)
    return lambda: client.infer(MODEL_NAME, inputs).as_numpy("pickup_time_s")


def model_call(runtime: Any, arrays: list[Any]) -> Callable[[], Any]:
    feed = dict(zip(("numeric", "categorical", "requested_at"), arrays, strict=True))
    return lambda: runtime.run(None, feed)


def measured(ways: dict[str, Callable[[], Any]], n_calls: int) -> dict[str, dict[str, float]]:
    """Twenty calls of each way in turn: a busy moment hits all alike, and nobody pays for the others' cold caches."""
    spent_ms: dict[str, list[float]] = {name: [] for name in ways}
    for block in range(-(-(WARM_UP + n_calls) // BLOCK)):
        for name, ask in ways.items():
            for _ in range(BLOCK):
                start = time.perf_counter()
                ask()
                if block * BLOCK >= WARM_UP:
                    spent_ms[name].append((time.perf_counter() - start) * 1e3)
    base = float(np.median(next(iter(spent_ms.values()))))
    return {
        name: {
            **{f"p{q}": round(float(np.percentile(times, q)), 4) for q in (50, 95, 99)},
            "ratio": round(float(np.median(times)) / base, 3),
        }
        for name, times in spent_ms.items()
    }


def show(figures: dict[str, Any]) -> None:
    table = Table(title="One call, ms; ratio to the plain tritonclient call", title_justify="left")
    for heading in ("rows", "asked by", "p50", "p95", "p99", "ratio"):
        table.add_column(heading, justify="left" if heading == "asked by" else "right")
    for n, ways in figures["serve_ms"].items():
        for name, of_way in ways.items():
            table.add_row(n, name, *(f"{of_way[k]:.2f}" for k in ("p50", "p95", "p99", "ratio")))
    console().print(table)
