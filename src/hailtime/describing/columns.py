"""One column with all that is known about it before anybody asks what it is for."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from hailtime.describing import suspicious
from hailtime.describing.kinds import COUNT_WORDS, Kind, Reading, judge
from hailtime.describing.names import says, unit_in
from hailtime.describing.suspicious import Suspicion, is_coordinate, sentinels_in
from hailtime.describing.table import Table, distinct_of


@dataclass(frozen=True)
class Column:
    """A column of the table.

    - values: the sample as the reading has it, less what stands for "not given"
    - low, high: P0.1 and P99.9 of numbers and times, None for words
    - missing, distinct, unique: share without a value, how many values there are, distinct ones a value looked at
    - unit: what the name says, or the size of the numbers, and None where neither does
    """

    name: str
    dtype: str
    reading: Reading
    values: pl.Series
    missing: float
    distinct: int
    unique: float
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    unit_why: str = ""
    suspicions: tuple[Suspicion, ...] = ()

    @property
    def kind(self) -> Kind:
        return self.reading.kind

    @property
    def is_category(self) -> bool:
        return self.kind in ("code", "flag", "text")

    @property
    def is_constant(self) -> bool:
        return self.distinct == 1

    @property
    def is_whole(self) -> bool:
        """Whether a number never has a fraction."""
        known = self.values.drop_nulls()
        return bool((known == known.round()).all())

    def suspect(self, found: Iterable[Suspicion]) -> "Column":
        return replace(self, suspicions=(*self.suspicions, *found))


def look_at(table: Table, name: str, now: datetime) -> Column:
    """Everything about one column that needs no other one."""
    reading = judge(table, name)
    raw, facts = table.sample[name], table.facts[name]
    values, low, high = reading.values, None, None
    found = suspicious.in_texts(reading, raw, table.is_csv)
    if reading.kind == "number":
        marks = sentinels_in(values)
        found += suspicious.in_numbers(values, marks, is_coordinate(name), facts.high)
        values = _less(values, [*marks, 0.0] if is_coordinate(name) else marks)
        low, high = values.quantile(0.001), values.quantile(0.999)
    if reading.kind == "time":
        found += suspicious.in_times(values, now)
        low, high = values.quantile(0.001), values.quantile(0.999)
    unit, unit_why = _unit_of(name, high) if reading.kind == "number" else (None, "")
    distinct, unique = _distinct(table, name, values)
    if distinct == 1:
        found.append(Suspicion("one and the same value in every row", 1.0))
    missing = min(1.0, facts.n_missing / table.n_rows + (values.null_count() - raw.null_count()) / max(len(raw), 1))
    return Column(
        name,
        _type_text(raw.dtype),
        reading,
        values,
        max(missing, 0.0),
        distinct,
        unique,
        low,
        high,
        unit,
        unit_why,
        tuple(found),
    )


def _type_text(dtype: pl.DataType) -> str:
    """As the file has it: `datetime` rather than Polars' own words."""
    if isinstance(dtype, pl.Datetime):
        return "datetime" if dtype.time_zone is None else f"datetime, {dtype.time_zone}"
    return "text" if dtype == pl.String else str(dtype).partition("(")[0].lower()


def _less(numbers: pl.Series, marks: list[float]) -> pl.Series:
    return pl.select(pl.when(~numbers.is_in(marks)).then(numbers)).to_series().alias(numbers.name)


def _distinct(table: Table, name: str, values: pl.Series) -> tuple[int, float]:
    known = values.drop_nulls()
    distinct = known.n_unique()
    if not table.is_sampled or distinct < 0.5 * len(known) or values.dtype != pl.String:
        return distinct, distinct / max(len(known), 1)
    looked, different = distinct_of(table, name)
    share = different / max(looked, 1)
    return round(share * (table.n_rows - table.facts[name].n_missing)), share


def _unit_of(name: str, high: float | None) -> tuple[str | None, str]:
    """From the name; a temperature's from its size."""
    unit = unit_in(name)
    if unit is not None:
        return unit, "by its name"
    if says(name, COUNT_WORDS):
        return "1", "a count or a share, by its name"
    lowered = name.lower()
    if high is not None and ("temp" in lowered or "dewpoint" in lowered):
        # 50 °C was never measured in a city, 50 °F is a spring day anywhere
        return ("degF", f"a temperature up to {high:g}") if high > 50 else ("degC", f"a temperature up to {high:g}")
    return None, ""
