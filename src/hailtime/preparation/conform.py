"""Frames as the package keeps them, whatever engine they came from: the reading half of clean and join.

Times are microseconds since 1970 UTC, numbers are float64, texts are strings, and what is not known is null: NaN and
infinity at once, because pandas calls NaN missing and Polars counts with it, and "" because that is how a request on
the wire says "no category". Everything here is row-wise Narwhals, so Polars (eager and lazy), pandas and Spark agree.
"""

from collections.abc import Mapping
from typing import Any, Literal

import narwhals as nw
from narwhals.typing import IntoFrame

from hailtime.errors import DataError, SchemaError, did_you_mean

AnyFrame = nw.DataFrame[Any] | nw.LazyFrame[Any]
Kind = Literal["time", "number", "text", "as_it_is"]

_TIME_RULE = "must be int64 microseconds since 1970 UTC or a datetime with a time zone"


def read_frame(native: IntoFrame, what: str) -> AnyFrame:
    """The caller's frame as Narwhals; `what` names it in messages. A pandas index is dropped: rows have no order."""
    try:
        frame = nw.from_native(native)
    except TypeError as error:
        raise DataError(f"{what} must be a Polars, pandas or Spark frame, got {type(native).__name__}") from error
    return nw.maybe_reset_index(frame) if isinstance(frame, nw.DataFrame) else frame


def collected(frame: AnyFrame) -> nw.DataFrame[Any]:
    """The rows of a small result, computed now."""
    return frame.collect() if isinstance(frame, nw.LazyFrame) else frame


def kept(frame: AnyFrame) -> AnyFrame:
    """A small frame that is asked several times. Spark would compute it anew each time; it keeps it, until its session
    ends or its cache is cleared."""
    return nw.from_native(frame.to_native().persist()) if frame.implementation.is_pyspark() else frame


def conform(frame: AnyFrame, what: str, kinds: Mapping[str, Kind]) -> AnyFrame:
    """Only the named columns, each in the package's type. SchemaError says what does not fit.

    A time may still have gaps, and is then a float in pandas: cast it to Int64 once they are dropped.
    """
    types = dict(frame.collect_schema())
    for name in kinds:
        if name not in types:
            raise SchemaError(f"{what} have no column {name!r}{did_you_mean(name, types)}")
    readers = {"time": _as_time, "number": _as_number, "text": _as_text, "as_it_is": _as_it_is}
    return frame.select(**{name: readers[kind](frame, name, types[name], what) for name, kind in kinds.items()})


def _as_it_is(frame: AnyFrame, name: str, dtype: nw.dtypes.DType, what: str) -> nw.Expr:
    return _finite(nw.col(name)) if dtype.is_float() else nw.col(name)


def _as_time(frame: AnyFrame, name: str, dtype: nw.dtypes.DType, what: str) -> nw.Expr:
    if isinstance(dtype, nw.Datetime) and dtype.time_zone is not None:
        return _microseconds(frame, name)
    if isinstance(dtype, nw.Datetime):
        raise SchemaError(f"{name} of the {what} {_TIME_RULE}, got {dtype} without a zone: localise it first")
    if dtype.is_integer():
        return nw.col(name).cast(nw.Int64)
    if dtype.is_float() or _has_no_value(frame, name):
        return _finite(nw.col(name).cast(nw.Float64))
    raise SchemaError(f"{name} of the {what} {_TIME_RULE}, got {dtype}{_such_as(frame, name)}")


def _microseconds(frame: AnyFrame, name: str) -> nw.Expr:
    if frame.implementation.is_pyspark():  # where Narwhals has no dt.timestamp, and a cast gives whole seconds
        of_second = nw.col(name).dt.microsecond().cast(nw.Int64)
        # before 1970 it is negative, and the second the one before
        return nw.col(name).cast(nw.Int64) * 1_000_000 + (of_second + 1_000_000) % 1_000_000
    return nw.col(name).dt.timestamp("us")


def _as_number(frame: AnyFrame, name: str, dtype: nw.dtypes.DType, what: str) -> nw.Expr:
    if dtype.is_numeric() or isinstance(dtype, nw.Boolean) or _has_no_value(frame, name):
        return _finite(nw.col(name).cast(nw.Float64))
    raise SchemaError(f"{name} of the {what} must be a number, got {dtype}{_such_as(frame, name)}")


def _as_text(frame: AnyFrame, name: str, dtype: nw.dtypes.DType, what: str) -> nw.Expr:
    texts = (nw.String, nw.Categorical, nw.Enum)
    if not (isinstance(dtype, texts) or dtype.is_integer() or _has_no_value(frame, name)):
        # engines write them differently: 7 with a gap is "7.0" in pandas and "7" in Polars, True is "true" in Polars
        way_out = ": cast it to text first" if dtype.is_numeric() or isinstance(dtype, nw.Boolean) else ""
        raise SchemaError(f"{name} of the {what} must be text or integers, got {dtype}{_such_as(frame, name)}{way_out}")
    column = nw.col(name)
    text = column if isinstance(dtype, nw.String) else column.cast(nw.String)
    # asked of the raw column too: an older pandas casts a missing value to the text "nan"
    return nw.when(~column.is_null() & (text != nw.lit(""))).then(text)


def _finite(number: nw.Expr) -> nw.Expr:
    return nw.when(number.is_finite()).then(number)


def _has_no_value(frame: AnyFrame, name: str) -> bool:
    """Whether a column is empty, and therefore of no type that says anything."""
    return bool(collected(frame.select(nw.col(name).count())).item() == 0)


def _such_as(frame: AnyFrame, name: str) -> str:
    value = collected(frame.select(name).filter(~nw.col(name).is_null()).head(1)).item()
    return f", such as {value!r}"
