"""Values that are likely faults: words and numbers that stand for "not given", clocks never set, coordinates at 0."""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from hailtime.describing.kinds import NOT_GIVEN, Reading
from hailtime.describing.names import says
from hailtime.schema import MICROSECONDS_PER_SECOND

# Numbers written for "not given" where nothing may be empty; each must also stand apart from all other values.
SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0)
_SPIKE = 0.2  # of a number with many values: so many alike are a default
_FIRST_YEAR = 2000


@dataclass(frozen=True)
class Suspicion:
    """What looks wrong, in words, and the share of the rows it is about."""

    text: str
    share: float = 0.0


def sentinels_in(numbers: pl.Series) -> list[float]:
    """The numbers that mean "not given": a known one, in at least 3 rows, far outside what the others span."""
    known = numbers.drop_nulls()
    found: list[float] = []
    for value in SENTINELS:
        rest = known.filter(~known.is_in([*found, value]))
        if (known == value).sum() < 3 or len(rest) < 3:
            continue
        low, high = float(rest.quantile(0.001) or 0.0), float(rest.quantile(0.999) or 0.0)
        spread = max(high - low, abs(high) * 0.1, 1e-9)
        if (value < 0 <= low) or value > high + spread:
            found.append(value)
    return found


def in_numbers(numbers: pl.Series, sentinels: list[float], is_coordinate: bool, top: float | None) -> list[Suspicion]:
    """Faults of a column of numbers; `top` is the greatest of all rows where they were asked."""
    n_rows, known = len(numbers), numbers.drop_nulls()
    found = [
        Suspicion(f"{value:g} stands apart: likely 'not given'", int((known == value).sum()) / n_rows)
        for value in sentinels
    ]
    n_zero = int((known == 0).sum())
    if is_coordinate and n_zero:
        found.append(Suspicion("0 as a coordinate: no position", n_zero / n_rows))
    others = known.filter(~known.is_in([*sentinels, 0.0]))
    if len(others) == 0:
        return found
    if others.n_unique() > 50:
        often = others.value_counts(sort=True).row(0)
        if often[1] / len(others) > _SPIKE and often[1] / n_rows > 0.05:
            found.append(Suspicion(f"{often[0]:g} is the value of very many rows: a default?", often[1] / n_rows))
    high = float(others.quantile(0.999) or 0.0)
    top = float(others.max() or 0.0) if top is None else top  # type: ignore[arg-type]
    if top not in sentinels and high > 0 and top > 20 * high:
        found.append(Suspicion(f"the greatest is {top:g}, P99.9 is {high:g}: another unit or a fault"))
    return found


def in_times(times_us: pl.Series, now: datetime) -> list[Suspicion]:
    """Clocks never set, and times to come."""
    n_rows = len(times_us)
    first, last = _us(datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC)), _us(now) + 86_400 * MICROSECONDS_PER_SECOND
    old, new = times_us.filter(times_us < first), times_us.filter(times_us > last)
    found = []
    if len(old):
        found.append(Suspicion(f"before {_FIRST_YEAR}, such as {_day(old)}: a clock never set", len(old) / n_rows))
    if len(new):
        found.append(Suspicion(f"in the future, such as {_day(new)}", len(new) / n_rows))
    believable = times_us.filter((times_us >= first) & (times_us <= last))
    if len(believable) and (believable % (86_400 * MICROSECONDS_PER_SECOND) == 0).all():
        found.append(Suspicion("all at midnight: a day, not a time", 1.0))
    return found


def in_texts(reading: Reading, raw: pl.Series, is_csv: bool) -> list[Suspicion]:
    """Words for "not given" that stay words in a Parquet file, and codes kept as fractions."""
    if raw.dtype not in (pl.String, pl.Categorical) and not isinstance(raw.dtype, pl.Enum):
        fractions = reading.kind in ("code", "flag") and bool(reading.values.drop_nulls().str.ends_with(".0").any())
        if not fractions:
            return []
        value = reading.values.drop_nulls()[0]
        return [Suspicion(f"kept as a fraction: becomes the text {value!r}, and so must a request write it")]
    texts, n_rows = raw.cast(pl.String), len(raw)
    found = []
    for word in (*NOT_GIVEN, *(word for word in reading.words if word not in NOT_GIVEN)):
        n_hits = int((texts == word).sum())
        if n_hits:
            fate = "read as missing" if is_csv else "stays a word of its own: make it null in the file"
            found.append(Suspicion(f"{word!r} for 'not given': {fate}", n_hits / n_rows))
    return found


def is_coordinate(name: str) -> bool:
    return says(name, ("lat", "latitude", "lon", "lng", "long", "longitude")) is not None


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * MICROSECONDS_PER_SECOND


def _day(times_us: pl.Series) -> str:
    return str(times_us.head(1).cast(pl.Datetime("us")).dt.date().item())
