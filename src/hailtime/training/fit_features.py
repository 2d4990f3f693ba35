"""What the training part decides before any network: vocabulary, bin edges, scales. Leaves a `FeatureSpec`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.errors import SchemaError
from hailtime.schema import Schema
from hailtime.training.features import FeatureSpec, numeric_feature_names, row_features


def fit_features(
    schema: Schema, train: pl.DataFrame, *, n_bins: int = 48, min_count: int = 10, n_cells: int = 2048
) -> FeatureSpec:
    """Vocabulary, bin edges and target scale of a training part.

    `min_count`: a category seen less often is unknown, so that the unknown code is trained too. `n_bins`: at most so
    many bins a feature, at its quantiles, rounded to a grid of `n_cells` cells so that a bin is found by one lookup.
    """
    _check_has_both(schema)
    vocabulary = {name: _frequent_values(train[name], min_count) for name in schema.categorical_names}
    target_s = train[schema.target].to_numpy()
    base_s, fallback_s = np.zeros_like(target_s), 0.0
    if schema.routing_estimate:
        estimate = train[schema.routing_estimate]
        fallback_s = float(estimate.median() or 0.0)  # type: ignore[arg-type]
        base_s = estimate.fill_null(fallback_s).to_numpy()
    residual_s = target_s - base_s
    center_s = float(np.median(residual_s))
    empty = FeatureSpec(
        schema_fingerprint=schema.fingerprint,
        numeric_edges={},
        vocabulary=vocabulary,
        target_center_s=center_s,
        target_scale_s=max(float(np.abs(residual_s - center_s).mean()), 1.0),
        estimate_fallback_s=fallback_s,
        journey=list(schema.journey or ()),
    )
    x_num, _ = row_features(schema, empty, train)
    columns = dict(zip(numeric_feature_names(schema), x_num.numpy().T, strict=True))
    edges = {name: bin_edges(values, n_bins, n_cells) for name, values in columns.items()}
    return replace(
        empty,
        numeric_edges=edges,
        numeric_moments={name: moments(values, edges[name]) for name, values in columns.items()},
        numeric_places={name: places(values, edges[name]) for name, values in columns.items()},
    )


def _check_has_both(schema: Schema) -> None:
    """Triton takes no tensor of width 0, and would refuse the model after all the training."""
    for role, inputs in (("numeric", schema.numeric), ("categorical", schema.categorical)):
        if not inputs:
            raise SchemaError(
                f"a model needs at least one {role} column, {schema.source} has none: declare one, for instance a "
                "condition such as the rain or a zone; a constant will do"
            )


def bin_edges(values: NDArray[np.float32], n_bins: int, n_cells: int) -> list[float]:
    """Increasing edges at the quantiles of the finite values, each on a uniform grid of cells from first to last.

    The grid spans the 0.01 to 99.99 % quantiles: values beyond are encoded as its ends. A constant column gets one bin.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if len(finite) == 0:
        return [0.0, 1.0]
    low, high = np.quantile(finite, [0.0001, 0.9999])
    if high - low < 1e-6:
        return [float(low), float(low) + 1.0]
    inner = np.unique(np.quantile(finite, np.linspace(0, 1, n_bins + 1)[1:-1]))
    cells = np.unique(np.round((inner - low) / (high - low) * n_cells).astype(int))
    cells = cells[(cells > 0) & (cells < n_cells)]
    return [float(low + (high - low) * cell / n_cells) for cell in (0, *cells, n_cells)]


def moments(values: NDArray[np.float32], edges: Sequence[float]) -> list[float]:
    """Mean and standard deviation of the finite values, those beyond the edges counted as the edges."""
    finite = np.clip(values[np.isfinite(values)].astype(np.float64), edges[0], edges[-1])
    if len(finite) == 0 or finite.std() < 1e-6:
        return [float(edges[0]), 1.0]
    return [float(finite.mean()), float(finite.std())]


def places(values: NDArray[np.float32], edges: Sequence[float]) -> list[float]:
    """The share of the finite values below each edge; a value on the edge counts half. Evenly spaced without values."""
    ordered = np.sort(values[np.isfinite(values)].astype(np.float64))
    if len(ordered) == 0:
        return [float(share) for share in np.linspace(0, 1, len(edges))]
    below, upto = (np.searchsorted(ordered, edges, side=side) for side in ("left", "right"))
    return [float(share) for share in (below + upto) / (2 * len(ordered))]


def _frequent_values(column: pl.Series, min_count: int) -> list[str]:
    counts = column.fill_null("").value_counts()
    return sorted(counts.filter(pl.col("count") >= min_count)[column.name].to_list())
