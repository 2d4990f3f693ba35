"""Drift of the same rows by Hailtime and by Evidently, one after the other: seconds, and whether they say the same.

Both have their rows in memory, Polars' here and pandas' there, before their clock starts. Both compare 1 M rows with
200,000 of training: PSI, KS and Wasserstein of 15 numbers and PSI of 5 texts.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import kstwo

from benchmarks.monitor_data import DRIFT_SCHEMA, drift_frame
from benchmarks.peer_install import ask
from hailtime.histograms import reference_histograms
from hailtime.monitoring.drift import ColumnCounts, Drift, drift_of

EVIDENTLY = ("evidently==0.7.23", "pandas==2.3.3", "pyarrow>=15")  # it does not import with pandas 3
N_BEFORE, N_NOW = 200_000, 1_000_000
# Both give each value of these a bin of its own; of the other numbers Evidently's bins are another choice
SAME_BINS = ("number_0", "number_1", "number_2")
IMPORT = """
import time
start = time.perf_counter()
import hailtime.histograms, hailtime.monitoring.drift
print(time.perf_counter() - start)
"""


def side_by_side(folder: Path, python: str) -> dict[str, Any]:
    """`python`: of the environment that has Evidently."""
    before, now = rows(N_BEFORE, 1, (0.1, 0.1, 0.1)), rows(N_NOW, 2, (0.1, 0.11, 0.13))
    before.write_parquet(folder / "before.parquet")
    now.write_parquet(folder / "now.parquet")
    theirs = _evidently(folder, python)
    start = time.perf_counter()
    reference = reference_histograms(DRIFT_SCHEMA, before)
    reference_s = time.perf_counter() - start
    start = time.perf_counter()
    drifts = {name: _drift(reference[name], now[name]) for name in DRIFT_SCHEMA.input_names if name in reference}
    ours = {"drift_s": time.perf_counter() - start, "reference_s": reference_s, "import_s": _import_s()}
    return {"hailtime": ours, "evidently": theirs, "compared": _compared(drifts, theirs.pop("values"))}


def rows(n: int, seed: int, first: tuple[float, ...]) -> pl.DataFrame:
    """As `drift_frame`; three numbers are 0 to 9, with the share `first` of zeros and all others alike."""
    rng = np.random.default_rng(seed)
    shares = [np.array([share, *[(1 - share) / 9] * 9]) for share in first]
    digits = {name: rng.choice(10, n, p=share).astype(float) for name, share in zip(SAME_BINS, shares, strict=True)}
    return drift_frame(n, seed).with_columns(**{name: pl.Series(values) for name, values in digits.items()})


def _drift(reference: Mapping[str, Any], column: pl.Series) -> Drift:
    counts = ColumnCounts.like(reference)
    counts.add(column)
    return drift_of(reference, counts)


def _import_s() -> float:
    return float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout)


def _evidently(folder: Path, python: str) -> dict[str, Any]:
    names = (",".join(DRIFT_SCHEMA.numeric_names), ",".join(DRIFT_SCHEMA.categorical_names))
    files = (folder / "before.parquet", folder / "now.parquet")
    return ask(python, "peer_evidently.py", *files, *names, DO_NOT_TRACK="1")


def _compared(drifts: Mapping[str, Drift], theirs: Mapping[str, float]) -> dict[str, list[float]]:
    """`column method` → what we say and what Evidently says, where both have the same bins."""
    found = {f"{name} psi": drifts[name].psi for name in (*SAME_BINS, *DRIFT_SCHEMA.categorical_names)}
    for name in SAME_BINS:
        found[f"{name} wasserstein"] = drifts[name].wasserstein or 0.0
        # Evidently tells the p-value alone: this is the one that belongs to our distance
        n = round(N_BEFORE * N_NOW / (N_BEFORE + N_NOW))
        found[f"{name} ks"] = float(kstwo.sf(drifts[name].ks, n))
    return {name: [value, theirs[name]] for name, value in found.items()}
