"""What the network is measured against, fitted on the same training rows: the rule and gradient-boosted trees."""

import logging
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hailtime.preparation.prepared import Prepared
from hailtime.rule import FallbackRule
from hailtime.schema import Schema
from hailtime.training.features import (
    UNKNOWN,
    FeatureSpec,
    categorical_feature_names,
    numeric_feature_names,
    row_features,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """Features as every competitor gets them: x_num (n, N) with NaN, x_cat (n, K) codes, target_s (n,) seconds."""

    names: tuple[str, ...]
    x_num: NDArray[np.float32]
    x_cat: NDArray[np.int64]
    target_s: NDArray[np.float64]

    def take(self, which: slice) -> "Table":
        return Table(self.names, self.x_num[which], self.x_cat[which], self.target_s[which])

    def column(self, name: str) -> NDArray[Any]:
        place = self.names.index(name)
        n_numeric = self.x_num.shape[1]
        return self.x_num[:, place] if place < n_numeric else self.x_cat[:, place - n_numeric]

    def matrix(self) -> NDArray[np.float64]:
        """(n, N + K), categories as whole numbers in the last K columns."""
        return np.concatenate([self.x_num.astype(np.float64), self.x_cat.astype(np.float64)], axis=1)


def table(prepared: Prepared, spec: FeatureSpec, part: str) -> Table:
    """A part with the same derived features the network reads (distance, bearing, local clock)."""
    schema, frame = prepared.schema, prepared.part(part)
    x_num, x_cat = row_features(schema, spec, frame)
    names = (*numeric_feature_names(schema), *categorical_feature_names(schema))
    return Table(names, x_num.numpy(), x_cat.numpy(), frame[schema.target].to_numpy().astype(np.float64))


class Baseline(Protocol):
    """Fitted on train (validation only to stop), answers (n,) seconds."""

    def fit(self, train: Table, validation: Table) -> "Baseline": ...

    def predict(self, rows: Table) -> NDArray[np.float64]: ...


class Rule:
    """What a dispatcher does without learning: distance over the hour's speed, else the zone's median.

    With a journey: constant + distance / speed, speed and constant by hour of the local day, found as the line through
    the medians of the near and the far half of that hour's trips. Without one: the zone's median.
    """

    def __init__(self, schema: Schema) -> None:
        self.zone = schema.zone
        self.by_distance = schema.journey is not None
        self.table: dict[int, tuple[float, float]] = {}
        self.otherwise = (0.0, 0.0)
        self.middle_s = 0.0

    def fit(self, train: Table, validation: Table) -> "Rule":
        keys = self._keys(train)
        self.middle_s = float(np.median(train.target_s))
        self.otherwise = self._line(train, np.ones(len(keys), bool))
        self.table = {int(key): self._line(train, keys == key) for key in np.unique(keys)}
        return self

    def predict(self, rows: Table) -> NDArray[np.float64]:
        lines = np.array([self.table.get(int(key), self.otherwise) for key in self._keys(rows)])
        if not self.by_distance:
            return lines[:, 0]
        far = lines[:, 0] + lines[:, 1] * rows.column("distance_m")
        return np.where(np.isnan(far), self.middle_s, far)

    def _keys(self, rows: Table) -> NDArray[np.int64]:
        if self.by_distance or self.zone is None:
            return rows.column("hour_local").astype(np.int64)
        return rows.column(self.zone)

    def _line(self, rows: Table, which: NDArray[np.bool_]) -> tuple[float, float]:
        target = rows.target_s[which]
        middle = float(np.median(target))
        if not self.by_distance:
            return middle, 0.0
        distance = rows.column("distance_m")[which]
        known = ~np.isnan(distance)
        if known.sum() < 20:
            return middle, 0.0
        near = distance <= np.median(distance[known])
        (x_1, y_1), (x_2, y_2) = (
            (np.median(distance[half & known]), np.median(target[half & known])) for half in (near, ~near)
        )
        slope = float((y_2 - y_1) / (x_2 - x_1)) if x_2 > x_1 else 0.0
        return float(y_1 - slope * x_1), slope


def portable_rule(prepared: Prepared, spec: FeatureSpec) -> FallbackRule:
    """The rule fitted on the training part as a client can hold it, P10 and P90 from the calibration part.

    The spread is that of pickup time over rule: one rider in ten waits less than its P10, one in ten more than its P90.
    """
    schema = prepared.schema
    train, later = table(prepared, spec, "train"), table(prepared, spec, "calibration")
    rule = Rule(schema).fit(train, later)
    ratios = later.target_s / np.maximum(rule.predict(later), 1.0)
    low, high = np.quantile(ratios, [0.1, 0.9])
    lines, otherwise = {str(key): line for key, line in rule.table.items()}, rule.otherwise
    if not rule.by_distance and schema.zone is not None:
        zones = spec.vocabulary[schema.zone]
        otherwise = rule.table.get(UNKNOWN, otherwise)
        lines = {zones[code - 1]: line for code, line in rule.table.items() if code != UNKNOWN}
    return FallbackRule(lines, otherwise, rule.middle_s, (min(float(low), 1.0), max(float(high), 1.0)))


class LightGBM:
    """Trees boosted on the absolute error, stopped early on the validation part; categories native.

    Settings: the best of six on the validation parts of both sources (docs/experiments.md).
    """

    def __init__(self, seed: int = 1, **settings: Any) -> None:
        self.settings = {
            "objective": "l1",
            "learning_rate": 0.03,
            "num_leaves": 127,
            "min_data_in_leaf": 100,
            "feature_fraction": 0.6,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "cat_smooth": 100,
            "cat_l2": 50,
            "verbosity": -1,
            "seed": seed,
            **settings,
        }

    def fit(self, train: Table, validation: Table) -> "LightGBM":
        import lightgbm

        start = time.perf_counter()
        n_numeric = train.x_num.shape[1]
        rows = lightgbm.Dataset(
            train.matrix(),
            train.target_s,
            categorical_feature=list(range(n_numeric, len(train.names))),
            feature_name=list(train.names),
        )
        later = lightgbm.Dataset(validation.matrix(), validation.target_s, reference=rows)
        stop = lightgbm.early_stopping(50, verbose=False)
        self.booster = lightgbm.train(self.settings, rows, 3000, valid_sets=[later], callbacks=[stop])
        log.info("LightGBM: %d trees in %.0f s", self.booster.best_iteration, time.perf_counter() - start)
        return self

    def predict(self, rows: Table) -> NDArray[np.float64]:
        return np.asarray(self.booster.predict(rows.matrix()))
