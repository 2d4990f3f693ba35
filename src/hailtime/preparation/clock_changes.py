"""The hours in which a city's wall clock says too little: the one that autumn repeats, the one that spring skips."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from hailtime.errors import ConfigError
from hailtime.schema import MICROSECONDS_PER_SECOND

_HALF_HOUR = timedelta(minutes=30)
HALF_HOUR_US = 1800 * MICROSECONDS_PER_SECOND  # the shortest step a clock is changed by (Lord Howe Island)
_WEEK = timedelta(days=7)  # no zone changes its clock twice in one
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache
def doubtful_half_hours(timezone: str, first_year: int, last_year: int) -> tuple[int, ...]:
    """Half hours since 1970 in which a wall time of a doubtful hour is read as UTC (`sources.clock_times`).

    Of the two passes in autumn a wall time is read as the first, which ends with the change; a time that spring skips
    is read as an hour later, in the hour after the change.
    """
    found: list[int] = []
    for change, gained in clock_changes(timezone, first_year, last_year):
        start, end = (change, change + gained) if gained > timedelta(0) else (change + gained, change)
        found.extend(range((start - _EPOCH) // _HALF_HOUR, -((_EPOCH - end) // _HALF_HOUR)))
    return tuple(found)


def clock_changes(timezone: str, first_year: int, last_year: int) -> Iterator[tuple[datetime, timedelta]]:
    """When the clock was changed, to the minute in UTC, and how far it was put forward (back: below 0)."""
    try:
        zone = ZoneInfo(timezone)
    except (KeyError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ConfigError(f"schema.timezone must be an IANA name such as Europe/Berlin, got {timezone!r}") from error
    moment, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(last_year, 1, 1, tzinfo=UTC)
    while moment < end:
        later = moment + _WEEK
        gained = _offset(later, zone) - _offset(moment, zone)
        if gained:
            yield _change_between(moment, later, zone), gained
        moment = later


def _change_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    while after - before > timedelta(minutes=1):
        middle = before + (after - before) // 2
        middle = middle.replace(second=0, microsecond=0)
        middle = max(middle, before + timedelta(minutes=1))
        if _offset(middle, zone) == _offset(before, zone):
            before = middle
        else:
            after = middle
    return after


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset
