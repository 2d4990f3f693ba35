"""What the values of a column are: numbers, times, codes that look like numbers, yes or no, words.

A CSV's values come as text and are judged as `sources/files.py` will read them; where it cannot, `trouble` says why.
"""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from hailtime.describing.names import says, unit_in
from hailtime.describing.table import Table
from hailtime.describing.times import TimeReading, read_datetimes, read_time_numbers, read_time_texts
from hailtime.sources.clock_times import EPOCH_UNITS

Kind = Literal["number", "time", "code", "flag", "text", "empty", "other"]

NOT_GIVEN = ("NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "#N/A", "\\N", "-", "--", "?")
CODE_WORDS = ("zipcode", "zip", "postcode", "postal", "zone", "id", "code", "district", "precinct", "area", "region",
              "location", "cell", "geohash", "type", "category", "class", "severity", "priority", "level", "number",
              "no", "num", "phone", "station", "depot", "tract", "borough", "product", "vendor")  # fmt: skip
# Numbers without a unit: counts and shares.
COUNT_WORDS = ("count", "n", "drivers", "requests", "passengers", "idle", "open", "queue", "seats", "index", "age",
               "active", "ratio", "share", "probability", "factor")  # fmt: skip
_FLAGS = ({"y", "n"}, {"yes", "no"}, {"true", "false"}, {"t", "f"}, {"0", "1"})
_MAX_WORDS = 5  # so many different texts in a column of numbers are words for "not given"; more are marks


@dataclass(frozen=True)
class Reading:
    """A column as it is meant. `values`: the sample as Float64, as microseconds or as texts, null where not given."""

    kind: Kind
    why: str
    values: pl.Series
    time: TimeReading | None = None
    words: tuple[str, ...] = ()  # that mean "not given"
    needs_kind: bool = False  # sources/files.py must be told that it is a number
    trouble: str = ""  # why it cannot be loaded as it is


def judge(table: Table, name: str) -> Reading:
    """What the column of this name holds."""
    raw = table.sample[name]
    if table.facts[name].n_missing == table.n_rows:
        return Reading("empty", "no value in any row", raw.cast(pl.String))
    dtype = raw.dtype
    if isinstance(dtype, pl.Datetime):
        return _time(read_datetimes(raw))
    if dtype == pl.Boolean:
        return Reading("flag", "true or false", raw.cast(pl.String))
    if dtype.is_numeric():
        return _judge_numbers(raw, name)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        raw = raw.cast(pl.String)
    if raw.dtype == pl.String:
        return _judge_texts(table, raw, name)
    why = "a date without a clock time" if dtype == pl.Date else f"values of type {dtype}"
    return Reading("other", why, raw.cast(pl.String, strict=False) if dtype == pl.Date else _shown(raw), trouble=why)


def _judge_numbers(raw: pl.Series, name: str) -> Reading:
    time = read_time_numbers(raw.fill_nan(None) if raw.dtype.is_float() else raw, name)
    if time is not None:
        return _time(time)
    return _number_or_code(raw.cast(pl.Float64).fill_nan(None), name, as_text=raw.cast(pl.String))


def _judge_texts(table: Table, raw: pl.Series, name: str) -> Reading:
    text = raw.str.strip_chars()
    words = tuple(word for word in NOT_GIVEN if (text == word).any())
    known = text.replace([*words, ""], None) if words else text.replace("", None)
    blank = tuple(sorted(set(raw.filter(text == "").to_list())))[:3]
    if known.null_count() == len(known):
        return Reading("empty", "no value in any row that was looked at", known)
    if _has_leading_zero(known):
        return Reading("code", "digits with zeros in front: a code, not a number", known, words=words + blank)
    numbers = known.cast(pl.Float64, strict=False).fill_nan(None)
    n_known = len(known) - known.null_count()
    share = (len(numbers) - numbers.null_count()) / n_known
    if share >= 0.95 or (share >= 0.5 and not says(name, CODE_WORDS)):  # 101, 102, 37B are codes
        return _numbers_in_text(table, name, raw, numbers, blank)
    time = read_time_texts(known)
    if time is not None:
        return _time_in_text(table, time, known, words + blank)
    if known.str.contains(r"^-?\d+,\d+$").mean() >= 0.9:  # type: ignore[operator]
        trouble = "numbers with a decimal comma: write the file anew with points"
        return Reading("other", trouble, known, trouble=trouble)
    kind, why = _flag_or_text(known)
    return Reading(kind, why, known, words=words + blank)


def _numbers_in_text(table: Table, name: str, raw: pl.Series, numbers: pl.Series, blank: tuple[str, ...]) -> Reading:
    """Numbers written as text; what is none of them is a word for "not given", or a mark that spoils the column."""
    odd = table.facts[name].odd_words or tuple(_not_numbers(raw)[: _MAX_WORDS + 1])
    nans = [word for word in NOT_GIVEN if word.lower() == "nan" and (raw == word).any()]
    words = (*odd, *nans, *blank)
    plain = read_time_numbers(numbers, name)
    if plain is not None and plain.unit is not None:
        whole = plain.times_us if plain.unit == "ns" else numbers.cast(pl.Int64) * EPOCH_UNITS[plain.unit]
        return _time(TimeReading(whole, plain.why, unit=plain.unit), words)
    read = _number_or_code(numbers, name, as_text=raw)
    if read.kind != "number":
        return Reading(read.kind, read.why, raw.str.strip_chars().replace(["", *words], None), words=words)
    is_padded = bool((raw != raw.str.strip_chars()).any())
    trouble = ""
    if len(odd) > _MAX_WORDS:
        trouble = f"numbers with marks in between, such as {', '.join(repr(word) for word in odd[:3])}"
    elif odd and not table.is_csv:
        trouble = f"numbers and the word {odd[0]!r} in a Parquet file: make it null there"
    return Reading("number", read.why, numbers, words=words, needs_kind=not table.is_csv or is_padded, trouble=trouble)


def _not_numbers(raw: pl.Series) -> list[str]:
    text = raw.str.strip_chars().drop_nulls()
    return text.filter(text.cast(pl.Float64, strict=False).is_null() & (text != "")).unique().sort().to_list()


def _time_in_text(table: Table, time: TimeReading, known: pl.Series, words: tuple[str, ...]) -> Reading:
    lost = known.filter(known.is_not_null() & time.times_us.is_null()).unique(maintain_order=True).to_list()
    if lost and table.is_csv and len(lost) <= _MAX_WORDS:
        words = (*words, *lost)
    elif lost or (words and not table.is_csv):
        bad = (lost or list(words))[0]
        return _time(
            time, words, f"{len(lost) or len(words)} kinds of texts are no times, such as {bad!r}: make them empty"
        )
    return _time(time, words)


def _time(time: TimeReading, words: tuple[str, ...] = (), trouble: str = "") -> Reading:
    if time.unit is not None and time.unit not in EPOCH_UNITS:
        trouble = f"{time.unit} since 1970 are not read: divide by 1,000 (known are {', '.join(EPOCH_UNITS)})"
    return Reading("time", time.why, time.times_us, time, words, trouble=trouble)


def _number_or_code(numbers: pl.Series, name: str, as_text: pl.Series) -> Reading:
    known = numbers.drop_nulls()
    if len(known) == 0:
        return Reading("empty", "no value in any row that was looked at", as_text)
    if not bool((known == known.round()).all()):
        return Reading("number", "numbers with fractions", numbers)
    values = known.unique().sort()
    if set(values.to_list()) == {0.0, 1.0}:
        return Reading("flag", "0 or 1", as_text)
    word = says(name, CODE_WORDS)
    if unit_in(name) is None and not says(name, COUNT_WORDS):
        if word is not None:
            return Reading("code", f"whole numbers, and the name says {word!r}: nothing to count or add", as_text)
        if _has_gaps(values, len(known)):
            low, high = int(values[0]), int(values[-1])
            why = f"only {len(values)} different whole numbers between {low} and {high}: likely codes"
            return Reading("code", why, as_text)
    return Reading("number", "whole numbers", numbers)


def _has_gaps(values: pl.Series, n_known: int) -> bool:
    """Few numbers, each many times, thinly spread: district 101, 102, 305. A count fills its range."""
    spread = float(values[-1]) - float(values[0]) + 1
    return (
        3 <= len(values) <= 500 and len(values) * 50 < n_known and float(values[0]) >= 100 and len(values) < spread / 2
    )


def _flag_or_text(known: pl.Series) -> tuple[Kind, str]:
    values = known.drop_nulls().unique()
    if len(values) <= 2 and any({value.lower() for value in values} <= flags for flags in _FLAGS):
        return "flag", f"only {' and '.join(sorted(values))}"
    return "text", "words"


def _has_leading_zero(known: pl.Series) -> bool:
    digits = known.str.contains(r"^\d+$").fill_null(False)
    n_known = len(known) - known.null_count()
    return int(digits.sum()) >= 0.9 * n_known and bool((digits & known.str.contains(r"^0\d")).any())


def _shown(raw: pl.Series) -> pl.Series:
    return pl.Series(
        raw.name, [None if value is None else str(value)[:60] for value in raw.head(1000)], dtype=pl.String
    )
