"""What a column's name says: its words, and the unit it ends in."""

import re
from collections.abc import Iterable

# The last word of a name → the unit as the yaml spells it. No `hour`: pickup_hour is one of 24, not a duration.
UNIT_WORDS = {
    **dict.fromkeys(("s", "sec", "secs", "seconds"), "s"),
    **dict.fromkeys(("ms", "millis", "milliseconds"), "ms"),
    **dict.fromkeys(("min", "mins", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hrs", "hours"), "h"),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), "m"),
    **dict.fromkeys(("km", "kms", "kilometer", "kilometers", "kilometre", "kilometres"), "km"),
    **dict.fromkeys(("mi", "mile", "miles"), "mi"),
    **dict.fromkeys(("ft", "feet"), "ft"),
    **dict.fromkeys(("mps",), "m/s"),
    **dict.fromkeys(("kmh", "kph", "kmph"), "km/h"),
    **dict.fromkeys(("mph",), "mph"),
    **dict.fromkeys(("f", "degf", "fahrenheit"), "degF"),
    **dict.fromkeys(("c", "degc", "celsius"), "degC"),
    **dict.fromkeys(("deg", "degree", "degrees", "lat", "latitude", "lon", "lng", "long", "longitude"), "deg"),
    **dict.fromkeys(("pct", "percent", "percentage"), "percent"),
    **dict.fromkeys(("mm",), "mm"),
    **dict.fromkeys(("in", "inch", "inches"), "in"),
    **dict.fromkeys(("hpa", "mbar"), "hPa"),
    **dict.fromkeys(("inhg",), "inHg"),
}
# What sources/files.py turns a unit into, and how our name for such a column ends.
BECOMES = {
    **dict.fromkeys(("s", "ms", "min", "h"), ("s", "s")),
    **dict.fromkeys(("m", "km", "mi", "ft"), ("m", "m")),
    **dict.fromkeys(("m/s", "km/h", "mph"), ("m/s", "mps")),
}
_RATES = {("mm", "h"): "mm/h", ("m", "s"): "m/s", ("km", "h"): "km/h", ("in", "h"): "in/h"}
_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")


def words_of(name: str) -> list[str]:
    """`PULocationID` → pu, location, id."""
    return [word.lower() for word in _PARTS.findall(name)]


def says(name: str, words: Iterable[str]) -> str | None:
    """The first of `words` that the name holds.

    Six letters and more may be anywhere (`policeprecinct`), four and five must begin a word (`train` is no rain),
    shorter ones must be a word of their own (`multiple` is no tip), with or without a plural s.
    """
    parts = words_of(name)
    squashed = "".join(parts)
    for word in words:
        if len(word) >= 6:
            is_there = word in squashed
        elif len(word) >= 4:
            is_there = any(part.startswith(word) for part in parts)
        else:
            is_there = any(part in (word, f"{word}s") for part in parts)
        if is_there:
            return word
    return None


def unit_in(name: str) -> str | None:
    """`wait_min` → min, `rain_mm_h` → mm/h; None when the name does not say."""
    parts = words_of(name)
    if not parts:
        return None
    rate = _RATES.get((parts[-2], parts[-1])) if len(parts) > 1 else None
    return rate or (UNIT_WORDS.get(parts[-1]) if len(parts) > 1 or len(parts[-1]) > 2 else None)


def without_unit(name: str) -> str:
    """Our spelling of a name, less the unit it ends in: `Trip Miles` → trip."""
    parts = words_of(name)
    while len(parts) > 1 and parts[-1] in UNIT_WORDS and UNIT_WORDS[parts[-1]] != "deg":
        parts = parts[:-1]
    return "_".join(parts)


def our_name(name: str, taken: Iterable[str] = ()) -> str:
    """A schema's spelling, `[a-z][a-z0-9_]*`, that is not taken and does not end as a time's does."""
    ours = "_".join(words_of(name)) or "column"
    ours = ours if ours[0].isalpha() else f"c_{ours}"
    ours = f"{ours}_value" if ours.endswith("_at") else ours
    known, number = set(taken), 2
    first = ours
    while ours in known:
        ours, number = f"{first}_{number}", number + 1
    return ours
