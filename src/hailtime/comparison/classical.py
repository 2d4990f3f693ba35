"""Learners from scikit-learn, each fitted on the training rows: constants, lines, trees, kernels, counts.

`fit(train, validation)` and `predict(rows)` as every `Baseline`; a prediction is (n,) or, where the learner gives a
distribution of its own, (n, 3): P10, P50, P90.
"""

import os
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import CategoricalNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVR
from sklearn.tree import DecisionTreeRegressor

from hailtime.baselines import Table
from hailtime.cores import usable_cores
from hailtime.schema import QUANTILES


class ZoneMedian:
    """The median of the pickup's zone; of all rows where the source names no zone."""

    def __init__(self, zone: str | None) -> None:
        self.zone = zone

    def fit(self, train: Table, validation: Table) -> "ZoneMedian":
        zones, self.of_all = self._zones(train), float(np.median(train.target_s))
        self.by_zone = {int(zone): float(np.median(train.target_s[zones == zone])) for zone in np.unique(zones)}
        return self

    def predict(self, rows: Table) -> NDArray[np.float64]:
        return np.array([self.by_zone.get(int(zone), self.of_all) for zone in self._zones(rows)])

    def _zones(self, rows: Table) -> NDArray[Any]:
        return rows.column(self.zone) if self.zone else np.zeros(len(rows.target_s), np.int64)


class Regressor:
    """A scikit-learn regressor behind what it needs to read numbers with gaps and codes.

    `log_target`: learn log(1 + seconds). Squared errors aim at the mean; on the logarithm they come nearer the median,
    by which everybody is judged.
    """

    def __init__(self, model: Any, *, one_hot: bool, log_target: bool = False) -> None:
        self.model, self.one_hot, self.log_target = model, one_hot, log_target

    def fit(self, train: Table, validation: Table) -> "Regressor":
        n_numeric = train.x_num.shape[1]
        steps = make_pipeline(_lines(n_numeric) if self.one_hot else SimpleImputer(strategy="median"), self.model)
        logarithm = FunctionTransformer(np.log1p, np.expm1)
        self.fitted = TransformedTargetRegressor(steps, transformer=logarithm if self.log_target else StandardScaler())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the support vectors' steps are limited on purpose
            self.fitted.fit(train.matrix(), train.target_s)
        return self

    def predict(self, rows: Table) -> NDArray[np.float64]:
        return np.asarray(self.fitted.predict(rows.matrix()), np.float64).reshape(-1).clip(0, 86_400)


def ridge(seed: int, *, log_target: bool = True, **settings: Any) -> Regressor:
    return Regressor(Ridge(solver="lsqr", **settings), one_hot=True, log_target=log_target)


def tree(seed: int, *, log_target: bool = True, **settings: Any) -> Regressor:
    return Regressor(DecisionTreeRegressor(random_state=seed, **settings), one_hot=False, log_target=log_target)


def forest(seed: int, *, log_target: bool = True, **settings: Any) -> Regressor:
    # each tree sees 0.3 of the rows: a third of the time, and less alike are the trees
    model = RandomForestRegressor(100, max_samples=0.3, random_state=seed, n_jobs=n_threads(), **settings)
    return Regressor(model, one_hot=False, log_target=log_target)


def svm(seed: int, *, gamma: float = 5e-3, C: float = 3e-3, n_components: int = 256) -> Regressor:
    """Linear support vectors on Nyström's approximation of a Gaussian kernel; its loss is the absolute error."""
    kernel = Nystroem(gamma=gamma, n_components=n_components, random_state=seed)
    # 50 passes: enough for C up to 0.03; above it does not settle and errs as much as a line (measured)
    lines = LinearSVR(C=C, epsilon=0.0, max_iter=50, random_state=seed)
    return Regressor(make_pipeline(kernel, StandardScaler(), lines), one_hot=True)


class NaiveBayes:
    """Counts of the target's bins given each feature's bin alone, multiplied; quantiles of what comes out.

    Numbers are cut at their quantiles, a missing one is a bin of its own; the target is cut at its quantiles too.
    """

    def __init__(self, seed: int, *, n_bins: int = 16, n_target_bins: int = 32, alpha: float = 1.0) -> None:
        self.n_bins, self.n_target_bins, self.alpha = n_bins, n_target_bins, alpha

    def fit(self, train: Table, validation: Table) -> "NaiveBayes":
        inner = np.linspace(0, 1, self.n_bins + 1)[1:-1]
        self.cuts = [np.unique(np.quantile(x[np.isfinite(x)], inner)) for x in train.x_num.T]
        self.edges = np.unique(np.quantile(train.target_s, np.linspace(0, 1, self.n_target_bins + 1)))
        place = np.searchsorted(self.edges[1:-1], train.target_s, side="right")
        self.highest = np.full(train.x_num.shape[1] + train.x_cat.shape[1], np.iinfo(np.int64).max)
        codes = self._codes(train)
        self.highest = codes.max(axis=0)
        self.counts = CategoricalNB(alpha=self.alpha).fit(codes, place)
        return self

    def predict(self, rows: Table) -> NDArray[np.float64]:
        upto = np.concatenate([np.zeros((len(rows.target_s), 1)), self.counts.predict_proba(self._codes(rows))], axis=1)
        cumulated = upto.cumsum(axis=1)
        edges = self.edges[[0, *(self.counts.classes_ + 1)]]
        return np.array([np.interp(QUANTILES, row, edges) for row in cumulated])

    def _codes(self, rows: Table) -> NDArray[np.int64]:
        bins = [
            np.where(np.isnan(x), 0, np.searchsorted(cuts, x, side="right") + 1)
            for x, cuts in zip(rows.x_num.T, self.cuts, strict=True)
        ]
        codes: NDArray[np.int64] = np.minimum(np.column_stack([*bins, rows.x_cat]), self.highest)
        return codes


def n_threads() -> int:
    """As many as there are cores for us, or OMP_NUM_THREADS, which the others read by themselves."""
    return int(os.environ.get("OMP_NUM_THREADS") or usable_cores())


def _lines(n_numeric: int) -> ColumnTransformer:
    """Numbers filled and scaled with a column that says what was missing, categories as one column each."""
    numbers: Pipeline = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()
    )
    categories = OneHotEncoder(handle_unknown="ignore", min_frequency=10)
    return ColumnTransformer(
        [("numbers", numbers, slice(0, n_numeric)), ("categories", categories, slice(n_numeric, None))]
    )
