"""What the views look at, and the span of time that they tell of, in the city's own clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from hailtime.clock import now, speed
from hailtime.errors import DataError, HailtimeError
from hailtime.monitoring.accuracy import measures
from hailtime.monitoring.hours import HOUR_S
from hailtime.monitoring.log_source import LogSource
from hailtime.monitoring.models import live_model
from hailtime.monitoring.settings import MonitorSettings
from hailtime.monitoring.store import MonitorStore
from hailtime.serving.history import Change, read_history

DAY_S = 86_400
DAILY_FROM = 9  # days: more, and a point is a day; 8 days of hours are 192 points, which a screen can show
STALE_S = 60  # a pass over a large log may take so long
FILES = Path(__file__).parent / "files"


@dataclass(frozen=True)
class Span:
    """The last days of the log in UTC seconds; a point on a time axis is an hour, or a local day where they are many.

    - version: when only what one version answered is told
    """

    since_s: int
    until_s: int
    now_s: float
    timezone: str
    is_daily: bool
    label_delay_s: float
    version: str | None = None

    def timed(self, sums: pl.DataFrame) -> pl.DataFrame:
        """With `bucket_s`, the begin of the point that an hour belongs to, its local hour of day, and `slice`, which
        is the same in all rows, to add them up by.
        """
        local = self._local("hour_s")
        begin = local.dt.truncate("1d") if self.is_daily else local
        return sums.with_columns(bucket_s=begin.dt.epoch("s"), local_hour=local.dt.hour(), slice=pl.lit(""))

    def measures(self, sums: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
        """Of `accuracy.measures`, with `time` as local text where the points are along time."""
        found = measures(sums, by, self.now_s, self.label_delay_s)
        if "bucket_s" not in by:
            return found
        pattern = "%Y-%m-%d" if self.is_daily else "%Y-%m-%d %H:%M"
        return found.with_columns(time=self._local("bucket_s").dt.strftime(pattern))

    def text(self, at_s: float, pattern: str = "%Y-%m-%d %H:%M") -> str:
        """A moment in the city's clock."""
        return datetime.fromtimestamp(at_s, ZoneInfo(self.timezone)).strftime(pattern)

    def _local(self, name: str) -> pl.Expr:
        return pl.from_epoch(name, "s").dt.replace_time_zone("UTC").dt.convert_time_zone(self.timezone)


class Watched:
    """The store, the log and the repository, each opened when a view asks. HailtimeError says which is not there.

    Nothing is ever written.
    """

    def __init__(self, settings: MonitorSettings, clock: Callable[[], float] = now) -> None:
        self.settings, self.now_s = settings, clock

    def store(self) -> MonitorStore:
        if not self.settings.store.is_file():
            raise DataError(
                f"Nothing has been read yet: there is no {self.settings.store}. "
                "`python scripts/monitor.py read` makes it from the log."
            )
        return MonitorStore(self.settings.store, read_only=True)

    def totals(self, span: Span, by: Sequence[str], slice_name: str = "") -> pl.DataFrame:
        """The sums of a span by what is asked for, each with its point in time."""
        return span.timed(self.store().totals(by, slice_name, span.since_s, span.until_s, span.version))

    def source(self) -> LogSource:
        return LogSource(self.settings.log)

    def timezone(self) -> str:
        """The city's, from the live model; UTC while none is live."""
        try:
            return live_model(self.settings.repository).schema.timezone
        except HailtimeError:
            return "UTC"

    def changes(self) -> list[Change]:
        """What was released when; none where the repository cannot be read."""
        try:
            return read_history(self.settings.repository)
        except (HailtimeError, OSError):
            return []

    def span(self, days: float) -> Span:
        """The last days: back from now, or from the newest hour where requests have stopped coming."""
        known = self.store().span()
        if known is None:
            raise DataError(f"No request is in the log yet ({self.settings.log}). As soon as one is, it shows here.")
        now_s = self.now_s()
        until_s = min(int(now_s), known[1] + HOUR_S)
        since_s = max(int(until_s - days * DAY_S) // HOUR_S * HOUR_S, known[0])
        return self.between(since_s, until_s)

    def between(self, since_s: float, until_s: float, version: str | None = None) -> Span:
        """From one moment to another."""
        is_daily = until_s - since_s >= DAILY_FROM * DAY_S
        delay_s = self.settings.label_delay_s
        return Span(int(since_s), int(until_s), self.now_s(), self.timezone(), is_daily, delay_s, version)

    def trouble(self, span: Span) -> str | None:
        """What keeps the figures from being of now; None while passes over the log succeed."""
        store = self.store()
        said, read_at_s = store.state("trouble", None), store.state("read_at_s", None)
        if said:
            return f"The last pass over the log failed: {said}"
        patience_s = max(STALE_S, 10 * self.settings.every_s) * speed()  # passes come by the real clock
        if read_at_s is None or span.now_s - read_at_s < patience_s:
            return None
        return (
            f"Nothing was read since {span.text(read_at_s, '%Y-%m-%d %H:%M:%S')}: scripts/monitor.py serve or "
            "read --on has ended, or it cannot write its store, as on a full disk; its own words say which."
        )

    def marks(self, span: Span) -> list[dict[str, str]]:
        """The releases within a span, for every time axis."""
        told = [(datetime.fromisoformat(change.at).astimezone(UTC).timestamp(), change) for change in self.changes()]
        return [
            {"time": span.text(at_s), "text": _mark(change)}
            for at_s, change in told
            if span.since_s <= at_s < span.until_s and change.action != "refuse"
        ]


def _mark(change: Change) -> str:
    percent = f", {change.plan.canary_percent:g} %" if change.plan and change.action == "canary" else ""
    return f"{change.action} {change.version}{percent}"


def plain(frame: pl.DataFrame, names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns as lists, seconds and shares rounded to what a picture shows."""
    rounded = frame.select(names).with_columns(pl.col(pl.Float64).round(4))
    return rounded.to_dict(as_series=False)
