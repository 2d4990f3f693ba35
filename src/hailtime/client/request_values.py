"""What the values of a request may be, and what they become: a number, a text or a time.

- number: any real number but a bool. None, NaN, NaT and pandas.NA are missing, which is NaN.
- text: a str, or an int, which is its decimal digits: 75 is "75". Missing is "". No float: a column of ints in which
  one value is missing arrives as floats, and "75.0" would silently be a category nobody knows.
- time: an aware datetime or Timestamp, ISO 8601 text with an offset, numpy.datetime64 (which is UTC) or epoch seconds.
  Never missing, and from 2000 to 2059: the model knows the city's clock in between. Fractions of a second are dropped.

`to_*` takes Python values, `*_of` a column of a pandas or Polars frame. Both give an array and what is wrong, by place.
Values of the usual types are taken all at once; only others, or wrong ones, are looked at one by one.
pandas is never imported: its missing values are told by the name of their type.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

FIRST_S, END_S = 946_684_800, 2_840_140_800  # 2000-01-01 and 2060-01-01 UTC
TIME_UNITS = (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
PLAIN_NUMBERS = frozenset({float, int, type(None), np.float64, np.float32, np.int64})  # numpy converts these by itself
PANDAS_MISSING = frozenset({"NAType", "NaTType"})
EPOCH, ONE_SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1)
UNEQUAL_TO_ITSELF = (float, np.floating, np.datetime64)  # as NaN and NaT are

ZONE_WAY_OUT = "give an offset, .replace(tzinfo=...), or .dt.tz_localize(...) in a pandas frame"

Wrong = dict[int, str]
Value = TypeVar("Value")


def to_numbers(values: Sequence[object]) -> tuple[NDArray[np.float64], Wrong]:
    # The types are looked at first because numpy would take "3" and True for numbers
    if PLAIN_NUMBERS.issuperset(map(type, values)):
        try:
            return np.fromiter(values, np.float64, len(values)), {}
        except OverflowError:  # an int beyond any float: found again below
            pass
    numbers, wrong = _each(values, to_number, math.nan)
    return np.array(numbers, dtype=np.float64), wrong


def to_texts(values: Sequence[object]) -> tuple[Sequence[str], Wrong]:
    kinds = set(map(type, values))
    if kinds <= {str, type(None)}:
        texts: Sequence[str] = values if type(None) not in kinds else [value or "" for value in values]  # type: ignore[assignment, misc]
        if _is_utf8("".join(texts)):
            return texts, {}
    return _each(values, to_text, "")


def to_times(values: Sequence[object]) -> tuple[NDArray[np.int64], Wrong]:
    seconds = _usual_times(values) if len(values) > 4 else None  # for a few, numpy's steps take longer than they save
    if seconds is not None and ((seconds >= FIRST_S) & (seconds < END_S)).all():
        return seconds, {}
    each, wrong = _each(values, to_epoch_s, 0)
    return np.array(each, dtype=np.int64), wrong


def _usual_times(values: Sequence[Any]) -> NDArray[np.int64] | None:
    """Seconds of values that are all ints, all datetimes or all texts; None for others, and for those that are wrong"""
    kinds = set(map(type, values))
    try:
        if kinds == {int}:
            return np.array(values, dtype=np.int64)
        if kinds == {str}:
            values, kinds = list(map(datetime.fromisoformat, values)), {datetime}
        if kinds == {datetime}:
            return np.array([(value - EPOCH) // ONE_SECOND for value in values], dtype=np.int64)
    except (TypeError, ValueError, OverflowError):  # a datetime without a zone, no ISO 8601, an int beyond 64 bits
        pass
    return None


def _is_utf8(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:  # half a character
        return False


def numbers_of(column: Any) -> tuple[NDArray[np.float64], Wrong]:
    if _numpy_kind(column) in ("f", "i", "u"):
        return _float64(column), {}
    return to_numbers(column.to_list())


def texts_of(column: Any) -> tuple[Sequence[str], Wrong]:
    return to_texts(column.to_list())


def times_of(column: Any) -> tuple[NDArray[np.int64], Wrong]:
    kind = _numpy_kind(column)
    if kind in ("f", "i", "u"):
        times: NDArray[Any] = _float64(column)
    elif kind == "M" and getattr(column.dtype, "tz", None) is not None:
        times = column.to_numpy(dtype="datetime64[us]").astype("datetime64[s]")
    else:
        return to_times(column.to_list())
    with np.errstate(invalid="ignore"):  # NaN and NaT become an impossible second
        seconds = times.astype(np.int64)
    # What is not a time of the model's clock gets its words from the function for single values
    suspects = np.flatnonzero(~((seconds >= FIRST_S) & (seconds < END_S))).tolist()
    _, wrong = _each([times[place] for place in suspects], to_epoch_s, 0)
    return seconds, {suspects[place]: problem for place, problem in wrong.items()}


def to_number(value: object) -> float:
    """ValueError says what is wrong with it; the same holds for the two below."""
    if _is_missing(value):
        return math.nan
    if not _is_real(value):
        raise ValueError(f"must be a number, or None for missing, got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def to_text(value: object) -> str:
    if _is_missing(value):
        return ""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"must be text that UTF-8 can hold, got {shown(value)}") from error
        return str.__str__(value)  # the text of a str Enum, not its name
    if isinstance(value, Integral) and _is_real(value):
        return str(int(value))
    way_out = f"; give {int(value)!r} or '{int(value)}'" if isinstance(value, float) and value.is_integer() else ""
    raise ValueError(f"must be text or an int, or None for missing, got {shown(value)}{way_out}")


def to_epoch_s(value: object) -> int:
    if type(value) is int and FIRST_S <= value < END_S:  # the usual one, in a tenth of the time
        return value
    time = _parsed(value) if isinstance(value, str) else value
    if _is_missing(time):
        raise ValueError(f"must be given, it cannot be missing, got {shown(value)}")
    if isinstance(time, datetime):
        if time.utcoffset() is None:
            raise ValueError(f"must say its time zone, got {shown(value)}: {ZONE_WAY_OUT}")
        seconds = math.floor(time.timestamp())
    elif isinstance(time, np.datetime64):
        seconds = int(time.astype("datetime64[s]").astype(np.int64))
    elif _is_real(time) and (isinstance(time, Integral) or math.isfinite(time)):
        seconds = math.floor(time)
    else:
        raise ValueError(f"must be an aware datetime, ISO 8601 text or epoch seconds, got {shown(value)}")
    if not FIRST_S <= seconds < END_S:
        raise ValueError(
            f"must lie from 2000 to 2059, as epoch seconds or a datetime, got {shown(value)}{_unit(seconds)}"
        )
    return seconds


def shown(value: object) -> str:
    """`'north' (str)`, for messages."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _each(values: Sequence[object], convert: Callable[[object], Value], otherwise: Value) -> tuple[list[Value], Wrong]:
    converted, wrong = [otherwise] * len(values), {}
    for place, value in enumerate(values):
        try:
            converted[place] = convert(value)
        except ValueError as error:
            wrong[place] = str(error)
    return converted, wrong


def _is_missing(value: object) -> bool:
    if value is None or type(value).__name__ in PANDAS_MISSING:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, UNEQUAL_TO_ITSELF) and bool(value != value)


def _is_real(value: object) -> TypeGuard[float]:
    """numpy counts durations among its integers."""
    return isinstance(value, (Real, Decimal)) and not isinstance(value, (bool, np.timedelta64))


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"must be ISO 8601 text like 2026-01-12T08:30:00-05:00, got {shown(text)}") from error


def _unit(seconds: int) -> str:
    looks = [(unit, factor) for unit, factor in TIME_UNITS if FIRST_S <= seconds // factor < END_S]
    return f": these look like {looks[0][0]}, divide by {looks[0][1]:,}" if looks else ""


def _numpy_kind(column: Any) -> str | None:
    """The letter numpy has for the kind of a pandas column, also of pandas' own types; None for Polars."""
    return getattr(column.dtype, "kind", None)


def _float64(column: Any) -> NDArray[np.float64]:
    missing = {} if isinstance(column.dtype, np.dtype) else {"na_value": np.nan}
    numbers: NDArray[np.float64] = column.to_numpy(dtype=np.float64, **missing)
    return numbers
