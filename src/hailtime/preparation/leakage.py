"""Whether an input knows what nobody knew at the request: every column alone against the target.

    leakage = find_leaks(sample_rows(train.lazy(), schema), schema, read_leakage(settings, schema))
    check_leakage(leakage)

Past the harder of two limits a column stops the preparation, unless the yaml says `leakage: {allow: [column]}`; past
the softer one it is named in the report. Measured on the simulated city, nyc_ems (100,000 trips each) and nyc_hvfhv
(5,416): columns known at the request reach a rank correlation of 0.79 and explain 43 % (a routing engine's estimate),
are at no shift sharper than 0.05, and know less of later pickups than the world does. The target with 5 % noise reaches
0.994, that of a later trip 0.8 to 0.98, a zone's mean of the hour 0.10 more than the world knows.

What this cannot see: a category made from the outcome that does not say much of it (a flag "late"), and a mean over so
many later pickups that their chance is gone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from hailtime.errors import ConfigError, DataError, did_you_mean
from hailtime.preparation.ahead import ahead
from hailtime.preparation.leakage_scores import Floats, Ints, Outcomes, bins_of, codes_of, ranks
from hailtime.schema import MICROSECONDS_PER_SECOND, Schema

N_STRETCHES, STRETCH_ROWS = 4, 25_000  # rows next to each other, because later trips are looked at
LEAST_ROWS = 500  # fewer say nothing: a correlation by chance reaches 0.2
_RANK, _EXPLAINED = (0.90, 0.95), (0.70, 0.85)  # soft and hard limits
_SHIFT, _LATER = (0.20, 0.50), (0.03, 0.08)
_BY_CHANCE, _LESS = 0.01, 50  # a share by chance of at least 1 %, and 50 times less in truth
_UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_EPOCH_UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6}  # of a time since 1970, 2001 to 2128
_EPOCH_S = (1e9, 5e9)


@dataclass(frozen=True)
class Suspicion:
    """A column that knows too much: what it does, its score, and whether that is past the harder limit."""

    column: str
    test: str
    score: float
    is_certain: bool
    meaning: str
    is_allowed: bool = False


def read_leakage(settings: Mapping[str, Any], schema: Schema) -> tuple[str, ...]:
    """The columns that a source's settings allow to know much. ConfigError for a column that is no input."""
    leakage = settings.get("leakage") or {}
    for key in leakage:
        if key != "allow":
            raise ConfigError(f"leakage has no setting {key!r}: it knows allow, a list of columns")
    allowed = leakage.get("allow") or []
    inputs = (*schema.numeric_names, *schema.categorical_names)
    if isinstance(allowed, str) or not isinstance(allowed, list | tuple):
        raise ConfigError(f"leakage.allow must be a list of columns such as [routing_eta_s], got {allowed!r}")
    for name in allowed:
        if name not in inputs:
            raise ConfigError(f"leakage.allow: there is no input {name!r}{did_you_mean(str(name), inputs)}")
    return tuple(allowed)


def sample_rows(rows: pl.LazyFrame) -> pl.DataFrame:
    """All rows of a small part, else four stretches of 25,000 rows evenly over it; rows come sorted by time."""
    n_rows = int(rows.select(pl.len()).collect().item())
    if n_rows <= N_STRETCHES * STRETCH_ROWS:
        return rows.collect()
    starts = [i * (n_rows - STRETCH_ROWS) // (N_STRETCHES - 1) for i in range(N_STRETCHES)]
    return pl.concat([rows.slice(start, STRETCH_ROWS).collect() for start in starts])


def find_leaks(rows: pl.DataFrame, schema: Schema, allowed: tuple[str, ...] = ()) -> dict[str, Any]:
    """What each input knows, and the suspicions: plain data for report.json.

    - rows: a sample of the training part, sorted by time
    """
    columns: dict[str, dict[str, float]] = {}
    suspicions: list[Suspicion] = []
    if rows.height >= LEAST_ROWS:
        outcomes = _outcomes(rows, schema)
        names = (*schema.numeric_names, *schema.categorical_names)
        judged = ahead(lambda name: _judge(rows[name], outcomes, schema.target), names)
        for name, (known, found) in zip(names, judged, strict=True):
            columns[name] = known
            suspicions += [replace(one, is_allowed=name in allowed) for one in found]
    return {"rows": rows.height, "columns": columns, "suspicions": [asdict(one) for one in suspicions]}


def check_leakage(leakage: Mapping[str, Any]) -> None:
    """DataError naming every column that is past a hard limit and not allowed."""
    certain = [one for one in leakage["suspicions"] if one["is_certain"] and not one["is_allowed"]]
    if certain:
        names = ", ".join(dict.fromkeys(one["column"] for one in certain))
        told = "; ".join(one["meaning"] for one in certain)
        raise DataError(
            f"an input may know only what was known at the request, and these know more: {told}. Take it out of the "
            f"schema's columns, or, if it is known then, let it stay with leakage: {{allow: [{names}]}} in the yaml"
        )


def _judge(column: pl.Series, outcomes: Outcomes, target: str) -> tuple[dict[str, float], list[Suspicion]]:
    """What a column tells of the target, and the suspicions against it."""
    if column.dtype.is_numeric():
        values: Floats = column.to_numpy()
        rank = ranks(values)
        _, explained = outcomes.told(bins_of(rank))
    else:
        values, explained = outcomes.told(codes_of(column))  # a category stands for its median in the other fold
        rank = ranks(values)
    known = {"explained": round(explained, 4), "rank_correlation": round(outcomes.rank_correlation(rank), 4)}
    name = column.name
    found = chain(
        _tells(name, target, known),
        _ends_later(name, target, values, outcomes),
        *(_equals_later(name, target, rank, outcomes, group) for group in outcomes.groups),
        *(_knows_later(name, rank, outcomes, group) for group in outcomes.groups),
    )
    return known, list(found)


def _tells(name: str, target: str, known: Mapping[str, float]) -> Iterator[Suspicion]:
    rank, explained = known["rank_correlation"], known["explained"]
    if rank >= _RANK[0] or explained >= _EXPLAINED[0]:
        told = f"rank correlation {rank:.3f}, {explained:.0%} of the deviation explained by it alone"
        meaning = f"{name} tells {target}: {told}"
        yield Suspicion(name, "tells", max(rank, explained), rank >= _RANK[1] or explained >= _EXPLAINED[1], meaning)


def _ends_later(name: str, target: str, x: Floats, outcomes: Outcomes) -> Iterator[Suspicion]:
    """As a time span in some unit, or as a time."""
    spans = {f"as {unit}": x * seconds for unit, seconds in _UNITS_S.items()}
    middle = float(np.nanmedian(x)) if np.isfinite(x).any() else 0.0
    for unit, seconds in _EPOCH_UNITS_S.items():
        if _EPOCH_S[0] < middle * seconds < _EPOCH_S[1]:
            spans = {f"as a time in {unit}": x * seconds - outcomes.requested_s}
    for form, span_s in spans.items():
        passing = outcomes.passing(span_s)
        by_chance = outcomes.passing_by_chance(span_s) if passing * _LESS <= 1 else 0.0
        if by_chance >= _BY_CHANCE and passing * _LESS <= by_chance:
            meaning = (
                f"{name}, read {form}, ends after the pickup: {target} is above it in {passing:.2%} of the trips, "
                f"by chance in {by_chance:.1%}"
            )
            yield Suspicion(name, "ends_later", by_chance - passing, True, meaning)
            return


def _equals_later(name: str, target: str, rank: Floats, outcomes: Outcomes, group: str) -> Iterator[Suspicion]:
    sharpness, shift = outcomes.best_shift(rank, group)
    if sharpness >= _SHIFT[0] + _by_luck(outcomes):
        where = f"the trip {shift} later in the {group}"
        meaning = f"{name} is {target} of {where} (correlation {sharpness:.2f} above that around it)"
        yield Suspicion(name, "equals_later", sharpness, sharpness >= _SHIFT[1], meaning)


def _knows_later(name: str, rank: Floats, outcomes: Outcomes, group: str) -> Iterator[Suspicion]:
    knows, world = outcomes.knows_later(rank, group)
    if knows - world >= _LATER[0]:
        meaning = (
            f"{name} knows later pickups in the {group}: it goes with them by {knows:.2f}, and they with each other "
            f"only so that {world:.2f} is possible"
        )
        yield Suspicion(name, "knows_later", knows - world, knows - world >= _LATER[1], meaning)


def _by_luck(outcomes: Outcomes) -> float:
    """What a correlation of that many rows may be off: four standard errors."""
    return float(4 / np.sqrt(len(outcomes.rank)))


def _outcomes(rows: pl.DataFrame, schema: Schema) -> Outcomes:
    stretch: Ints = np.arange(rows.height) // STRETCH_ROWS
    groups = {"city": stretch}
    if schema.zone is not None:
        zone = codes_of(rows[schema.zone])
        groups["zone"] = stretch * (int(zone.max()) + 1) + zone
    requested_s = rows[schema.requested_at].to_numpy() / MICROSECONDS_PER_SECOND
    return Outcomes(requested_s, rows[schema.target].to_numpy(), groups)
