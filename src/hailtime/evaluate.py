"""How good a run is on the later trips it has never seen: metrics.json and pictures in the run folder."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from hailtime import plots
from hailtime.baselines import Baseline, LightGBM, Rule, table
from hailtime.metrics import by_slice, summary
from hailtime.preparation.prepared import Prepared
from hailtime.slices import slice_labels
from hailtime.training.features import FeatureSpec, model_inputs, numeric_feature_names, row_features
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
    slices = slices_of(prepared, run.spec, run.config, part)
    metrics: dict[str, Any] = {
        "part": part,
        "rows": len(frame),
        "data_fingerprint": prepared.fingerprint,
        "schema_fingerprint": prepared.schema.fingerprint,
        "network": summary(predicted_s, actual_s),
    }
    metrics |= _judge(against, run, prepared, part)
    if prepared.schema.truth and not frame[prepared.schema.truth].has_nulls():  # a log of answers knows no truth
        truth_s = frame[prepared.schema.truth].to_numpy()
        metrics["best_possible"] = summary(truth_s, actual_s)
    metrics["slices"] = by_slice(predicted_s, actual_s, slices)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    _draw(folder / "plots", metrics, predicted_s, actual_s, slices["hour_local"].to_numpy())
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


def slices_of(prepared: Prepared, spec: FeatureSpec, config: DictConfig, part: str) -> dict[str, pl.Series]:
    """What errors are told by, a label for each row: the local hour, the zone and the source's `slices`."""
    schema, frame = prepared.schema, prepared.part(part)
    x_num, _ = row_features(schema, spec, frame)
    hours = x_num[:, numeric_feature_names(schema).index("hour_local")].to(torch.int64)
    columns = dict.fromkeys([*filter(None, [schema.zone]), *config.source.get("slices", [])])
    return {"hour_local": pl.Series(hours.numpy())} | {name: slice_labels(frame[name]) for name in columns}


def _draw(
    folder: Path,
    metrics: dict[str, Any],
    predicted_s: NDArray[np.float32],
    actual_s: NDArray[np.float64],
    hours: NDArray[np.int64],
) -> None:
    plots.predicted_against_actual(predicted_s, actual_s, folder / "predicted_against_actual.png")
    plots.interval_coverage(predicted_s, actual_s, hours, folder / "interval_coverage.png")
    plots.reliability(predicted_s, actual_s, metrics["slices"], folder / "reliability.png")
    judged = {name: value["mae_s"] for name, value in metrics.items() if isinstance(value, dict) and "mae_s" in value}
    plots.competitors(judged, folder / "competitors.png")
