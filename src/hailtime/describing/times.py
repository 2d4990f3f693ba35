"""How a column writes its times: datetimes, ISO texts, other texts by their format, or numbers since 1970.

Wall times without an offset are given back as if they were UTC: what is asked here (their order, their distances, the
hour of the clock) does not depend on the zone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product

import polars as pl

from hailtime.describing.names import says
from hailtime.errors import HailtimeError
from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources.clock_times import read_times

TIME_WORDS = ("time", "date", "datetime", "timestamp", "ts", "at", "epoch", "created", "request", "arrival", "pickup",
              "dropoff", "when", "hour")  # fmt: skip
# Numbers of these sizes are times of 2000 to 2040 in the unit.
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_FIRST_S, _LAST_S = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2000, 2040))
_DAY_FIRST = ("%d-%m-%Y", "%d/%m/%Y", "%d.%m.%Y", "%d/%m/%y", "%d.%m.%y", "%d-%m-%y")
_MONTH_FIRST = ("%m-%d-%Y", "%m/%d/%Y", "%m.%d.%Y", "%m/%d/%y", "%m.%d.%y", "%m-%d-%y")
_OTHER_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%d-%b-%y")
_CLOCKS = (" %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %H:%M:%S%.f", "T%H:%M:%S", "T%H:%M:%S%.f", "")
_MOST = 0.9  # of the texts must be times, the others are faults


@dataclass(frozen=True)
class TimeReading:
    """Times in microseconds since 1970, null where the text was none; wall times as if they were UTC."""

    times_us: pl.Series
    why: str
    format: str | None = None  # for texts that are not ISO 8601
    unit: str | None = None  # for numbers
    is_wall: bool = False
    is_sure: bool = True  # False where nothing tells the day from the month
    trouble: str = ""


def read_datetimes(raw: pl.Series) -> TimeReading:
    """A column of datetimes."""
    zone = raw.dtype.time_zone if isinstance(raw.dtype, pl.Datetime) else None
    why = f"datetimes {'without a zone' if zone is None else f'in {zone}'}"
    return TimeReading(raw.dt.epoch("us"), why, is_wall=zone is None)


def read_time_numbers(numbers: pl.Series, name: str) -> TimeReading | None:
    """Numbers since 1970, by their size; seconds only where the name speaks of time, as they look like ids."""
    middle = numbers.median()
    if not isinstance(middle, int | float):
        return None
    for unit, per_second in _PER_SECOND.items():
        if _FIRST_S * per_second <= middle < _LAST_S * per_second:
            if unit == "s" and not says(name, TIME_WORDS):
                return None
            scaled = numbers * (MICROSECONDS_PER_SECOND / per_second)
            if numbers.dtype.is_integer() and unit in ("s", "ms", "us"):
                scaled = numbers.cast(pl.Int64) * (MICROSECONDS_PER_SECOND // per_second)
            day = datetime.fromtimestamp(middle / per_second, UTC)
            return TimeReading(
                scaled.round().cast(pl.Int64), f"{unit} since 1970, the middle one in {day:%B %Y}", unit=unit
            )
    return None


def read_time_texts(raw: pl.Series) -> TimeReading | None:
    """Texts that are times, in the writing that most of them have."""
    text = raw.str.strip_chars().replace("", None)
    known = text.drop_nulls()
    first = known.head(200)
    # a date has digits and a mark between them; ids and codes fail here
    if len(known) == 0 or first.str.contains(r"\d.*[-/.: ].*\d|^\d{8}").mean() < _MOST:  # type: ignore[operator]
        return None
    return _read_iso(text) or _read_formatted(text, first)


def _read_iso(text: pl.Series) -> TimeReading | None:
    """As sources/files.py reads ISO 8601 when no format is given."""
    looks = text.str.contains(r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?\s*([Zz]|[+-]\d{2}:?\d{2})?$")
    if not _is_most(looks, text):
        return None
    kept = pl.select(pl.when(looks).then(text)).to_series()
    try:
        times = read_times(kept, "text", timezone="UTC")
    except HailtimeError:  # a 31st of February
        times = kept.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False).dt.epoch("us")
    has_offset = text.str.contains(r"([Zz]|[+-]\d{2}:?\d{2})$").fill_null(False)
    why = f"ISO 8601 texts {'with an offset' if has_offset.any() else 'without an offset'}"
    return TimeReading(times, why, is_wall=not has_offset.all() and not has_offset.any())


def _read_formatted(text: pl.Series, first: pl.Series) -> TimeReading | None:
    for form in _forms():
        if _is_most(_parse(first, form), first) and _is_most(parsed := _parse(text, form), text):
            other = _swapped(form)
            if other is None:
                return _reading(parsed, form, f"texts like {form}")
            return _tell_day_from_month(text, {form: parsed, other: _parse(text, other)})
    return None


def _forms() -> Iterator[str]:
    """Day-first before month-first: which one it is gets decided by evidence, not here."""
    for clock, date in product(_CLOCKS, (*_OTHER_DATES, *_DAY_FIRST, *_MONTH_FIRST)):
        for zone in ("", " %z", "%z"):
            if clock or not zone:
                yield f"{date}{clock}{zone}"


def _swapped(form: str) -> str | None:
    for day, month in zip(_DAY_FIRST, _MONTH_FIRST, strict=True):
        if form.startswith(day):
            return form.replace(day, month, 1)
        if form.startswith(month):
            return form.replace(month, day, 1)
    return None


def _tell_day_from_month(text: pl.Series, readings: dict[str, pl.Series]) -> TimeReading | None:
    """A day above 12 decides; else the reading in which the rows are in order; else a guess that says so."""
    day_form = next(form for form in readings if form.startswith("%d"))
    month_form = next(form for form in readings if form != day_form)
    n_day, n_month = (len(readings[form]) - readings[form].null_count() for form in (day_form, month_form))
    if n_day != n_month:
        form, other = (day_form, month_form) if n_day > n_month else (month_form, day_form)
        what = "day" if form == day_form else "month"
        proof = text.filter(readings[form].is_not_null() & readings[other].is_null())[0]
        return _reading(readings[form], form, f"{what} first: {proof!r} cannot be read the other way")
    in_order = [form for form in readings if readings[form].drop_nulls().is_sorted()]
    if len(in_order) == 1:
        what = "day" if in_order[0] == day_form else "month"
        return _reading(
            readings[in_order[0]], in_order[0], f"{what} first: no day is above 12, but so the rows are in order"
        )
    form = month_form if "/" in day_form else day_form
    what = "month" if form == month_form else "day"
    why = f"{what} first is a guess by the mark: no day is above 12 and the order of rows does not tell"
    return _reading(readings[form], form, why, is_sure=False)


def _reading(parsed: pl.Series, form: str, why: str, is_sure: bool = True) -> TimeReading:
    return TimeReading(parsed.dt.epoch("us"), why, format=form, is_wall="%z" not in form, is_sure=is_sure)


def _parse(text: pl.Series, form: str) -> pl.Series:
    try:
        parsed = text.str.to_datetime(form, time_unit="us", strict=False)
    except pl.exceptions.PolarsError:  # a format that Polars refuses for these texts
        return pl.Series([None] * len(text), dtype=pl.Datetime("us"))
    return parsed


def _is_most(hits: pl.Series, of: pl.Series) -> bool:
    n_hits = int(hits.sum() or 0) if hits.dtype == pl.Boolean else len(hits) - hits.null_count()
    return n_hits >= _MOST * max(len(of) - of.null_count(), 1)
