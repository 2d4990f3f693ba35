"""Which time is the request, which the arrival, and whether the table holds the seconds between them already."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from hailtime.describing.columns import Column
from hailtime.describing.guess import Guess, Sure
from hailtime.describing.names import says, unit_in
from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources.columns import UNITS

_REQUESTED = ("request", "created", "called", "call", "booked", "booking", "order", "incident", "asked", "placed")
_ON_SCENE = ("onscene", "arrive", "arrival", "arriving", "atscene", "reached")
_PICKED_UP = ("pickup", "pickedup", "boarded", "onboard", "started", "begin", "begun")
_MATCHED = ("accept", "assigned", "dispatch", "matched", "enroute")
_AFTERWARDS = ("dropoff", "dropped", "complete", "finish", "ended", "end", "closed", "cleared", "hospital", "updated",
               "modified", "inserted", "exported", "paid", "scheduled", "known", "published", "issued",
               "available", "observed")  # fmt: skip
_WAITS = ("waittime", "waiting", "wait", "response", "timetopickup", "pickuptime", "arrivaltime", "timetoarriv",
          "pickupdelay", "pickupseconds", "pickupminutes", "ata", "etaactual", "actualeta")  # fmt: skip
_DURATIONS = ("s", "min", "h", "ms")
_MATCH = 0.9  # of the rows must agree
_MOST_AFTER = 0.8
_LONGEST_S = 6 * 3600
_TOO_OFTEN_MISSING = 0.05


@dataclass(frozen=True)
class Moments:
    """The times of a row and the target.

    - target_s: the sample's seconds from request to arrival, None where nothing says them
    - target: the column that holds them, or None where they are the difference of the two times
    - guesses: by column name, of every time, and of the target's column
    """

    guesses: dict[str, Guess]
    requested: Column | None
    arrived: Column | None
    target: Column | None = None
    target_unit: str = "s"
    target_s: pl.Series | None = None


def find_moments(columns: Sequence[Column]) -> Moments:
    """The request, the arrival and the target among the columns."""
    times = [column for column in columns if column.kind == "time" and not column.is_constant]
    numbers = [column for column in columns if column.kind == "number"]
    requested, asked = _find_requested(times, has_wait=any(_wait_by_name(c) for c in numbers))
    arrived, came = _find_arrived(times, requested)
    guesses = {c.name: Guess("left out", _why_no_role(c, requested), "likely") for c in times}
    if requested is not None:
        guesses[requested.name] = asked
    if arrived is not None:
        guesses[arrived.name] = came
    if arrived is not None and says(arrived.name, _PICKED_UP):
        why = "the arrival where it is reported, missing too often: the pickup is taken"
        guesses |= {c.name: Guess("left out", why) for c in times if says(c.name, _ON_SCENE) and c is not arrived}
    difference_s = None if arrived is None or requested is None else seconds_between(requested, arrived)
    target, unit, guess = _find_target(numbers, difference_s)
    if target is not None and guess is not None:
        guesses[target.name] = guess
        return Moments(guesses, requested, arrived, target, unit, target.values * UNITS[unit])
    return Moments(guesses, requested, arrived, target_s=difference_s)


def seconds_between(first: Column, then: Column) -> pl.Series:
    """Seconds from one time to the other, row by row."""
    return (then.values - first.values) / MICROSECONDS_PER_SECOND


def _find_requested(times: Sequence[Column], has_wait: bool) -> tuple[Column | None, Guess]:
    """By name, and earliest of the row; a pickup is no request, even where it is the first time there is."""
    nobody = Guess("left out", "")
    named = [c for c in times if says(c.name, _REQUESTED) and not says(c.name, (*_AFTERWARDS, *_ON_SCENE))]
    neutral = [c for c in times if not says(c.name, (*_AFTERWARDS, *_ON_SCENE, *_PICKED_UP, *_MATCHED))]
    for candidates in (named, neutral):
        if candidates:
            first = _earliest(candidates)
            is_first = all(_share_after(first, other) >= _MOST_AFTER for other in times if other is not first)
            word = says(first.name, _REQUESTED)
            reasons = [f"the name says {word!r}"] if word else []
            if is_first and len(times) > 1:
                reasons.append("it is the earliest time of a row")
            elif len(times) == 1:
                reasons.append("it is the only time")
            is_sure = word is not None and (is_first or len(times) == 1)
            sure: Sure = "sure" if is_sure else "likely" if word else "guess"
            return first, Guess("requested_at", " and ".join(reasons) or "the earliest of its kind", sure)
    if has_wait and times:
        first = _earliest(times)
        return first, Guess("requested_at", "the only time beside a wait, though its name says another moment", "guess")
    return None, nobody


def _find_arrived(times: Sequence[Column], requested: Column | None) -> tuple[Column | None, Guess]:
    """The arrival on the scene where it is reported, else the pickup, else the next time after the request."""
    nobody = Guess("left out", "")
    if requested is None:
        return None, nobody
    waits = {c.name: seconds_between(requested, c).median() for c in times if c is not requested}
    after = [
        c
        for c in times
        if c is not requested
        and not says(c.name, _AFTERWARDS)
        and _share_after(requested, c) >= _MOST_AFTER
        and 0 < _number(waits[c.name]) < _LONGEST_S
    ]
    after.sort(key=lambda c: _number(waits[c.name]))
    on_scene = [c for c in after if says(c.name, _ON_SCENE)]
    picked_up = [c for c in after if says(c.name, _PICKED_UP) and c not in on_scene]
    if on_scene and picked_up and on_scene[0].missing > max(_TOO_OFTEN_MISSING, 2 * picked_up[0].missing):
        gap_s = seconds_between(on_scene[0], picked_up[0]).median()
        why = (
            f"the pickup: {on_scene[0].name} is {_number(gap_s):.0f} s earlier in the median, "
            f"but missing in {on_scene[0].missing:.0%} of the rows"
        )
        return picked_up[0], Guess("arrived_at", why, "likely")
    for found, words in ((on_scene, _ON_SCENE), (picked_up, _PICKED_UP)):
        if found:
            wait_s = _number(waits[found[0].name])
            why = f"the name says {says(found[0].name, words)!r}, {wait_s:.0f} s after the request in the median"
            return found[0], Guess("arrived_at", why, "sure")
    rest = [c for c in after if not says(c.name, (*_MATCHED, *_REQUESTED))]
    if rest:
        why = f"the next time after the request, by {_number(waits[rest[0].name]):.0f} s in the median"
        return rest[0], Guess("arrived_at", why, "guess")
    return None, nobody


def _find_target(numbers: Sequence[Column], difference_s: pl.Series | None) -> tuple[Column | None, str, Guess | None]:
    """A number that equals arrived − requested in some unit, else one whose name says a wait."""
    if difference_s is not None:
        for column in sorted(numbers, key=lambda c: not _wait_by_name(c)):
            for unit in _DURATIONS:
                share = _agree(column.values * UNITS[unit], difference_s, UNITS[unit])
                if share >= _MATCH:
                    why = f"it equals arrived − requested in {share:.1%} of the rows, read in {unit}"
                    return column, unit, Guess("target", why, "sure")
        return None, "s", None
    for column in numbers:
        word = _wait_by_name(column)
        if word is not None:
            unit, how, sure = _unit_of_wait(column)
            return column, unit, Guess("target", f"the name says {word!r}; in {unit} {how}", sure)
    return None, "s", None


def _wait_by_name(column: Column) -> str | None:
    return None if says(column.name, ("predicted", "estimate", "routing")) else says(column.name, _WAITS)


def _agree(seconds: pl.Series, difference_s: pl.Series, unit_s: float) -> float:
    """The share of rows where both say the same, to half a unit and 2 %; whole minutes may be cut off."""
    both = pl.DataFrame({"a": seconds, "b": difference_s}).drop_nulls().filter(pl.col("b").abs() > 1)
    if both.height < 20:
        return 0.0
    allowed = max(1.0, unit_s if unit_s == 60 else 0.0)
    near = (both["a"] - both["b"]).abs() <= allowed + 0.02 * both["b"].abs()
    return float(near.mean())  # type: ignore[arg-type]


def _unit_of_wait(column: Column) -> tuple[str, str, Sure]:
    unit = unit_in(column.name)
    if unit in _DURATIONS:
        return unit, "by its name", "sure"
    middle = _number(column.values.median())
    if middle > 20_000:
        return "ms", f"by its size, {middle:g} in the median", "guess"
    if middle > 45:
        return "s", f"by its size, {middle:g} in the median", "likely"
    return "min", f"by its size, {middle:g} in the median", "likely" if middle >= 2 else "guess"


def _why_no_role(column: Column, requested: Column | None) -> str:
    word = says(column.name, (*_PICKED_UP, *_ON_SCENE, *_MATCHED, *_AFTERWARDS))
    if requested is None:
        return f"the name says {word!r}: no request" if word else "a time, and nothing says which moment it is"
    share = _share_after(requested, column)
    if share >= _MOST_AFTER:
        return f"a time after the request in {share:.0%} of the rows: known later"
    return "a second time: the model knows one, the request's"


def _earliest(times: Sequence[Column]) -> Column:
    return min(times, key=lambda c: (sum(_share_after(o, c) > 0.5 for o in times if o is not c), c.missing))


def _share_after(first: Column, then: Column) -> float:
    """The share of rows with both times in which `then` is not before `first`."""
    seconds = seconds_between(first, then).drop_nulls()
    return 0.0 if len(seconds) == 0 else float((seconds >= 0).mean())  # type: ignore[arg-type]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
