"""What every column looked like in training, as counts on fixed edges: small enough to travel in the model.

The monitor compares live requests with these (PSI, Wasserstein, KS are formulas on two such counts).
"""

from typing import Any

import numpy as np
import polars as pl

from hailtime.schema import Schema

N_BINS = 20
MAX_CATEGORIES = 200
_NOWHERE: dict[str, Any] = {"means": [0.0], "spread": 0.0}


def reference_histograms(schema: Schema, train: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """By column: `edges` and `counts` for numbers (the first and last bin are open), `counts` by value for categories.

    `missing` and `rows` are counts; `means` of the bins say where within it the values were, `spread` is the standard
    deviation. The target is among the columns.
    """
    names = (*schema.numeric_names, schema.target)
    return {name: _of_numbers(train[name]) for name in names} | {
        name: _of_categories(train[name]) for name in schema.categorical_names
    }


def _of_numbers(column: pl.Series) -> dict[str, Any]:
    values = column.drop_nulls().to_numpy()
    if len(values) == 0:
        return {"edges": [], "counts": [0], "missing": column.null_count(), "rows": len(column), **_NOWHERE}
    edges = np.unique(np.quantile(values, np.linspace(0, 1, N_BINS + 1)[1:-1]))
    # float32 as in the request: an edge between two float32 values would move rows from one bin to the next
    edges = np.unique(edges.astype(np.float32))
    place = np.searchsorted(edges, values.astype(np.float32), side="right")
    counts = np.bincount(place, minlength=len(edges) + 1)
    # a bin without a value, as between equal edges: where the value before it was
    means = np.bincount(place, weights=values, minlength=len(edges) + 1) / np.maximum(counts, 1)
    means[counts == 0] = np.concatenate([edges[:1], edges])[counts == 0]
    return {
        "edges": [float(edge) for edge in edges],
        "counts": counts.tolist(),
        "means": means.tolist(),
        "spread": float(values.std()),
        "missing": column.null_count(),
        "rows": len(column),
    }


def _of_categories(column: pl.Series) -> dict[str, Any]:
    counts = column.drop_nulls().value_counts(sort=True)
    top = counts.head(MAX_CATEGORIES)
    return {
        "counts": dict(zip(top[column.name].to_list(), top["count"].to_list(), strict=True)),
        "other": int(counts["count"].slice(MAX_CATEGORIES).sum()),
        "missing": column.null_count(),
        "rows": len(column),
    }
