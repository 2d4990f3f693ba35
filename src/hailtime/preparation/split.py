"""Where one part of the data ends and the next begins: in time, by integer arithmetic, with a gap before each border.

A boundary is a share of the rows in time order (0.7: the row after the first 70 %) or a local date (2015-07-01: its
midnight in the city's zone). Rows asked less than `gap_s` before a boundary belong to no part: their drivers had not
all arrived when the next part began, so nobody could have trained on them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from hailtime.errors import ConfigError, DataError, did_you_mean
from hailtime.schema import MICROSECONDS_PER_SECOND, Schema

PARTS = ("train", "validation", "calibration", "test")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Split:
    """The first microsecond of validation, calibration and test, and what is left free before each."""

    boundaries_us: tuple[int, int, int]
    gap_us: int

    def masks(self, requested_at: pl.Expr) -> dict[str, pl.Expr]:
        """Which rows each part holds."""
        starts = [None, *self.boundaries_us]
        ends = [*(boundary - self.gap_us for boundary in self.boundaries_us), None]
        masks = {}
        for part, start, end in zip(PARTS, starts, ends, strict=True):
            since = pl.lit(True) if start is None else requested_at >= start
            masks[part] = since if end is None else since & (requested_at < end)
        return masks


@dataclass(frozen=True)
class SplitPlan:
    """What the settings say: each boundary a share of the rows or a time in microseconds."""

    boundaries: tuple[Fraction | int, ...]
    gap_us: int

    def of(self, n_rows: int, time_at: Callable[[int], int]) -> Split:
        """The split of `n_rows` rows, `time_at` giving a row's time by its number in time order.

        ConfigError when a part would begin before the one it follows.
        """
        first, second, third = (
            time_at(int(boundary * n_rows)) if isinstance(boundary, Fraction) else boundary
            for boundary in self.boundaries
        )
        if not first < second < third:
            shown = ", ".join(utc_text(boundary) for boundary in (first, second, third))
            raise ConfigError(f"split.validation, calibration and test must begin one after another, got {shown}")
        return Split((first, second, third), self.gap_us)


def read_split(settings: Mapping[str, Any], schema: Schema) -> SplitPlan:
    """The settings checked before any data is there. ConfigError names the one that cannot work."""
    known = (*PARTS[1:], "gap_s")
    for name in settings:
        if name not in known:
            raise ConfigError(f"split has no setting {name!r}{did_you_mean(name, known)}")
    for name in known:
        if settings.get(name) is None:
            raise ConfigError(f"split needs the setting {name!r}; it knows {', '.join(known)}")
    gap_s = settings["gap_s"]
    if not isinstance(gap_s, int) or isinstance(gap_s, bool) or gap_s < 0:
        raise ConfigError(f"split.gap_s must be whole seconds from 0, got {gap_s!r}")
    boundaries = tuple(_read_boundary(name, settings[name], schema) for name in PARTS[1:])
    return SplitPlan(boundaries, gap_s * MICROSECONDS_PER_SECOND)


def check_parts(rows: Mapping[str, int], split: Split, clean: int, first_us: int, last_us: int) -> None:
    """DataError saying which part got no rows and how to set the split."""
    for name, n_rows in rows.items():
        if n_rows == 0:
            begins = ", ".join(f"{n} {utc_text(us)}" for n, us in zip(PARTS[1:], split.boundaries_us, strict=True))
            raise DataError(
                f"the part {name} would be empty: {clean} clean rows go from {utc_text(first_us)} to "
                f"{utc_text(last_us)}, and the parts begin at {begins} with a gap of "
                f"{split.gap_us // MICROSECONDS_PER_SECOND} s before each: set split.{name}, the next part's begin or "
                "split.gap_s accordingly"
            )


def utc_text(time_us: int) -> str:
    """2015-07-01T04:00:00+00:00, for messages and reports."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat()


def _read_boundary(name: str, value: Any, schema: Schema) -> Fraction | int:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value < 1:
            raise ConfigError(f"split.{name} must be a share between 0 and 1 or a date such as 2015-07-01, got {value}")
        return Fraction(str(value))  # exact, so that every engine and machine cuts at the same row
    return _local_time_us(name, value, schema.timezone)


def _local_time_us(name: str, value: Any, timezone: str) -> int:
    try:
        text = value.isoformat() if isinstance(value, date) else value
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"split.{name} must be a share between 0 and 1 or a date such as 2015-07-01, got {value!r}"
        ) from error
    try:
        zone = ZoneInfo(timezone)
    except (KeyError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ConfigError(f"schema.timezone must be an IANA name such as Europe/Berlin, got {timezone!r}") from error
    placed = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
    return (placed - _EPOCH) // timedelta(microseconds=1)
