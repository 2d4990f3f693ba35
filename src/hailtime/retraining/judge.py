"""Champion and challenger on the same rows: the difference of their errors, with the interval that the rows allow.

Errors of neighbours in time are alike, so the bootstrap draws blocks of time and not rows: hours, or shorter blocks
where the rows span less than a day, 24 of them at least.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.monitoring.watch import usual_slices
from hailtime.schema import MICROSECONDS_PER_SECOND, Schema

HOUR_S, LEAST_BLOCKS, N_DRAWS = 3600, 24, 1000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Mean absolute errors of both on the same rows, and challenger minus champion with its interval; seconds."""

    rows: int
    blocks: int
    champion_mae_s: float
    challenger_mae_s: float
    difference_s: float
    low_s: float
    high_s: float

    def to_dict(self) -> dict[str, Any]:
        return {name: round(value, 4) for name, value in asdict(self).items()}

    @property
    def text(self) -> str:
        return (
            f"{self.challenger_mae_s:.2f} s against {self.champion_mae_s:.2f} s on {self.rows:,} rows, difference "
            f"{self.difference_s:+.2f} s ({self.low_s:+.2f} to {self.high_s:+.2f})"
        )


def compare(champion_s: Array, challenger_s: Array, at_s: Array, confidence: float = 0.95) -> Difference:
    """Absolute errors of both, (n,), of rows asked at these UTC seconds."""
    everything = {"": np.ones(len(at_s), bool)}
    return compare_each(champion_s, challenger_s, at_s, everything, confidence)[""]


def compare_each(
    champion_s: Array, challenger_s: Array, at_s: Array, slices: Mapping[str, NDArray[np.bool_]], confidence: float
) -> dict[str, Difference]:
    """The same for several sets of the rows. `confidence` is that of each interval."""
    place, n_blocks = _blocks(at_s)
    draws = np.random.default_rng(7).multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), N_DRAWS).astype(np.float64)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    gap = challenger_s - champion_s
    found = {}
    for name, mask in slices.items():
        sums = np.bincount(place[mask], gap[mask], n_blocks)
        counts = np.bincount(place[mask], minlength=n_blocks).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = float(np.nanstd((draws @ sums) / (draws @ counts)))
        mean = float(gap[mask].mean())
        maes = float(champion_s[mask].mean()), float(challenger_s[mask].mean())
        found[name] = Difference(int(mask.sum()), n_blocks, *maes, mean, mean - z * spread, mean + z * spread)
    return found


def slice_masks(rows: pl.DataFrame, schema: Schema, least: int) -> dict[str, NDArray[np.bool_]]:
    """Zone, weather and hour of the city's clock as `name=value`, those of `least` rows or more."""
    local = pl.from_epoch(pl.col(schema.requested_at), time_unit="us").dt.replace_time_zone("UTC")
    hour = local.dt.convert_time_zone(schema.timezone).dt.hour().cast(pl.String)
    masks = {}
    for name, label in {**usual_slices(schema), "hour": hour}.items():
        labels = rows.select(label.alias("x"))["x"]
        for value, n in labels.drop_nulls().value_counts().iter_rows():
            if n >= least:
                masks[f"{name}={value}"] = (labels == value).fill_null(False).to_numpy()
    return dict(sorted(masks.items()))


def judge(
    rows: pl.DataFrame,
    schema: Schema,
    champion_s: NDArray[np.float32],
    challenger_s: NDArray[np.float32],
    confidence: float,
    slice_rows: int,
) -> dict[str, Any]:
    """All that the gates and the report need, as plain data. Answers are (n, 3) seconds.

    The slices' intervals hold together with the confidence asked for, so each is wider (Bonferroni).
    """
    actual_s = rows[schema.target].to_numpy()
    at_s = rows[schema.requested_at].to_numpy() / MICROSECONDS_PER_SECOND
    errors = [np.abs(said[:, 1].astype(np.float64) - actual_s) for said in (champion_s, challenger_s)]
    masks = slice_masks(rows, schema, slice_rows)
    each = 1 - (1 - confidence) / max(1, len(masks))
    slices = compare_each(errors[0], errors[1], at_s, masks, each)
    return {
        "overall": compare(errors[0], errors[1], at_s, confidence).to_dict(),
        "slices": {name: difference.to_dict() for name, difference in slices.items()},
        "coverage": {
            "champion": _coverage(champion_s, actual_s),
            "challenger": _coverage(challenger_s, actual_s),
        },
        "hours": _by_hour(errors[0], errors[1], at_s),
        "from_s": float(at_s.min()),
        "to_s": float(at_s.max()),
    }


def _blocks(at_s: Array) -> tuple[NDArray[np.int64], int]:
    """Which block each row is in, and how many there are; empty ones do not count."""
    length_s = min(HOUR_S, max((at_s.max() - at_s.min()) / LEAST_BLOCKS, 1.0))
    _, place = np.unique((at_s // length_s).astype(np.int64), return_inverse=True)
    return place, int(place.max()) + 1


def _coverage(said_s: NDArray[np.float32], actual_s: Array) -> float:
    return round(float(((actual_s >= said_s[:, 0]) & (actual_s <= said_s[:, 2])).mean()), 4)


def _by_hour(champion_s: Array, challenger_s: Array, at_s: Array) -> list[dict[str, float]]:
    """For the picture: both errors of each hour with half the width of their 95 % bands."""
    frame = pl.DataFrame({"hour_s": at_s // HOUR_S * HOUR_S, "champion": champion_s, "challenger": challenger_s})
    told = [pl.len().alias("n")]
    for name in ("champion", "challenger"):
        told += [pl.col(name).mean().alias(f"{name}_mae_s")]
        told += [(1.96 * pl.col(name).std() / pl.len().sqrt()).fill_null(0.0).alias(f"{name}_band_s")]
    return frame.group_by("hour_s").agg(*told).sort("hour_s").to_dicts()
