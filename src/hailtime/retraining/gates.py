"""What a challenger must pass before anybody hears of it: each gate a `GateResult`, with its reason when it refuses.

Size, schema, parity, latency and the error on its own test part are judged by the deployment itself (serving/gates.py).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.errors import ConfigError
from hailtime.retraining.settings import GateSettings
from hailtime.schema import Schema
from hailtime.serving.gates import GateResult

Array = NDArray[np.float32]


def error_gates(judged: Mapping[str, Any], settings: GateSettings) -> Iterator[GateResult]:
    """By what `judge` found: better, nowhere much worse, and its intervals hold."""
    yield _better(judged["overall"], settings)
    yield _no_slice_worse(judged["slices"], settings)
    low, high = settings.coverage
    share = judged["coverage"]["challenger"]
    text = f"P10 to P90 holds {share:.1%} of the pickups, allowed are {low:.0%} to {high:.0%}"
    yield GateResult("coverage", low <= share <= high, share, high if share > high else low, text)


def _better(overall: Mapping[str, float], settings: GateSettings) -> GateResult:
    limit_s = -settings.margin * overall["champion_mae_s"]
    difference_s, high_s = overall["difference_s"], overall["high_s"]
    text = (
        f"its mean error is {overall['challenger_mae_s']:.2f} s, the live model's {overall['champion_mae_s']:.2f} s on "
        f"the same {overall['rows']:,.0f} latest rows: {difference_s:+.2f} s "
        f"({overall['low_s']:+.2f} to {high_s:+.2f}); needed are {limit_s:+.2f} s or less, surely below 0"
    )
    return GateResult("better", difference_s <= limit_s and high_s < 0, difference_s, limit_s, text)


def _no_slice_worse(slices: Mapping[str, Mapping[str, float]], settings: GateSettings) -> GateResult:
    """The share by which a slice is surely worse: the interval's lower end over the live model's error there."""
    sure = {name: one["low_s"] / one["champion_mae_s"] for name, one in slices.items()}
    if not sure:
        text = f"no slice has {settings.slice_rows} rows, so none was judged"
        return GateResult("slices", True, None, settings.slice_worse, text)
    worst = max(sure, key=lambda name: sure[name])
    one = slices[worst]
    text = (
        f"of {len(sure)} slices {worst} fares worst: {one['challenger_mae_s']:.1f} s against "
        f"{one['champion_mae_s']:.1f} s on {one['rows']:,.0f} rows ({one['low_s']:+.1f} to {one['high_s']:+.1f} s); "
        f"surely worse by {settings.slice_worse:.0%} would be too much"
    )
    return GateResult("slices", sure[worst] <= settings.slice_worse, sure[worst], settings.slice_worse, text)


def data_gates(
    report: Mapping[str, Any], histograms: Mapping[str, Mapping[str, Any]], settings: GateSettings
) -> Iterator[GateResult]:
    """By the report of the preparation, against what the live model's training part looked like."""
    kept = report["clean"]["rows_out"] / report["clean"]["rows_in"]
    text = f"{kept:.2%} of {report['clean']['rows_in']:,} rows pass cleaning, {settings.kept:.0%} are needed"
    yield GateResult("kept", kept >= settings.kept, kept, settings.kept, text)
    points = {
        name: max(told["train"], told["test"]) - histograms[name]["missing"] / max(1, histograms[name]["rows"])
        for name, told in report["profile"]["missing"].items()
        if name in histograms
    }
    worst = max(points, key=lambda name: points[name])
    text = (
        f"{worst} is missing in {points[worst]:+.1%} more rows than in the live model's training, "
        f"allowed are {settings.missing_points:.0%}: is its feed broken? Mend that first"
    )
    yield GateResult("missing", points[worst] <= settings.missing_points, points[worst], settings.missing_points, text)


def sanity_gate(ask: Any, schema: Schema, rows: pl.DataFrame, settings: GateSettings) -> GateResult:
    """Requests whose answers must make sense, by a function from a frame to (n, 3) seconds.

    Plausible seconds in order for the latest rows, for rows at every limit and for rows that know nothing; and longer
    where the settings say that it must be.
    """
    wrong = [*_implausible(ask, schema, rows), *_not_longer(ask, schema, rows, settings.sanity)]
    text = "; ".join(wrong) or f"plausible at every limit; changes that must make it longer do ({len(settings.sanity)})"
    return GateResult("sanity", not wrong, float(len(wrong)), 0.0, text)


def _implausible(ask: Any, schema: Schema, rows: pl.DataFrame) -> Iterator[str]:
    longest_s = schema.column(schema.target).maximum or np.inf
    few = rows.head(256)
    sets = {"the latest rows": rows, "rows that know nothing": _nothing_known(few, schema)}
    for column in schema.numeric:
        for limit in (column.minimum, column.maximum):
            if limit is not None:
                sets[f"{column.name} {limit:g}"] = few.with_columns(pl.lit(limit).alias(column.name))
    for name, one in sets.items():
        said = ask(one)
        is_good = np.isfinite(said).all() and (said >= 0).all() and (np.diff(said, axis=1) >= 0).all()
        if not is_good or (said[:, 1] > longest_s).any():
            found = f"{said.min():.0f} to {said.max():.0f}"
            yield f"{name}: answers must be P10 ≤ P50 ≤ P90 from 0 to {longest_s:g} s, they are {found}"


def _not_longer(ask: Any, schema: Schema, rows: pl.DataFrame, sanity: list[dict[str, Any]]) -> Iterator[str]:
    before = ask(rows)[:, 1]
    for one in sanity:
        if one["column"] == "journey" and schema.journey is None:
            continue  # a schema without places
        changed, is_within = _changed(rows, schema, one)
        if not is_within.any():
            continue
        share = float((ask(changed)[:, 1] >= before)[is_within].mean())
        if share < one.get("share", 0.9):
            yield f"{one}: only {share:.0%} of the rows take longer"


def _changed(rows: pl.DataFrame, schema: Schema, one: Mapping[str, Any]) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """The rows so changed, and which of them still hold values within their limits."""
    if one["column"] == "journey":
        assert schema.journey is not None
        from_lat, from_lon, to_lat, to_lon = schema.journey
        moved = {
            a: pl.col(b) + (pl.col(a) - pl.col(b)) * one["times"] for a, b in ((from_lat, to_lat), (from_lon, to_lon))
        }
    elif one["column"] in schema.numeric_names:
        moved = {one["column"]: pl.col(one["column"]) + one["add"]}
    else:
        raise ConfigError(f"gates.sanity names journey or a numeric column, got {one['column']!r}")
    changed = rows.with_columns(**moved)
    limits = [(changed[name], schema.column(name)) for name in moved]
    within = [
        values.is_between(-np.inf if c.minimum is None else c.minimum, np.inf if c.maximum is None else c.maximum)
        for values, c in limits
    ]
    return changed, np.logical_and.reduce([mask.fill_null(False).to_numpy() for mask in within])


def _nothing_known(rows: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    nothing = [pl.lit(None, pl.Float64).alias(name) for name in schema.numeric_names]
    return rows.with_columns(*nothing, *(pl.lit(None, pl.String).alias(name) for name in schema.categorical_names))
