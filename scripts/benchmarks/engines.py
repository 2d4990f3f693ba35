"""The same preparation on Polars, pandas, Spark local and a Spark cluster: equal rows, equal values, seconds each.

A cluster is any standalone master, started for instance with pyspark's own `bin/spark-class`:

    spark-class org.apache.spark.deploy.master.Master --host 127.0.0.1 --port 7077
    spark-class org.apache.spark.deploy.worker.Worker spark://127.0.0.1:7077
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.table import Table

from hailtime.config import CONFIGS
from hailtime.preparation.dataset import prepare
from hailtime.preparation.prepared import Prepared
from hailtime.preparation.split import PARTS
from hailtime.report import console
from hailtime.sources.simulated_city import load

MAX_DIFFERENCE = 1e-9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=2_000_000, help="requests")
    parser.add_argument("--master", help="of a cluster, such as spark://127.0.0.1:7077; without it no cluster is asked")
    parser.add_argument("--memory", default="6g", help="of Spark's driver and of each executor")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / "source" / "simulated_city.yaml"))
    raw = load(n_requests=arguments.rows)
    spark = {"memory": arguments.memory}
    engines: dict[str, tuple[str, dict[str, Any]]] = {
        "Polars": ("polars", {}),
        "pandas": ("pandas", {}),
        "Spark local": ("spark", {"master": "local[*]", **spark}),
    }
    if arguments.master:
        engines["Spark cluster"] = ("spark", {"master": arguments.master, **spark})
    with tempfile.TemporaryDirectory() as made:
        figures: dict[str, Any] = {}
        reference: Prepared | None = None
        for name, (engine, settings_of_spark) in engines.items():
            start = time.perf_counter()
            prepared = prepare(raw, settings, Path(made) / engine / name.replace(" ", "_"), engine, settings_of_spark)
            figures[name] = {"seconds": time.perf_counter() - start, "fingerprint": prepared.fingerprint}
            reference = reference or prepared
            figures[name] |= compare(reference, prepared)
            console().print(f"{name}: {figures[name]['seconds']:.0f} s")
    return {"rows": arguments.rows, "engines": figures}


def compare(reference: Prepared, other: Prepared) -> dict[str, Any]:
    """Rows, and the largest difference of any number; SystemExit when rows, texts or gaps differ."""
    n_rows, largest = 0, 0.0
    for part in PARTS:
        ours, theirs = reference.part(part), other.part(part)
        if ours.schema != theirs.schema or ours.height != theirs.height:
            raise SystemExit(f"{part} must be the same rows, got {ours.shape} and {theirs.shape}")
        for name, dtype in ours.schema.items():
            a, b = ours[name], theirs[name]
            if not (a.is_null() == b.is_null()).all() or (not dtype.is_float() and not (a.eq_missing(b)).all()):
                raise SystemExit(f"{part}: {name} differs")
            if dtype.is_float():
                largest = max(largest, float((a - b).abs().max() or 0.0))  # type: ignore[arg-type]
        n_rows += ours.height
    if largest > MAX_DIFFERENCE:
        raise SystemExit(f"values must agree to {MAX_DIFFERENCE}, got {largest}")
    return {"rows_out": n_rows, "largest_difference": largest, "findings": _counts(other) == _counts(reference)}


def _counts(prepared: Prepared) -> dict[str, int]:
    return {finding["name"]: finding["rows"] for finding in prepared.report["clean"]["findings"]}


def show(figures: dict[str, Any]) -> None:
    table = Table(title=f"{figures['rows']:,} raw trips, every column of every row compared", title_justify="left")
    for heading in ("engine", "seconds", "rows out", "largest difference", "same findings", "fingerprint"):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for name, job in figures["engines"].items():
        cells = (f"{job['seconds']:.0f}", f"{job['rows_out']:,}", f"{job['largest_difference']:g}")
        table.add_row(name, *cells, "yes" if job["findings"] else "NO", job["fingerprint"])
    console().print(table)
