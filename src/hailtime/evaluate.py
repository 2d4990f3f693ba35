"""How good a run is on the later trips it has never seen: metrics.json and pictures in the run folder."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from hailtime import plots
from hailtime.baselines import Baseline, LightGBM, Rule, table
from hailtime.metrics import by_slice, summary
from hailtime.preparation.prepared import Prepared
from hailtime.slices import slice_labels
from hailtime.training.features import model_inputs, numeric_feature_names, row_features
from hailtime.training.train import Run, load_run

log = logging.getLogger(__name__)


def evaluate(folder: Path, against: tuple[str, ...] = ("rule", "lightgbm"), part: str = "test") -> dict[str, Any]:
    """Judges a run folder; leaves metrics.json and plots/. Returns what metrics.json holds.

    `against`: competitors fitted on the same training rows; () for none. The best possible error is given where the
    source knows the truth it drew from.
    """
    run = load_run(folder)
    prepared = run.prepared
    frame = prepared.part(part)
    actual_s = frame[prepared.schema.target].to_numpy()
    predicted_s = predict(run, frame)
    hours = _hours(run, frame)
    columns = dict.fromkeys([*filter(None, [run.schema.zone]), *run.config.source.get("slices", [])])
    slices = {"hour_local": pl.Series(hours.astype(int))} | {name: slice_labels(frame[name]) for name in columns}
    metrics: dict[str, Any] = {
        "part": part,
        "rows": len(frame),
        "data_fingerprint": prepared.fingerprint,
        "schema_fingerprint": prepared.schema.fingerprint,
        "network": summary(predicted_s, actual_s),
    }
    metrics |= _judge(against, run, prepared, part)
    if prepared.schema.truth:
        truth_s = frame[prepared.schema.truth].to_numpy()
        metrics["best_possible"] = summary(truth_s, actual_s)
    metrics["slices"] = by_slice(predicted_s, actual_s, slices)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    _draw(folder / "plots", metrics, predicted_s, actual_s, hours)
    return metrics


def predict(run: Run, frame: pl.DataFrame) -> NDArray[np.float32]:
    """(n, 3) seconds for the rows of a prepared frame, by PyTorch on the CPU."""
    with torch.no_grad():
        parts = [
            run.model(*model_inputs(run.schema, run.spec, frame.slice(first, 16_384)))
            for first in range(0, len(frame), 16_384)
        ]
    result: NDArray[np.float32] = torch.cat(parts).numpy()
    return result


def _judge(against: tuple[str, ...], run: Run, prepared: Prepared, part: str) -> dict[str, dict[str, float]]:
    if not against:
        return {}
    train, validation, rows = (table(prepared, run.spec, name) for name in ("train", "validation", part))
    figures = {}
    for name in against:
        competitor: Baseline = Rule(prepared.schema) if name == "rule" else LightGBM(seed=run.config.seed)
        log.info("fit %s on %d rows", name, len(train.target_s))
        figures[name] = summary(competitor.fit(train, validation).predict(rows), rows.target_s)
    return figures


def _hours(run: Run, frame: pl.DataFrame) -> NDArray[np.float32]:
    x_num, _ = row_features(run.schema, run.spec, frame)
    hours: NDArray[np.float32] = x_num[:, numeric_feature_names(run.schema).index("hour_local")].numpy()
    return hours


def _draw(
    folder: Path,
    metrics: dict[str, Any],
    predicted_s: NDArray[np.float32],
    actual_s: NDArray[np.float64],
    hours: NDArray[np.float32],
) -> None:
    plots.predicted_against_actual(predicted_s, actual_s, folder / "predicted_against_actual.png")
    plots.interval_coverage(predicted_s, actual_s, hours, folder / "interval_coverage.png")
    plots.reliability(predicted_s, actual_s, metrics["slices"], folder / "reliability.png")
    judged = {name: value["mae_s"] for name, value in metrics.items() if isinstance(value, dict) and "mae_s" in value}
    plots.competitors(judged, folder / "competitors.png")
