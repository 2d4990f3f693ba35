"""The whole line in one go: prepare → train → evaluate → export → serve → deploy → ask.

    python scripts/pipeline.py [--name demo] [source=nyc_ems source.load.folder=PATH] [network.width=128]

Leaves runs/<name>/ with everything each stage made and summary.json; starts a real Triton on free ports of this
machine, asks it through the client, and stops it at the end. Overrides are those of train.py.
"""

import argparse
import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from omegaconf import DictConfig, open_dict

from hailtime.client import EtaClient
from hailtime.config import check_command_line, train_config
from hailtime.evaluate import evaluate
from hailtime.export import export, session
from hailtime.preparation.from_config import prepare_source
from hailtime.preparation.prepared import Prepared
from hailtime.report import metrics_table, run_script, stage_table
from hailtime.serving.deploy import deploy
from hailtime.serving.triton import TritonServer
from hailtime.training.features import raw_inputs
from hailtime.training.train import Run, train

log = logging.getLogger("pipeline")

seconds: dict[str, float] = {}
notes: dict[str, str] = {}


def main() -> None:
    config, folder = read_arguments()

    with stage("prepare"):
        prepared = prepare_source(config)
        notes["prepare"] = cleaning_note(prepared.report)
    if (folder / "config.yaml").exists():  # an earlier run of this name, kept until its successor has data
        shutil.rmtree(folder)
    with stage("train"):
        run = train(config, folder)
        notes["train"] = f"{folder / 'model.ckpt'}, plots/learning_curve.png"
    with stage("evaluate"):
        metrics = evaluate(folder)
        notes["evaluate"] = f"{folder / 'metrics.json'}, plots/"
    with stage("export"):
        exported = export(folder)
        notes["export"] = f"{exported['bytes'] / 1e6:.1f} MB ONNX, {exported['parity']['max_abs_s']:.5f} s off PyTorch"
    repository = folder / "model_repository"
    with stage("serve"):
        server = TritonServer(repository, grpc_port=0, http_port=0, metrics_port=0, log=folder / "triton.log").start()
        notes["serve"] = f"a real Triton at {server.url}"
    try:
        with stage("deploy"):
            release = deploy(folder, repository, server.url)
            notes["deploy"] = f"version {release.version} live, {release.parity_max_abs_s:.5f} s off PyTorch"
        with stage("ask"), EtaClient(server.url, 1.0, answer_by_rule=False) as client:
            asked = ask(client, run, prepared)
            notes["ask"] = f"{asked['triton_p50_ms']:.2f} ms p50, {asked['triton_p95_ms']:.2f} ms p95 a request"
    finally:
        server.stop()

    summary = {
        **figures(prepared, metrics),
        "parity_max_abs_s": {
            "pytorch_onnxruntime": exported["parity"]["max_abs_s"],
            "onnxruntime_triton": max(release.parity_max_abs_s, asked["parity_max_abs_s"]),
        },
        "triton_p50_ms": asked["triton_p50_ms"],
        "triton_p95_ms": asked["triton_p95_ms"],
        "stage_seconds": seconds,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1))
    stage_table(seconds, notes)
    metrics_table(metrics)
    print(f"one answer: {asked['example']}\nsummary:    {folder / 'summary.json'}\npictures:   {folder / 'plots'}")


def read_arguments() -> tuple[DictConfig, Path]:
    parser = argparse.ArgumentParser(description="Run the whole line once, from trips to a served model.")
    parser.add_argument("--name", default="demo", help="the run folder is runs/NAME, made anew")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    check_command_line("train", arguments.overrides)
    config = train_config(arguments.overrides)
    with open_dict(config):
        config.run_name, config.again = arguments.name, True
    return config, Path("runs") / arguments.name


@contextmanager
def stage(name: str) -> Iterator[None]:
    log.info("── %s", name)
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 2)


def ask(client: EtaClient, run: Run, prepared: Prepared, n_calls: int = 1000) -> dict[str, Any]:
    """Asks for single requests as a backend would; compares answers with onnxruntime's on 1,000 rows."""
    names = [*run.schema.input_names]
    rows = prepared.part("test").head(1000)
    requests = rows.select(names).with_columns(pl.col(run.schema.requested_at) // 1_000_000).to_dicts()
    served = client.predict(requests).quantiles_s
    spent_ms = []
    for i in range(n_calls + 100):
        request = requests[i % len(requests)]
        start = time.perf_counter()
        answer = client.predict(request)
        spent_ms.append((time.perf_counter() - start) * 1e3)
    log.info("asked %d times", n_calls)
    return {
        "parity_max_abs_s": float(np.abs(served - onnxruntime_answers(run.folder, rows, run)).max()),
        "triton_p50_ms": float(np.median(spent_ms[100:])),
        "triton_p95_ms": float(np.quantile(spent_ms[100:], 0.95)),
        "example": f"{answer.p50_s:.0f} s, 8 in 10 times between {answer.p10_s:.0f} and {answer.p90_s:.0f} s",
    }


def onnxruntime_answers(folder: Path, rows: pl.DataFrame, run: Run) -> Any:
    names = ("numeric", "categorical", "requested_at")
    return session(folder / "model.onnx").run(None, dict(zip(names, raw_inputs(run.schema, rows), strict=True)))[0]


def figures(prepared: Prepared, metrics: dict[str, Any]) -> dict[str, Any]:
    best = metrics.get("best_possible")
    return {
        "rows_raw": prepared.report["clean"]["rows_in"],
        "rows_clean": prepared.report["clean"]["rows_out"],
        "test_mae_s": metrics["network"]["mae_s"],
        "rule_mae_s": metrics["rule"]["mae_s"],
        "lightgbm_mae_s": metrics["lightgbm"]["mae_s"],
        "best_possible_mae_s": best["mae_s"] if best else None,
        "coverage_p10_p90": metrics["network"]["coverage_p10_p90"],
    }


def cleaning_note(report: dict[str, Any]) -> str:
    clean = report["clean"]
    return f"{clean['rows_in']:,} raw trips, {clean['rows_out']:,} clean"


if __name__ == "__main__":
    run_script(main)
