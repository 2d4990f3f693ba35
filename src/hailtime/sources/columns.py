"""The columns of a table of one's own: what a yaml says about them, and the table in the package's types and units.

`files.py` and `database.py` share it. An entry of `columns` is `ours: theirs`, or `ours: {column: theirs, ...}` with

- `unit`: what a number is in. Lengths become metres, durations seconds, speeds m/s; a time as a number since 1970 needs
  one of s, ms, us
- `kind`: text or number, where the look misleads (a zip code 00501); a value that is no number is then an error
- `format`: how a time is written when it is not ISO 8601, such as "%d-%m-%Y %H:%M"
- `delay_s`: added to a time: `known_at: {column: time, delay_s: 300}`

What is named `*_at` is a time. Wall times without an offset are read in `timezone`: of the two in autumn the earlier,
in spring's missing hour an hour later.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from hailtime.errors import ConfigError, DataError, did_you_mean
from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources import BLOCK_ROWS
from hailtime.sources.clock_times import EPOCH_UNITS, check_all_read, read_times

UNITS = {
    "s": 1.0,
    "ms": 0.001,
    "min": 60.0,
    "h": 3600.0,
    "m": 1.0,
    "km": 1000.0,
    "ft": 0.3048,
    "mi": 1609.344,
    "m/s": 1.0,
    "km/h": 1 / 3.6,
    "mph": 0.44704,
}
KINDS = ("text", "number")


@dataclass(frozen=True)
class Entry:
    """One entry of `columns`."""

    name: str
    column: str
    unit: str | None = None
    kind: str | None = None
    format: str | None = None
    delay_s: float = 0.0

    @property
    def is_time(self) -> bool:
        return self.name.endswith("_at")


@dataclass(frozen=True)
class TableColumns:
    """All entries of a table, and the zone of its wall times."""

    entries: tuple[Entry, ...]
    timezone: str | None = None

    @classmethod
    def read(cls, columns: Mapping[str, Any], timezone: str | None = None) -> "TableColumns":
        """ConfigError says which entry cannot be meant."""
        if timezone is not None:
            _check_timezone(timezone)
        return cls(tuple(_read_entry(name, entry) for name, entry in columns.items()), timezone)

    @property
    def names(self) -> list[str]:
        """The table's own names of the columns that are read, each once."""
        return list(dict.fromkeys(entry.column for entry in self.entries))

    @property
    def texts(self) -> set[str]:
        """The table's own names of the columns that are read as text where a format has no types (CSV)."""
        return {e.column for e in self.entries if e.kind or (e.is_time and e.unit is None)}

    def check_present(self, present: Sequence[str], where: str) -> None:
        """DataError for a column that is not there."""
        for name in self.names:
            if name not in present:
                raise DataError(f"{where} has no column {name!r}{did_you_mean(name, present)}")

    def convert(self, raw: pl.DataFrame, where: str, first_row: int = 1) -> pl.DataFrame:
        """Our columns of some rows: times in microseconds since 1970 UTC, numbers in the package's units.

        `where` and `first_row`, the number of the first of these rows, are for messages.
        """
        return pl.DataFrame([_convert(raw[e.column], e, self.timezone, where, first_row) for e in self.entries])


@dataclass(frozen=True)
class Kinds:
    """What each column was so far: what is read as one table must mean the same by a column all through.

    Whole numbers and fractions do; a part without any value says nothing; a declared kind is what is read from any.
    """

    columns: TableColumns
    _seen: dict[str, tuple[str, str]] = field(default_factory=dict)

    def check(self, raw: pl.DataFrame, where: str) -> None:
        """DataError when a column is of another kind than in an earlier part."""
        declared = {entry.column for entry in self.columns.entries if entry.kind}
        for column in raw.iter_columns():
            if column.name in declared or column.null_count() == len(column):
                continue
            kind = _kind_of(column.dtype)
            expected, first = self._seen.setdefault(column.name, (kind, where))
            if kind != expected:
                raise DataError(
                    f"the parts of one table must be alike: {column.name} is {kind} in {where}, {expected} in {first}; "
                    "kind: text reads both"
                )


def check_keys(what: str, settings: Mapping[str, Any], known: Sequence[str], needed: Sequence[str]) -> None:
    """ConfigError for an entry that does not exist or one that is left out."""
    for key in settings:
        if key not in known:
            raise ConfigError(f"{what} has no entry {key!r}{did_you_mean(str(key), known)}")
    for key in needed:
        if not settings.get(key):
            raise ConfigError(f"{what} needs an entry {key!r}")


def grouped(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Blocks of up to `BLOCK_ROWS` rows from smaller frames: a thousand small files must not be a thousand blocks."""
    waiting: list[pl.DataFrame] = []
    n_rows = 0
    for frame in frames:
        if waiting and n_rows + frame.height > BLOCK_ROWS:
            yield pl.concat(waiting, how="vertical_relaxed")
            waiting, n_rows = [], 0
        waiting.append(frame)
        n_rows += frame.height
    if waiting:
        yield pl.concat(waiting, how="vertical_relaxed")


def _read_entry(name: str, entry: Any) -> Entry:
    if isinstance(entry, str):
        return Entry(name, entry)
    if not isinstance(entry, Mapping):
        raise ConfigError(f"column {name} must be a name in the table or {{column: name, ...}}, got {entry!r}")
    check_keys(f"column {name}", entry, ("column", "unit", "kind", "format", "delay_s"), needed=("column",))
    read = Entry(name, **entry)
    units = EPOCH_UNITS if read.is_time else UNITS
    for key, value, known in (("unit", read.unit, units), ("kind", read.kind, KINDS)):
        if value is not None and value not in known:
            raise ConfigError(f"column {name}: {key} cannot be {value!r}{did_you_mean(str(value), known)}")
    if (read.format or read.delay_s) and not read.is_time:
        raise ConfigError(f"column {name}: format and delay_s are for times, whose names end in _at")
    return read


def _check_timezone(timezone: str) -> None:
    try:
        pl.Series([0]).cast(pl.Datetime("us", timezone))
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"timezone must be a name such as Europe/Madrid, got {timezone!r}") from error


def _kind_of(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Datetime):
        return "a time without a zone" if dtype.time_zone is None else "a time with a zone"
    if dtype.is_numeric():
        return "a number"
    return "text" if isinstance(dtype, pl.String | pl.Categorical | pl.Enum) else str(dtype)


def _convert(raw: pl.Series, entry: Entry, timezone: str | None, where: str, first_row: int) -> pl.Series:
    what = f"{where}: {entry.column}"
    if entry.is_time:
        delay_us = round(entry.delay_s * MICROSECONDS_PER_SECOND)
        read = read_times(raw, what, entry.unit, entry.format, timezone, first_row) + delay_us
    elif entry.kind == "text" or isinstance(raw.dtype, pl.Categorical | pl.Enum):
        read = raw.cast(pl.String)
    elif entry.kind == "number" or entry.unit is not None:
        read = _read_numbers(raw, what, first_row) * UNITS[entry.unit or "s"]
    else:
        read = raw.cast(pl.Float64) if raw.dtype.is_decimal() else raw
    return read.alias(entry.name)


def _read_numbers(raw: pl.Series, what: str, first_row: int) -> pl.Series:
    if raw.dtype.is_temporal() or raw.dtype.is_nested():  # Polars would cast a duration to a count of microseconds
        raise DataError(f"{what} must be a number, got {raw.dtype}")
    text = raw.str.strip_chars() if raw.dtype == pl.String else raw
    read = text.cast(pl.Float64, strict=False)
    check_all_read(raw, read, f"{what} must be a number", first_row)
    return read
