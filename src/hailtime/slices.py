"""Groups of rows by what a column holds: what errors are told by and intervals are calibrated by."""

from itertools import pairwise

import numpy as np
import polars as pl


def slice_labels(column: pl.Series, max_values: int = 12) -> pl.Series:
    """A column as labels to slice by: a category's most frequent values and 'other'; a number in bands (`band_cuts`).

    Missing values are a slice of their own.
    """
    if column.dtype == pl.String:
        frequent = column.drop_nulls().value_counts(sort=True)[column.name].head(max_values).to_list()
        labels = pl.when(pl.col("x").is_in(frequent)).then(pl.col("x")).otherwise(pl.lit("other"))
    else:
        cuts = band_cuts(column)
        names = [f"≤ {cuts[0]:.4g}", *(f"{a:.4g} – {b:.4g}" for a, b in pairwise(cuts))]
        names.append(f"> {cuts[-1]:.4g}")
        place = pl.sum_horizontal([pl.col("x") > cut for cut in cuts])
        labels = place.replace_strict(dict(enumerate(names)), return_dtype=pl.String)
    filled = pl.when(pl.col("x").is_null()).then(pl.lit("missing")).otherwise(labels)
    return pl.DataFrame({"x": column}).select(filled.alias(column.name)).to_series()


def band_cuts(column: pl.Series) -> list[float]:
    """Where the bands of a number end: at its lowest value, where a fifth of the rows or more are (no rain), and the
    median of the rest; otherwise at its thirds."""
    values = column.drop_nulls().to_numpy()
    if len(values) == 0:
        return [0.0]
    lowest = values.min()
    above = values[values > lowest]
    if len(above) and (values == lowest).mean() >= 0.2:
        return sorted({float(lowest), float(np.median(above))})
    return sorted({float(cut) for cut in np.quantile(values, [1 / 3, 2 / 3])})
