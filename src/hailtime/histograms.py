"""What every column looked like in training, as counts on fixed edges: small enough to travel in the model.

The monitor compares live requests with these (PSI, Wasserstein, KS are formulas on two such counts).
"""

from typing import Any

import numpy as np
import polars as pl

from hailtime.schema import Schema

N_BINS = 20
MAX_CATEGORIES = 200


def reference_histograms(schema: Schema, train: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """By column: `edges` and `counts` for numbers (the first and last bin are open), `counts` by value for categories.

    `missing` and `rows` are counts. The target is among the columns.
    """
    names = (*schema.numeric_names, schema.target)
    return {name: _of_numbers(train[name]) for name in names} | {
        name: _of_categories(train[name]) for name in schema.categorical_names
    }


def _of_numbers(column: pl.Series) -> dict[str, Any]:
    values = column.drop_nulls().to_numpy()
    if len(values) == 0:
        return {"edges": [], "counts": [0], "missing": column.null_count(), "rows": len(column)}
    edges = np.unique(np.quantile(values, np.linspace(0, 1, N_BINS + 1)[1:-1]))
    # float32 as in the request: an edge between two float32 values would move rows from one bin to the next
    edges = np.unique(edges.astype(np.float32))
    counts = np.bincount(np.searchsorted(edges, values.astype(np.float32), side="right"), minlength=len(edges) + 1)
    return {
        "edges": [float(edge) for edge in edges],
        "counts": counts.tolist(),
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
