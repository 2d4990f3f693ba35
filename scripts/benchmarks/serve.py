"""Serving: the same rows through `EtaClient` and a plain tritonclient call to a real Triton, and through FastAPI with
onnxruntime, MLServer, and LightGBM behind FastAPI; one by one, closed and open loop, in turn, in one run.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from tritonclient.grpc import InferenceServerClient

from benchmarks import peers, ways
from benchmarks.serve_load import closed_loop, one_by_one, open_loop
from benchmarks.serve_picture import draw
from hailtime.client import EtaClient
from hailtime.errors import HailtimeError
from hailtime.export import session
from hailtime.report import console
from hailtime.serving.deploy import deploy
from hailtime.serving.gates import LIMITS
from hailtime.serving.triton import TritonServer
from hailtime.training.features import raw_inputs
from hailtime.training.train import Run, load_run

BATCHES = (1, 64, 1024)
CONCURRENCIES = (1, 2, 4, 8, 16, 32)
RATES = (100.0, 200.0, 400.0, 800.0)
PLAIN, OURS, PANDAS, ALONE = "tritonclient, ready arrays", "EtaClient", "EtaClient, pandas", "onnxruntime alone"
SINGLY = "EtaClient, batch_wait_s=0"
FASTAPI, MLSERVER, TREES = "FastAPI + onnxruntime", "MLServer", "LightGBM behind FastAPI"
HIGHEST_RATIO = {"1": 1.10, "64": 1.25, "1024": 1.25}  # of our client's p50 to the plain call's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="an exported run folder with its data")
    parser.add_argument("--calls", type=int, default=2000, help="timed calls of each way at batch 1")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each way at each load; 0: no load")
    parser.add_argument("--no-peers", action="store_true", help="our client and the plain call alone")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    run, missing = load_run(arguments.run), list[str]()
    with ExitStack() as stack:
        asked = _ways(run, stack, arguments.no_peers, missing)
        figures: dict[str, Any] = {"missing": missing, "serve_ms": {}}
        for n in BATCHES:
            calls = {name: of(n) for name, of in asked.items() if name != SINGLY}  # who asks alone shares no call
            figures["serve_ms"][str(n)] = one_by_one(calls, max(100, arguments.calls // (1 + n // 64)))
            console().print(f"{n} rows: {figures['serve_ms'][str(n)][OURS]}")
        if arguments.seconds > 0:
            calls = {name: of(1) for name, of in asked.items() if name not in (PANDAS, ALONE)}
            figures["closed_rps"] = closed_loop(calls, CONCURRENCIES, arguments.seconds)
            figures["open_ms"] = open_loop(calls, RATES, arguments.seconds)
            draw(figures, arguments.out / "serve.png")
    return figures


def _ways(run: Run, stack: ExitStack, no_peers: bool, missing: list[str]) -> dict[str, ways.Way]:
    """Every way with its server started; what could not be is told in `missing`."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    part = run.prepared.part("test").head(max(BATCHES))
    arrays = raw_inputs(run.schema, part)
    frame = part.select(run.schema.input_names)
    frame = frame.with_columns(frame[run.schema.requested_at] // 1_000_000)
    rows = frame.to_dicts()
    server = stack.enter_context(TritonServer(folder / "models", grpc_port=0, metrics_port=0))
    deploy(run.folder, folder / "models", server.url)
    client = stack.enter_context(EtaClient(server.url, 5.0, answer_by_rule=False))
    singly = stack.enter_context(EtaClient(server.url, 5.0, answer_by_rule=False, batch_wait_s=0.0))
    asked = {
        PLAIN: ways.plain(stack.enter_context(InferenceServerClient(server.url)), arrays),
        OURS: ways.dicts(client, rows),
        SINGLY: ways.dicts(singly, rows),
        PANDAS: ways.pandas(client, frame.to_pandas()),
        ALONE: ways.alone(session(run.folder / "model.onnx"), arrays),
    }
    if no_peers:
        return asked
    peers.write_folder(run, folder)
    for name, model in ((FASTAPI, "onnx"), (TREES, "lightgbm")):
        asked[name] = ways.http(stack.enter_context(peers.fastapi(model, folder)).port, rows)
    try:
        peer, url = peers.mlserver(folder)
        stack.enter_context(peer)
        asked[MLSERVER] = ways.plain(stack.enter_context(InferenceServerClient(url)), arrays)
    except HailtimeError as error:
        missing.append(f"{MLSERVER}: {error}")
    _check_same(asked)
    return asked


def _check_same(asked: dict[str, ways.Way]) -> None:
    """Whoever serves the file must answer as it does, else it was not asked the same."""
    told_s = asked[ALONE](64)()
    for name in asked.keys() & {PLAIN, FASTAPI, MLSERVER}:
        off_s = float(np.abs(asked[name](64)() - told_s).max())
        if off_s > LIMITS.parity_s:
            raise HailtimeError(f"{name} must answer as the model's file, it is {off_s:.2f} s off")


def missed(figures: dict[str, Any]) -> list[str]:
    """The goals of our client beside the plain call that were not reached."""
    told = [f"a peer is missing: {text}" for text in figures["missing"]]
    for n, highest in HIGHEST_RATIO.items():
        ratio = figures["serve_ms"][n][OURS]["ratio"]
        told += [f"{n} rows: p50 {ratio:.2f} × the plain call's, at most {highest:.2f}"] if ratio > highest else []
    one = figures["serve_ms"]["1"][OURS]
    told += [f"one row: p50 {one['p50']:.2f} and p95 {one['p95']:.2f} ms, aims 1 and 2"] * (
        one["p50"] > 1 or one["p95"] > 2
    )
    if "closed_rps" in figures:
        ours, plain = (figures["closed_rps"][name]["16"] for name in (OURS, PLAIN))
        told += [f"16 callers: {ours:.0f} requests/s, the plain call {plain:.0f}"] * (ours < plain)
    return told


def show(figures: dict[str, Any]) -> None:
    table = Table(title="One call, ms; ratio to the plain tritonclient call", title_justify="left")
    for heading in ("rows", "asked by", "p50", "p95", "p99", "ratio"):
        table.add_column(heading, justify="left" if heading == "asked by" else "right")
    for n, of_batch in figures["serve_ms"].items():
        for name, said in of_batch.items():
            table.add_row(n, name, *(f"{said[k]:.2f}" for k in ("p50", "p95", "p99", "ratio")))
    console().print(table)
    if "closed_rps" in figures:
        _show_loads(figures)


def _show_loads(figures: dict[str, Any]) -> None:
    closed = Table(title="Requests/s of one row, by callers who wait", title_justify="left")
    opened = Table(title="p50 / p99, ms, by requests due a second", title_justify="left")
    for table, headings in ((closed, CONCURRENCIES), (opened, [f"{rate:g}" for rate in RATES])):
        table.add_column("asked by")
        for heading in headings:
            table.add_column(str(heading), justify="right")
    for name, rates in figures["closed_rps"].items():
        closed.add_row(name, *(f"{rate:,.0f}" for rate in rates.values()))
    for name, times in figures["open_ms"].items():
        opened.add_row(name, *map(_both, times.values()))
    console().print(closed)
    console().print(opened)


def page(figures: dict[str, Any]) -> str:
    """The tables in Markdown, once all was measured."""
    if "closed_rps" not in figures or FASTAPI not in figures["serve_ms"]["1"]:
        return ""
    names = list(figures["serve_ms"]["1"])
    lines = [f"| rows a call | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for n, of_batch in figures["serve_ms"].items():
        cells = (f"{said['p50']:.2f} ({said['ratio']:.2f} ×)" for said in of_batch.values())
        lines.append(f"| {n} | {' | '.join(cells)} |")
    lines += ["", "Requests a second of one row, by callers who wait for their answers:", ""]
    lines += [f"| | {' | '.join(map(str, CONCURRENCIES))} |", f"|---|{'---|' * len(CONCURRENCIES)}"]
    for name, rates in figures["closed_rps"].items():
        lines.append(f"| {name} | {' | '.join(f'{rate:,.0f}' for rate in rates.values())} |")
    lines += ["", "p50 / p99 in ms from the moment a request was due, by requests a second:", ""]
    lines += [f"| | {' | '.join(f'{rate:g}' for rate in RATES)} |", f"|---|{'---|' * len(RATES)}"]
    for name, times in figures["open_ms"].items():
        lines.append(f"| {name} | {' | '.join(map(_both, times.values()))} |")
    return "\n".join(lines)


def _both(said: dict[str, float]) -> str:
    return f"{said['p50']:.1f} / {said['p99']:.1f}"
