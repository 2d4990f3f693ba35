"""A table described: opened, looked at by column, guessed at. What the yaml and the page are written from."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from hailtime.describing.columns import Column, look_at
from hailtime.describing.guess import Guess
from hailtime.describing.periods import Clock, SplitPlan, guess_clock, plan_split, skipped_hours
from hailtime.describing.ranges import waits_range
from hailtime.describing.roles import Roles, find_roles
from hailtime.describing.table import SAMPLE_ROWS, Table, open_table


@dataclass(frozen=True)
class Description:
    """All guesses about one table."""

    name: str
    table: Table
    roles: Roles
    clock: Clock
    split: SplitPlan

    @property
    def columns(self) -> dict[str, Column]:
        return self.roles.columns

    @property
    def guesses(self) -> dict[str, Guess]:
        return self.roles.guesses

    @property
    def requested(self) -> Column | None:
        """The time of the request, None where there is none that can be loaded."""
        return _usable(self.roles.moments.requested)

    @property
    def arrived(self) -> Column | None:
        return _usable(self.roles.moments.arrived)

    @property
    def has_target(self) -> bool:
        return self.roles.moments.target is not None or (self.requested is not None and self.arrived is not None)

    @property
    def target_range_s(self) -> tuple[int, int]:
        """The believable pickup times, in seconds; a guess where there is no target."""
        target_s = self.roles.moments.target_s
        waits = None if target_s is None else target_s.filter(target_s > 0)
        low, high = (None, None) if waits is None else (waits.quantile(0.001), waits.quantile(0.999))
        return (1, 7200) if low is None or high is None else waits_range(low, high)

    @property
    def to_fill(self) -> list[str]:
        """What nobody but its owner can say, in words; the yaml holds ??? there."""
        if self.roles.conditions:
            return []
        gaps = []
        moments = self.roles.moments
        if self.requested is None:
            gaps.append(_say_gap("requested_at", "the time of the request", moments.requested, self._times))
        if not self.has_target:
            times = [name for name in self._times if moments.requested is None or name != moments.requested.name]
            gap = _say_gap("arrived_at", "the time the driver arrived", moments.arrived, times)
            gaps.append(f"{gap}; or the target itself: pickup_time_s: {{column: NAME, unit: min}}")
        if self.roles.id is None and self.requested is None:
            gaps.append("load.columns.request_id: a column that names a row")
        if not self.roles.of("number", "category", "pickup_lat", "driver_lat", "dropoff_lat"):
            gaps.append("load.columns and schema.columns: a number or a category that is known at the request")
        return gaps

    @property
    def _times(self) -> list[str]:
        return [name for name, column in self.columns.items() if column.kind == "time"]


def describe(path: str | Path, name: str, now: datetime, sample_rows: int = SAMPLE_ROWS) -> Description:
    """The table of a file, a folder or a glob. `now` tells which times lie in the future. DataError if unreadable."""
    table = open_table(path, sample_rows)
    roles = find_roles([look_at(table, column, now) for column in table.sample.columns])
    requested = roles.moments.requested
    clock = guess_clock(requested, roles.places)
    if requested is not None:
        found = skipped_hours(requested, clock.timezone)
        roles = replace(roles, columns=roles.columns | {requested.name: roles.columns[requested.name].suspect(found)})
    return Description(name, table, roles, clock, plan_split(requested, roles.moments.target_s))


def _usable(time: Column | None) -> Column | None:
    return None if time is None or time.reading.trouble else time


def _say_gap(key: str, what: str, found: Column | None, times: list[str]) -> str:
    if found is not None:
        return f"load.columns.{key}: {found.name} would be {what}, but {found.reading.trouble}"
    return f"load.columns.{key}: {what}; times in the table: {', '.join(times) or 'none'}"
