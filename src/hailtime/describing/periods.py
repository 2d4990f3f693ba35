"""How a table could be cut in time, and which zone its clock is in: suggestions with their reasons."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise

import polars as pl

from hailtime.describing.columns import Column
from hailtime.describing.places import Place, guess_timezone
from hailtime.describing.ranges import round_up_s
from hailtime.describing.suspicious import Suspicion
from hailtime.schema import MICROSECONDS_PER_SECOND

_SHARES = ((0.70, 0.78, 0.85), (0.60, 0.75, 0.85))
_DATES_FROM_DAYS = 60  # of shorter tables a date is too coarse a cut
_DAY_US = 86_400 * MICROSECONDS_PER_SECOND
_KEPT = 0.5  # of each part's rows must lie outside the gaps
_SHORTEST_GAPS = (3600, 1800, 1200, 900, 600, 300, 120, 60, 30, 10, 0)


@dataclass(frozen=True)
class SplitPlan:
    """The boundaries as the yaml writes them, the gap, and why."""

    boundaries: tuple[str, str, str]
    gap_s: int
    why: str
    gap_why: str


@dataclass(frozen=True)
class Clock:
    """The time zone to write, and why."""

    timezone: str
    why: str


def plan_split(requested: Column | None, target_s: pl.Series | None) -> SplitPlan:
    """Dates for months of data, else shares; the gap is P99.9 of the waits unless the table is too short for it."""
    times = None if requested is None else _believable(requested.values)
    waits = None if target_s is None else target_s.filter(target_s > 0)
    longest = None if waits is None else waits.quantile(0.999)
    wanted = round_up_s(longest) if longest is not None else 3600
    gap_why = "P99.9 of the pickup times, rounded up" if longest is not None else "a guess: the longest pickup time"
    if times is None or len(times) == 0:
        return _by_shares(_SHARES[0], wanted, gap_why)
    span_days = (int(times[-1]) - int(times[0])) / _DAY_US
    if span_days >= _DATES_FROM_DAYS:
        dates = tuple(str(_day_of(int(times[int(share * len(times))]))) for share in _SHARES[0])
        if len(set(dates)) == 3:
            return SplitPlan(
                (dates[0], dates[1], dates[2]), wanted, f"dates near 70, 78 and 85 % of {span_days:.0f} days", gap_why
            )
    for gap_s in (wanted, *(gap for gap in _SHORTEST_GAPS if gap < wanted)):
        for shares in _SHARES:
            if _keeps_enough(times, shares, gap_s):
                less = f"{wanted} s would be {gap_why}, but leaves too little of {_span(span_days)}"
                return _by_shares(shares, gap_s, gap_why if gap_s == wanted else less)
    return _by_shares(_SHARES[1], 0, "the rows are too close in time for a gap")


def guess_clock(requested: Column | None, places: Sequence[Place]) -> Clock:
    """The zone from the coordinates; else what the rhythm of the day says."""
    by_place = guess_timezone(places)
    quiet = None if requested is None else quietest_hour(requested.values)
    is_wall = requested is not None and requested.reading.time is not None and requested.reading.time.is_wall
    rhythm = "" if quiet is None else _say_rhythm(quiet, is_wall)
    if by_place is not None:
        return Clock(by_place[0], by_place[1] + rhythm)
    if quiet is not None and not is_wall:
        ahead = (4 - quiet + 12) % 24 - 12  # a city is quietest at about 4
        zone = f"Etc/GMT{-ahead:+d}" if ahead else "UTC"
        return Clock(zone, f"a guess by the rhythm{rhythm}, as at 4 h in UTC{ahead:+d}: put the city's zone")
    return Clock("UTC", f"not known: no coordinate says where; put the city's zone{rhythm}")


def _say_rhythm(quiet: int, is_wall: bool) -> str:
    if not is_wall:
        return f"; quietest at {quiet} h UTC"
    fits = "as a city's own clock is" if 2 <= quiet <= 6 else "so likely not the city's own clock but UTC"
    return f"; quietest at {quiet} h, {fits}"


def quietest_hour(times_us: pl.Series) -> int | None:
    """The hour in the middle of the three with the fewest rows; None where there is no rhythm to see."""
    times = _believable(times_us)
    if len(times) < 500 or int(times[-1]) - int(times[0]) < 2 * _DAY_US:
        return None
    counts = [0] * 24
    for hour, n in (times % _DAY_US // (3600 * MICROSECONDS_PER_SECOND)).value_counts().rows():
        counts[int(hour)] = n
    three = [counts[hour - 1] + counts[hour] + counts[(hour + 1) % 24] for hour in range(24)]
    return three.index(min(three)) if min(three) < 0.6 * sum(three) / 24 else None


def skipped_hours(column: Column, timezone: str) -> list[Suspicion]:
    """Wall times in the hour that spring skips: the zone is another one, or the clock did not follow it."""
    if column.reading.time is None or not column.reading.time.is_wall:
        return []
    wall = column.values.cast(pl.Datetime("us"))
    placed = wall.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    n_skipped = placed.null_count() - wall.null_count()
    text = f"in an hour that spring skips in {timezone}: the zone is another one, or the clock stood still"
    return [Suspicion(text, n_skipped / len(wall))] if n_skipped else []


def _believable(times_us: pl.Series) -> pl.Series:
    """In order, without the clocks that were never set: P0.1 to P99.9 of 2000 to 2100."""
    first, last = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * MICROSECONDS_PER_SECOND for year in (2000, 2100))
    times = times_us.filter((times_us >= first) & (times_us < last)).sort()
    n_cut = len(times) // 1000
    return times[n_cut : len(times) - n_cut]


def _by_shares(shares: tuple[float, float, float], gap_s: int, gap_why: str) -> SplitPlan:
    first, second, third = (f"{share:.2f}" for share in shares)
    return SplitPlan((first, second, third), gap_s, "shares of the rows in time order", gap_why)


def _keeps_enough(times: pl.Series, shares: tuple[float, float, float], gap_s: int) -> bool:
    edges = [0, *(int(share * len(times)) for share in shares)]
    for first, end in pairwise(edges):
        part = times[first:end]
        if len(part) == 0 or (part < int(times[end]) - gap_s * MICROSECONDS_PER_SECOND).sum() < _KEPT * len(part):
            return False
    return int(times[edges[1]]) < int(times[edges[2]]) < int(times[edges[3]])


def _span(days: float) -> str:
    return f"{days:.1f} days" if days >= 1 else f"{days * 24:.1f} hours"


def _day_of(time_us: int) -> date:
    """The nearest midnight's."""
    return datetime.fromtimestamp((time_us + _DAY_US // 2) // MICROSECONDS_PER_SECOND, UTC).date()
