"""Times as files hold them, read as microseconds since 1970 UTC.

A wall time without an offset is one of its city's zone: of the two in autumn the earlier, in spring's missing hour an
hour later.
"""

import polars as pl

from hailtime.errors import ConfigError, DataError
from hailtime.schema import MICROSECONDS_PER_SECOND

EPOCH_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_OFFSET = r"\s*(?:[Zz]|([+-])(\d{2}):?(\d{2}))$"  # at the end of an ISO time; a date ends in a sign and two digits only


def utc_us(local: pl.Expr, timezone: str) -> pl.Expr:
    """Microseconds of a local wall time: the earlier of two in autumn; in spring's missing hour an hour later."""
    placed = local.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    shifted = local.dt.offset_by("1h").dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return placed.fill_null(shifted).dt.epoch("us")


def read_times(
    raw: pl.Series,
    what: str,
    unit: str | None = None,
    form: str | None = None,
    timezone: str | None = None,
    first_row: int = 1,
) -> pl.Series:
    """Microseconds of datetimes, of texts (ISO 8601, or as `form` says) or of numbers since 1970 in `unit`.

    `what` names the column in messages, `first_row` is the number of its first row there. ConfigError when a unit or
    the timezone must be given, DataError otherwise.
    """
    if raw.null_count() == len(raw):
        return pl.Series(raw.name, [None] * len(raw), dtype=pl.Int64)
    if raw.dtype.is_numeric():
        if unit is None:
            raise ConfigError(f"{what} is a time as a number, so say its unit: {', '.join(EPOCH_UNITS)}")
        if raw.dtype.is_integer():
            return raw.cast(pl.Int64) * EPOCH_UNITS[unit]
        return (raw.cast(pl.Float64).fill_nan(None) * EPOCH_UNITS[unit]).round().cast(pl.Int64)
    if raw.dtype == pl.String:
        text = raw.str.strip_chars().replace("", None)
        if form is None:
            return _iso_us(text, what, timezone, first_row)
        return _formatted_us(text, what, form, timezone, first_row)
    if not isinstance(raw.dtype, pl.Datetime):
        raise DataError(f"{what} must be a time, got {raw.dtype}, such as {str(raw.drop_nulls()[0])!r}")
    return _localised_us(raw, what, timezone) if raw.dtype.time_zone is None else raw.dt.epoch("us")


def check_all_read(raw: pl.Series, read: pl.Series, rule: str, first_row: int = 1) -> None:
    """DataError with the first value that was there and could not be read; `first_row` is the number of row 0."""
    lost = raw.is_not_null() & read.is_null()
    if lost.any():
        row = int(lost.arg_true()[0])
        raise DataError(f"{rule}, got {raw[row]!r} in row {first_row + row:,}; rows like it: {lost.sum()}")


def _formatted_us(text: pl.Series, what: str, form: str, timezone: str | None, first_row: int) -> pl.Series:
    times = text.str.to_datetime(form, time_unit="us", strict=False)
    check_all_read(text, times, f"{what} must be a time like {form}", first_row)
    has_zone = isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is not None
    return times.dt.epoch("us") if has_zone else _localised_us(times, what, timezone)


def _iso_us(text: pl.Series, what: str, timezone: str | None, first_row: int) -> pl.Series:
    """Each row with its own offset, or as wall time."""
    bare = text.str.replace(_OFFSET, "").str.replace("[Tt]", " ")
    times = bare.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    times = times.fill_null(bare.str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False))
    check_all_read(text, times, f"{what} must be a time like 2026-03-02 08:30:00 (else give its format)", first_row)
    with_offset_us = times.dt.epoch("us") - _offset_us(text)
    is_wall = ~text.str.contains(_OFFSET).fill_null(True)
    return _localised_us(times, what, timezone).zip_with(is_wall, with_offset_us) if is_wall.any() else with_offset_us


def _offset_us(text: pl.Series) -> pl.Series:
    """Microseconds ahead of UTC; 0 for Z and for no offset."""
    sign, hours, minutes = (text.str.extract(_OFFSET, group) for group in (1, 2, 3))
    seconds = hours.cast(pl.Int64).fill_null(0) * 3600 + minutes.cast(pl.Int64).fill_null(0) * 60
    is_behind = (sign == "-").fill_null(False)
    return (-seconds).zip_with(is_behind, seconds) * MICROSECONDS_PER_SECOND


def _localised_us(times: pl.Series, what: str, timezone: str | None) -> pl.Series:
    if timezone is None:
        raise ConfigError(f"{what} is wall time, so give the timezone it is in, such as America/New_York")
    local = times.cast(pl.Datetime("us")).alias("local")
    return local.to_frame().select(utc_us(pl.col("local"), timezone)).to_series()
