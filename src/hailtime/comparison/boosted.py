"""Gradient-boosted trees: P50 by the absolute error, P10 and P90 by the quantile loss, categories native.

`fit` grows the trees of P50, stopped early on the validation part; `fit_tails` those of P10 and P90, with the same
settings. `predict` gives (n,) before, (n, 3) after.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hailtime.baselines import LightGBM, Table
from hailtime.comparison.classical import n_threads
from hailtime.schema import QUANTILES

TAILS = (QUANTILES[0], QUANTILES[2])
PATIENCE, MOST_TREES = 50, 3000


class QuantileLightGBM:
    """Three of `LightGBM`, one for each quantile."""

    def __init__(self, seed: int, **settings: Any) -> None:
        self.middle = LightGBM(seed, num_threads=n_threads(), **settings)
        self.tails = [LightGBM(seed, num_threads=n_threads(), **settings, objective="quantile", alpha=q) for q in TAILS]
        self.has_tails = False

    def fit(self, train: Table, validation: Table) -> "QuantileLightGBM":
        self.middle.fit(train, validation)
        return self

    def fit_tails(self, train: Table, validation: Table) -> None:
        for tail in self.tails:
            tail.fit(train, validation)
        self.has_tails = True

    def predict(self, rows: Table) -> NDArray[np.float64]:
        middle = self.middle.predict(rows)
        return in_order(middle, *(tail.predict(rows) for tail in self.tails)) if self.has_tails else middle


class XGBoost:
    """XGBoost's histogram trees: `reg:absoluteerror`, and `reg:quantileerror` for both tails at once."""

    def __init__(self, seed: int, **settings: Any) -> None:
        self.settings = {"seed": seed, "nthread": n_threads(), "tree_method": "hist", "learning_rate": 0.05, **settings}
        self.tails: Any = None

    def fit(self, train: Table, validation: Table) -> "XGBoost":
        self.middle = self._grow(train, validation, objective="reg:absoluteerror")
        return self

    def fit_tails(self, train: Table, validation: Table) -> None:
        self.tails = self._grow(train, validation, objective="reg:quantileerror", quantile_alpha=list(TAILS))

    def predict(self, rows: Table) -> NDArray[np.float64]:
        data = self._data(rows, with_target=False)
        middle: NDArray[np.float64] = self.middle.predict(
            data, iteration_range=(0, self.middle.best_iteration + 1)
        ).astype(np.float64)
        if self.tails is None:
            return middle
        return in_order(middle, *self.tails.predict(data, iteration_range=(0, self.tails.best_iteration + 1)).T)

    def _grow(self, train: Table, validation: Table, **objective: Any) -> Any:
        import xgboost

        return xgboost.train(
            {**self.settings, **objective},
            self._data(train),
            MOST_TREES,
            evals=[(self._data(validation), "validation")],
            early_stopping_rounds=PATIENCE,
            verbose_eval=False,
        )

    def _data(self, rows: Table, *, with_target: bool = True) -> Any:
        import xgboost

        types = ["float"] * rows.x_num.shape[1] + ["c"] * rows.x_cat.shape[1]
        label = rows.target_s if with_target else None
        return xgboost.DMatrix(rows.matrix(), label, feature_types=types, enable_categorical=True)


class CatBoost:
    """CatBoost's symmetric trees: `MAE`, and `MultiQuantile` for both tails at once."""

    def __init__(self, seed: int, **settings: Any) -> None:
        self.settings = {
            "random_seed": seed, "thread_count": n_threads(), "learning_rate": 0.1, "iterations": MOST_TREES,
            "early_stopping_rounds": PATIENCE, "verbose": False, "allow_writing_files": False, **settings,
        }  # fmt: skip
        self.tails: Any = None

    def fit(self, train: Table, validation: Table) -> "CatBoost":
        self.middle = self._grow(train, validation, "MAE")
        return self

    def fit_tails(self, train: Table, validation: Table) -> None:
        self.tails = self._grow(train, validation, f"MultiQuantile:alpha={TAILS[0]},{TAILS[1]}")

    def predict(self, rows: Table) -> NDArray[np.float64]:
        data = self._data(rows)
        middle: NDArray[np.float64] = self.middle.predict(data)
        return middle if self.tails is None else in_order(middle, *self.tails.predict(data).T)

    def _grow(self, train: Table, validation: Table, loss: str) -> Any:
        import catboost

        booster = catboost.CatBoost({**self.settings, "loss_function": loss})
        return booster.fit(self._data(train), eval_set=self._data(validation))

    def _data(self, rows: Table) -> Any:
        import catboost

        features = catboost.FeaturesData(
            num_feature_data=np.ascontiguousarray(rows.x_num),
            cat_feature_data=rows.x_cat.astype(str).astype(object).astype(np.bytes_).astype(object),
        )
        return catboost.Pool(features, rows.target_s)


def in_order(middle: NDArray[np.float64], low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.float64]:
    """(n, 3): trees of different quantiles may cross; the tails give way to the middle."""
    return np.stack([np.minimum(low, middle), middle, np.maximum(high, middle)], axis=1).astype(np.float64)
