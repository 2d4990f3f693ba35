"""What each column of a table is for: the moments and the target, places, the id, and what is left out and why."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from hailtime.describing import later
from hailtime.describing.columns import Column
from hailtime.describing.guess import Guess, Sure
from hailtime.describing.moments import Moments, find_moments, seconds_between
from hailtime.describing.names import says
from hailtime.describing.places import Place, find_places, with_swapped_rows
from hailtime.describing.suspicious import Suspicion

_ID = ("id", "uuid", "guid", "key", "ref", "reference", "number", "no", "num")
_OF_A_REQUEST = ("request", "trip", "order", "booking", "ride", "incident", "call", "job")
_PERSON = (
    "driver",
    "rider",
    "user",
    "customer",
    "passenger",
    "vehicle",
    "courier",
    "plate",
    "phone",
    "email",
    "medallion",
)
_ZONE = ("pickupzone", "pulocation", "pickuplocation", "pickuparea", "pickupdistrict", "pickupcell", "zone", "precinct",
         "neighbourhood", "neighborhood", "location", "district", "cell", "geohash", "area", "zipcode", "zip",
         "postcode", "borough", "region")  # fmt: skip
_OTHER_END = ("dropoff", "do", "dest", "destination", "driver")
_WEATHER = ("rain", "precip", "snow", "temp", "temperature", "drybulb", "wetbulb", "dewpoint", "humidity", "visibility",
            "wind", "pressure", "weather", "cloud")  # fmt: skip
_TRAFFIC = ("traffic", "congestion", "speedratio", "freeflow")
_INCIDENTS = ("incident", "closure", "accident", "roadwork")
_OBSERVED, _KNOWN = ("observed", "measured", "validtime"), ("known", "published", "issued", "available")
_MAX_CATEGORIES = 5_000


@dataclass(frozen=True)
class Roles:
    """The columns with what looks wrong in them, a guess for each, and what connects them.

    - id: the column that names a row, None where none does
    - same_request: columns beside the times that together tell two rows apart where there is no id
    - conditions: weather, traffic, incidents or conditions where the table is one of those and no table of trips
    """

    columns: dict[str, Column]
    guesses: dict[str, Guess]
    moments: Moments
    places: tuple[Place, ...]
    zone: str | None
    id: str | None
    same_request: tuple[str, ...]
    conditions: str | None

    def of(self, *roles: str) -> list[Column]:
        """The columns of these roles, in the table's order."""
        return [column for name, column in self.columns.items() if self.guesses[name].role in roles]


def find_roles(looked_at: Sequence[Column]) -> Roles:
    """A guess for every column."""
    usable = [column for column in looked_at if not column.reading.trouble or column.kind == "time"]
    moments = find_moments(usable)
    places = [with_swapped_rows(place) for place in find_places(usable)]
    columns = {column.name: column for column in looked_at}
    columns |= {column.name: column for place in places for column in (place.lat, place.lon)}
    guesses = dict(moments.guesses)
    for place in places:
        guesses |= {name: guess for name, guess in place.guesses.items() if name not in guesses}
    conditions = _conditions(looked_at, moments)
    if conditions is not None:
        guesses |= _clocks_of(looked_at)
    name_of_id, guess = (None, None) if conditions else _find_id(looked_at, guesses)
    if name_of_id is not None and guess is not None:
        guesses[name_of_id] = guess
    for column in looked_at:
        guesses.setdefault(column.name, _guess_rest(column, moments.target_s, bool(conditions)))
    zone = _find_zone(columns[name] for name, guess in guesses.items() if guess.role == "category")
    columns = _with_row_faults(columns, moments, name_of_id)
    same = () if name_of_id or conditions else _tells_apart(columns, guesses, moments)
    return Roles(columns, guesses, moments, tuple(places), zone, name_of_id, same, conditions)


def _find_id(columns: Sequence[Column], taken: dict[str, Guess]) -> tuple[str | None, Guess | None]:
    """Text or whole numbers, nearly all different, best with a name that says so; a person's is no request's."""
    ranked = []
    for column in columns:
        is_named = says(column.name, _ID) is not None
        is_text = column.is_category or (column.kind == "number" and is_named and column.is_whole)
        is_a_request = says(column.name, _OF_A_REQUEST) is not None
        enough = 0.95 if is_named or is_a_request else 0.999  # the few alike are the same request sent twice
        if column.name in taken or not is_text or column.unique < enough or column.missing > 0.01:
            continue
        if says(column.name, _PERSON) or column.distinct < 2:
            continue
        ranked.append((is_named, is_a_request, column.unique, column))
    if not ranked:
        return None, None
    is_named, _, unique, column = max(ranked, key=lambda rank: rank[:3])
    said = "every value is another one" if unique == 1 else f"{unique:.2%} of its values are different"
    sure: Sure = "sure" if is_named and unique > 0.99 else "likely" if is_named else "guess"
    return column.name, Guess("id", said + (", and the name says so" if is_named else ""), sure)


def _guess_rest(column: Column, target_s: pl.Series | None, is_condition: bool) -> Guess:
    """A number, a category, or left out with the reason."""
    if column.reading.trouble:
        return Guess("left out", column.reading.trouble, "sure")
    if column.kind in ("empty", "other") or column.is_constant:
        why = column.reading.why if column.kind in ("empty", "other") else "one and the same value in every row"
        return Guess("left out", why, "sure")
    known_later = None if is_condition else later.by_name(column.name)
    if known_later is None and target_s is not None:
        leak = later.by_target(column, target_s)
        if leak is not None:
            return Guess("left out", f"known later: {leak}", "sure")
    if known_later is not None:
        return Guess("left out", known_later, "likely")
    if column.kind == "number":
        return _guess_number(column, is_condition)
    return _guess_category(column)


def _guess_number(column: Column, is_condition: bool) -> Guess:
    if column.unique > 0.999 and column.is_whole and len(column.values) > 20 and column.values.drop_nulls().is_sorted():
        return Guess("left out", "whole numbers that only go up: a row counter", "likely")
    word = says(column.name, _WEATHER)
    if word is not None and not is_condition:
        return Guess("number", f"weather by its name ({word!r}): must be what was known at the request")
    if says(column.name, ("distance", "miles", "km")):
        return Guess("number", "a distance: take it out if it is the way that was driven", "guess")
    return Guess("number", column.reading.why)


def _guess_category(column: Column) -> Guess:
    word = says(column.name, _PERSON)
    if word is not None and (says(column.name, _ID) or column.distinct > 500):
        return Guess("left out", f"it names one {word} each", "likely")
    if column.distinct > _MAX_CATEGORIES or (column.distinct > 50 and column.unique > 0.2):
        return Guess("left out", f"{column.distinct:,} different texts: free text or another id", "likely")
    sure: Sure = "sure" if column.kind == "flag" else "likely"
    return Guess("category", f"{column.reading.why}, {column.distinct:,} different", sure)


def _find_zone(categories: Iterable[Column]) -> str | None:
    """The category that says where the pickup is: by name, in the order of how often such a word means it."""
    own = [c for c in categories if not says(c.name, _OTHER_END) and c.distinct >= 2]
    for word in _ZONE:
        for column in own:
            if says(column.name, (word,)):
                return column.name
    return None


def _tells_apart(columns: dict[str, Column], guesses: dict[str, Guess], moments: Moments) -> tuple[str, ...]:
    """Up to four categories that with the times make nearly every row another one; none when even they do not."""
    times = [c for c in (moments.requested, moments.arrived) if c is not None]
    ranked = sorted((c for n, c in columns.items() if guesses[n].role == "category"), key=lambda c: -c.distinct)
    chosen = ranked[:4]
    if not times:
        return ()
    rows = pl.DataFrame([c.values.alias(c.name) for c in (*times, *chosen)])
    return tuple(c.name for c in chosen) if rows.n_unique() >= 0.99 * rows.height else ()


def _with_row_faults(columns: dict[str, Column], moments: Moments, name_of_id: str | None) -> dict[str, Column]:
    """The columns with what only several of them together show."""
    columns = dict(columns)
    if moments.requested is not None and moments.arrived is not None:
        negative = (seconds_between(moments.requested, moments.arrived) < 0).sum()
        if negative:
            found = Suspicion("before the request", int(negative) / len(moments.arrived.values))
            columns[moments.arrived.name] = columns[moments.arrived.name].suspect([found])
    if moments.target is not None:
        negative = (moments.target.values < 0).sum()
        if negative:
            found = Suspicion("below zero", int(negative) / len(moments.target.values))
            columns[moments.target.name] = columns[moments.target.name].suspect([found])
    if name_of_id is not None and columns[name_of_id].unique < 1:
        found = Suspicion("the same id again: the same request twice, or no id", 1 - columns[name_of_id].unique)
        columns[name_of_id] = columns[name_of_id].suspect([found])
    return columns


def _conditions(columns: Sequence[Column], moments: Moments) -> str | None:
    """Which table of conditions it looks like: a time, values of a sky or a road, and nobody who asks or waits."""
    times = [c for c in columns if c.kind == "time"]
    if moments.target_s is not None or not times or any(says(c.name, _OF_A_REQUEST) for c in times):
        return None
    numbers = [c for c in columns if c.kind == "number" and c.name not in moments.guesses]
    is_observed = any(says(c.name, (*_OBSERVED, *_KNOWN)) for c in times)
    for what, words in (("weather", _WEATHER), ("traffic", _TRAFFIC), ("incidents", _INCIDENTS)):
        n_hits = sum(says(c.name, words) is not None for c in numbers)
        if n_hits >= 2 or (n_hits == 1 and (is_observed or len(numbers) == 1)):
            return what
    return "conditions" if is_observed and numbers else None


def _clocks_of(columns: Sequence[Column]) -> dict[str, Guess]:
    """`observed_at` and, where a column says it, `known_at`; the other times have no role."""
    times = sorted((c for c in columns if c.kind == "time"), key=lambda c: (c.missing, c.low or 0))
    known = next((c.name for c in times if says(c.name, _KNOWN)), None) if len(times) > 1 else None
    rest = [c.name for c in times if c.name != known]
    observed = next((name for name in rest if says(name, _OBSERVED)), rest[0])
    guesses = {name: Guess("left out", "another time", "guess") for name in rest}
    guesses[observed] = Guess("observed_at", "the time the row is about", "likely")
    if known is not None:
        guesses[known] = Guess("known_at", f"the name says {says(known, _KNOWN)!r}", "likely")
    return guesses
