"""One line of a comparison: a learner tuned, fitted, its intervals calibrated, judged on the test part, timed.

Trees with a quantile objective and naive Bayes give intervals of their own; a learner of one number gets the P10 and
P90 of its errors on the calibration part. All are then calibrated by the same `fit_calibration`, slices included.
"""

import logging
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from hailtime.baselines import Rule, Table, table
from hailtime.comparison.boosted import CatBoost, QuantileLightGBM, XGBoost, in_order
from hailtime.comparison.classical import NaiveBayes, ZoneMedian, forest, ridge, svm, tree
from hailtime.config import train_config
from hailtime.evaluate import predict, slices_of
from hailtime.export import export, session
from hailtime.metrics import by_slice, summary
from hailtime.preparation.prepared import Prepared
from hailtime.schema import Schema
from hailtime.training.calibration import fit_calibration, slicings_of
from hailtime.training.features import FeatureSpec, raw_inputs
from hailtime.training.fit_features import fit_features
from hailtime.training.train import load_run, train
from hailtime.tuning import changed, first_values, search, space_of, tune_network

log = logging.getLogger(__name__)

LEARNERS: dict[str, Callable[..., Any]] = {
    "rule": lambda schema, seed: Rule(schema),
    "zone_median": lambda schema, seed: ZoneMedian(schema.zone),
    "ridge": lambda schema, seed, **settings: ridge(seed, **settings),
    "naive_bayes": lambda schema, seed, **settings: NaiveBayes(seed, **settings),
    "tree": lambda schema, seed, **settings: tree(seed, **settings),
    "svm": lambda schema, seed, **settings: svm(seed, **settings),
    "forest": lambda schema, seed, **settings: forest(seed, **settings),
    "lightgbm": lambda schema, seed, **settings: QuantileLightGBM(seed, **settings),
    "xgboost": lambda schema, seed, **settings: XGBoost(seed, **settings),
    "catboost": lambda schema, seed, **settings: CatBoost(seed, **settings),
}
WITHOUT_CHANCE = ("rule", "zone_median", "ridge", "naive_bayes")  # every seed gives the same
LARGE_SLICE = 2000
N_LATENCY_CALLS = 300


@dataclass(frozen=True)
class Comparison:
    """What all learners share: settings, data, features, the number of trials, and where they are kept."""

    folder: Path
    config: DictConfig
    overrides: list[str]
    prepared: Prepared
    spec: FeatureSpec
    parts: dict[str, Table]
    n_trials: int

    @classmethod
    def of(
        cls, folder: Path, config: DictConfig, overrides: list[str], prepared: Prepared, n_trials: int
    ) -> "Comparison":
        spec = fit_features(prepared.schema, prepared.part("train"), **config.features)
        names = ("train", "validation", "calibration", "test")
        parts = {name: table(prepared, spec, name) for name in names}
        return cls(folder, config, overrides, prepared, spec, parts, n_trials)

    @property
    def schema(self) -> Schema:
        return self.prepared.schema


def learner_entry(of: Comparison, name: str, seed: int) -> dict[str, Any]:
    """The figures of a learner that is not a network of ours."""
    settings = tuned_learner(of, name)
    parts, learner = of.parts, LEARNERS[name](of.schema, seed, **settings)
    start = time.process_time()  # of the processor: other work on the machine makes nobody slower
    learner.fit(parts["train"], parts["validation"])
    if hasattr(learner, "fit_tails"):
        learner.fit_tails(parts["train"], parts["validation"])
    train_s = time.process_time() - start
    raw = [learner.predict(parts[part]) for part in ("calibration", "test")]
    has_own = raw[0].ndim == 2
    quantiles = calibrated(of, *(raw if has_own else with_tails_of_errors(of, raw)))
    rows = [parts["test"].take(slice(i, i + 1)) for i in range(N_LATENCY_CALLS)]
    return {
        **judged(of, quantiles),
        "train_s": train_s,
        "bytes": len(pickle.dumps(learner)),
        "latency_us": median_us(learner.predict, rows),
        "intervals": "own quantiles" if has_own else "errors on the calibration part",
        "settings": settings,
    }


def network_entry(of: Comparison, name: str, seed: int) -> dict[str, Any]:
    """The figures of a network of ours: its latency is onnxruntime's, from raw strings and numbers to seconds."""
    overrides, settings = [*of.overrides, f"network={name}"], {}
    if of.n_trials:
        database = of.folder / "tuning.db"
        settings = tune_network(overrides, database=database, name=name, n_trials=of.n_trials).best_params
    config = changed(train_config(overrides), {**settings, "seed": seed, "run_name": f"{name}-{seed}"})
    folder = of.folder / "runs" / f"{name}-{seed}"
    start = time.process_time()
    train(config, folder)
    train_s = time.process_time() - start
    exported, run, frame = export(folder), load_run(folder), of.prepared.part("test")
    runtime = session(folder / "model.onnx")
    names = ("numeric", "categorical", "requested_at")
    inputs = raw_inputs(of.schema, frame.head(N_LATENCY_CALLS))
    rows = [dict(zip(names, (x[i : i + 1] for x in inputs), strict=True)) for i in range(len(inputs[0]))]
    return {
        **judged(of, predict(run, frame)),
        "train_s": train_s,
        "bytes": exported["bytes"],
        "latency_us": median_us(lambda row: runtime.run(None, row), rows),
        "intervals": "own quantiles",
        "settings": settings,
    }


def tuned_learner(of: Comparison, name: str) -> dict[str, Any]:
    """The best settings of `n_trials`, by the MAE of P50 on the validation part."""
    space = space_of(name)
    if not space or of.n_trials == 0:
        return first_values(space)
    train_rows, validation = of.parts["train"], of.parts["validation"]

    def objective(trial: Any, settings: dict[str, Any]) -> float:
        learner = LEARNERS[name](of.schema, int(of.config.seed), **settings)
        said = learner.fit(train_rows, validation).predict(validation)
        middle = said[:, 1] if said.ndim == 2 else said
        error_s = float(np.abs(middle - validation.target_s).mean())
        log.info("%s trial %d: %.2f s with %s", name, trial.number, error_s, settings)
        return error_s

    database = of.folder / "tuning.db"
    return search(objective, space, first_values(space), database=database, name=name, n_trials=of.n_trials).best_params


def with_tails_of_errors(of: Comparison, raw: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Two (n,) predictions → two (n, 3), with the P10 and P90 of the errors on the calibration part around them."""
    low, high = np.quantile(of.parts["calibration"].target_s - raw[0], [0.1, 0.9])
    return [in_order(middle, middle + low, middle + high) for middle in raw]


def calibrated(
    of: Comparison, on_calibration: NDArray[np.float64], on_test: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(n, 3) for the test part, stretched as the calibration part asks for, as a network's are."""
    columns = of.config.source.get("slices", [])
    slicings = slicings_of(of.schema, of.spec, columns, of.prepared.part("train"))
    rows = of.parts["calibration"]
    fitted = fit_calibration(
        torch.from_numpy(on_calibration).float(), torch.from_numpy(rows.target_s).float(),
        torch.from_numpy(rows.x_num), torch.from_numpy(rows.x_cat), slicings,
    )  # fmt: skip
    test = of.parts["test"]
    with torch.no_grad():
        quantiles = fitted(
            torch.from_numpy(on_test).float(), torch.from_numpy(test.x_num), torch.from_numpy(test.x_cat)
        )
    result: NDArray[np.float32] = quantiles.clamp(min=0.0).numpy()
    return result


def judged(of: Comparison, quantiles_s: NDArray[np.float32]) -> dict[str, float]:
    """`summary` on the test part, and the coverage of the worst large slices."""
    actual_s = of.parts["test"].target_s
    slices = by_slice(quantiles_s, actual_s, slices_of(of.prepared, of.spec, of.config, "test"))
    coverage = [
        figures["coverage_p10_p90"]
        for values in slices.values()
        for figures in values.values()
        if figures["n"] >= LARGE_SLICE
    ]
    worst = {"slice_coverage_least": min(coverage), "slice_coverage_most": max(coverage)} if coverage else {}
    return summary(quantiles_s, actual_s) | worst


def median_us(call: Callable[[Any], Any], rows: Sequence[Any]) -> float:
    """Median microseconds of one call for one row, after a few to warm up."""
    spent = []
    for i, row in enumerate([*rows[:20], *rows]):
        start = time.perf_counter()
        call(row)
        if i >= 20:
            spent.append(time.perf_counter() - start)
    return float(np.median(spent)) * 1e6
