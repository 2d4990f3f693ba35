"""Counts and means of the last minutes: what was observed in (t - window, t] and known at t, in the request's key.

Every event is a span in which it is inside the window and known; it adds its weights where the span begins and takes
them away where it ends, and the value at t is a running total. Weights are integers, values in thousandths of their
unit: so the same on every engine, in any order of rows and blocks. A mean without an event is null, a count is 0.

Over the trips themselves a request counts from the microsecond after it was made, so that requests of one instant do
not see each other, and a pickup counts once it is over and, `delay_us` later, in the log.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import narwhals as nw

from hailtime.errors import DataError
from hailtime.preparation.conform import AnyFrame, Kind
from hailtime.preparation.exact import LARGEST_VALUE, THOUSANDTHS, later, mean_of, to_whole
from hailtime.preparation.join_settings import Trailing
from hailtime.preparation.known import FROM, KEY, UNTIL, join_steps, not_over_before, read_rows, spans_in_force
from hailtime.schema import MICROSECONDS_PER_SECOND, Schema

_CLOCKS = ("observed_at", "known_at")


class TrailingJoin:
    """A window over a table of conditions, worked out once. `steps`: KEY, FROM and the columns from then on."""

    def __init__(self, entry: Trailing, table: AnyFrame, requested_at: str, since_us: int | None = None) -> None:
        self.entry, self.requested_at = entry, requested_at
        self.needs = [requested_at, *([] if entry.key is None else [entry.key])]
        spans = _spans_of_rows(_read(entry, table, since_us), entry)
        self._changes: Any = _changes(spans, entry)
        self.steps = _steps(self._changes, entry) if isinstance(self._changes, nw.DataFrame) else None

    def join(self, trips: Any, asked: Any) -> Any:
        if self.steps is not None:
            return _join_steps(trips, self.steps, self.entry, self.requested_at)
        return _join_changes(trips, asked, self._changes, self.entry, self.requested_at)


class TrailingTripsJoin:
    """A window over the trips themselves. Of the blocks before it keeps the events that a later request may count."""

    def __init__(self, entry: Trailing, schema: Schema) -> None:
        self.entry, self.schema = entry, schema
        self.needs = [schema.requested_at, schema.target, *([] if entry.key is None else [entry.key])]
        self._open: nw.DataFrame[Any] | None = None
        self._last: int | None = None
        self._is_over = False

    def join(self, trips: Any, asked: Any) -> Any:
        """DataError when a block does not follow the one before it."""
        events: Any = _spans_of_trips(asked, self.entry, self.schema)
        if isinstance(trips, nw.LazyFrame):
            if self._is_over:
                raise DataError(f"{self.entry.name} looks back on the trips, and lazy trips must come in one block")
            self._is_over = True
            return _join_changes(trips, asked, _changes(events, self.entry), self.entry, self.schema.requested_at)
        if self._open is not None:
            events = nw.concat([self._open, events])
        self._keep_open(trips, events)
        return _join_steps(
            trips, _steps(_changes(events, self.entry), self.entry), self.entry, self.schema.requested_at
        )

    def _keep_open(self, trips: nw.DataFrame[Any], events: nw.DataFrame[Any]) -> None:
        if not len(trips):
            return
        asked = trips[self.schema.requested_at]
        if self._last is not None and asked[0] <= self._last:
            raise DataError(
                f"{self.entry.name} looks back on the trips, so a block must begin after the last request of the one "
                f"before, {self._last}, got {asked[0]}: cut blocks in time order between two times"
            )
        self._last = int(asked[-1])
        self._open = events.filter(nw.col(UNTIL) > self._last)


def _read(entry: Trailing, table: AnyFrame, since_us: int | None) -> AnyFrame:
    kinds: dict[str, Kind] = {name: "number" for name in entry.measured if name not in _CLOCKS}
    same: list[str] = []
    if entry.id is not None:
        kinds[entry.id], same = "text", [entry.id]
    rows = read_rows(table, entry.table, kinds, entry.key, needed=same)
    return not_over_before(rows, since_us, _CLOCKS if same else _CLOCKS[:1], entry.id)


def _spans_of_rows(rows: AnyFrame, entry: Trailing) -> AnyFrame:
    """When each row is in the window and known. Rows of one key and time, or of one id, are about the same thing."""
    same = [KEY, "observed_at"] if entry.id is None else [entry.id]
    numbers = [name for name in entry.measured if name not in (*_CLOCKS, entry.id)]
    end = nw.col("observed_at") + entry.window_us
    spans = spans_in_force(rows, same, end, ["observed_at", KEY, *numbers])
    return spans.select(KEY, FROM, UNTIL, *_weights(entry, {name: name in numbers for name in entry.measured}))


def _spans_of_trips(trips: AnyFrame, entry: Trailing, schema: Schema) -> AnyFrame:
    """When each request, and each pickup, is in the window and known."""
    asked, taken_s = nw.col(schema.requested_at), nw.col(schema.target)
    key = nw.lit("") if entry.key is None else nw.col(entry.key)
    rows = trips.select(key.alias(KEY), asked, schema.target).drop_nulls([KEY])
    events: list[Any] = []
    for name in entry.measured:
        is_pickup = name == schema.target
        span = span_of_pickup(entry, asked, taken_s) if is_pickup else span_of_request(entry, asked)
        some = rows.filter(taken_s.abs() <= LARGEST_VALUE) if is_pickup else rows
        begin, end = span
        events.append(some.select(KEY, begin.alias(FROM), end.alias(UNTIL), *_weights(entry, {name: is_pickup})))
    return cast(AnyFrame, nw.concat(events).filter(nw.col(FROM) < nw.col(UNTIL)))


def span_of_request(entry: Trailing, asked_us: Any) -> tuple[Any, Any]:
    """From when on and until when a request counts: expressions or whole numbers."""
    return asked_us + 1, asked_us + entry.window_us


def span_of_pickup(entry: Trailing, asked_us: Any, taken_s: Any) -> tuple[Any, Any]:
    """The same for a pickup: it counts once it is over and in the log, and never at its own request."""
    arrived = asked_us + to_whole(taken_s, MICROSECONDS_PER_SECOND)
    return later(arrived + entry.delay_us, asked_us + 1), arrived + entry.window_us


def totals_of(entry: Trailing) -> list[tuple[str, str]]:
    """What is totalled, as the total's name and the column: `n` values, and the sum of those that are averaged."""
    numbered = list(enumerate(entry.measured))
    sums = [(f"_sum{place}", name) for place, name in numbered if name in entry.averaged]
    return [*((f"_n{place}", name) for place, name in numbered), *sums]


def _names(entry: Trailing) -> list[str]:
    return [total for total, _ in totals_of(entry)]


def _weights(entry: Trailing, has_value: Mapping[str, bool]) -> list[nw.Expr]:
    """What a row adds to each total, for the columns in `has_value`: true where its value matters."""
    weights = []
    for total, name in totals_of(entry):
        weight = _whole(0)
        if name in has_value:
            weight = _weight_of(nw.col(name), total) if has_value[name] else _whole(1)
        weights.append(weight.alias(total))
    return weights


def _weight_of(value: nw.Expr, total: str) -> nw.Expr:
    """Values larger than any sum can hold are none."""
    is_value = (value.abs() <= LARGEST_VALUE).fill_null(False)
    if total.startswith("_n"):
        return is_value.cast(nw.Int64)
    return to_whole(nw.when(is_value).then(value).otherwise(nw.lit(0.0)), THOUSANDTHS)  # type: ignore[no-any-return]


def _whole(value: int) -> nw.Expr:
    return nw.lit(value).cast(nw.Int64)


def _changes(spans: AnyFrame, entry: Trailing) -> Any:
    """KEY, FROM and what is added to each total at that moment."""
    totals = _names(entry)
    begins: Any = spans.select(KEY, FROM, *totals)
    ends: Any = spans.select(KEY, nw.col(UNTIL).alias(FROM), *((0 - nw.col(total)).alias(total) for total in totals))
    return nw.concat([begins, ends])


def _steps(changes: nw.DataFrame[Any], entry: Trailing) -> nw.DataFrame[Any]:
    """The joined columns from each change on, ordered by FROM. Of changes at one moment the last has the whole sum."""
    changes = changes.sort(FROM)
    changes = changes.with_columns(nw.col(total).cum_sum().over(KEY) for total in _names(entry))
    return changes.select(KEY, FROM, *_values(entry))


def _values(entry: Trailing) -> list[nw.Expr]:
    values = []
    for measure in entry.columns:
        place = entry.measured.index(measure.of)
        n = nw.col(f"_n{place}")
        is_count = measure.how == "count"
        value = n.cast(nw.Float64) if is_count else nw.when(n > 0).then(mean_of(nw.col(f"_sum{place}"), n))
        values.append(value.alias(measure.name))
    return values


def _join_steps(
    trips: nw.DataFrame[Any], steps: nw.DataFrame[Any], entry: Trailing, requested_at: str
) -> nw.DataFrame[Any]:
    joined = join_steps(trips, steps, requested_at, entry.key, entry.window_us)
    return cast(nw.DataFrame[Any], _counted(joined, entry))


def _join_changes(
    trips: nw.LazyFrame[Any], asked: Any, changes: Any, entry: Trailing, requested_at: str
) -> nw.LazyFrame[Any]:
    """Without an as-of join: requests become changes of nothing, and the running total at them is the answer."""
    shared = [requested_at, *([] if entry.key is None else [entry.key])]
    totals = _names(entry)
    key = nw.lit("") if entry.key is None else nw.col(entry.key)
    asked = asked.select(
        key.alias(KEY), nw.col(requested_at).alias(FROM), *(_whole(0).alias(total) for total in totals)
    )
    moments = nw.concat([changes, asked.drop_nulls()]).group_by(KEY, FROM).agg(nw.col(*totals).sum())
    moments = moments.with_columns(nw.col(total).cum_sum().over(KEY, order_by=FROM) for total in totals)
    answers = moments.select(*_shared_of(moments, shared), *_values(entry))
    return cast(nw.LazyFrame[Any], _counted(trips.join(answers, on=shared, how="left"), entry))


def _shared_of(moments: AnyFrame, shared: Sequence[str]) -> list[nw.Expr]:
    """The columns of moments under the names they have in the trips: the time, then the key where there is one."""
    return [nw.col(ours).alias(theirs) for ours, theirs in zip((FROM, KEY), shared, strict=False)]


def _counted(joined: AnyFrame, entry: Trailing) -> AnyFrame:
    """The same rows with counts from 0: a count is null only where the key is."""
    counts = [nw.col(measure.name).fill_null(0.0) for measure in entry.columns if measure.how == "count"]
    if entry.key is not None:
        counts = [nw.when(~nw.col(entry.key).is_null()).then(count) for count in counts]
    return joined.with_columns(*counts) if counts else joined  # a lazy frame wants one column at least
