"""Request rows, checked against the served schema and packed into the three arrays of the model.

Every column of the schema must be there by name, in any order; the id and the target may be there and are left out.
What a value may be is in `request_values.py`. A number outside its column's range is refused where the schema says
`reject`; `missing` and `clip` are the model's work.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from hailtime.client.request_values import (
    Wrong,
    numbers_of,
    shown,
    texts_of,
    times_of,
    to_epoch_s,
    to_numbers,
    to_texts,
    to_times,
)
from hailtime.errors import RequestError, did_you_mean
from hailtime.schema import Column, Schema

MAX_TOLD = 5  # problems an error lists; the rest is a count
USUAL, TEXTS = frozenset({float, int, type(None)}), frozenset({str})
LARGEST = float(np.finfo(np.float32).max)


class Frame(Protocol):
    """What is used of a pandas or Polars frame."""

    @property
    def columns(self) -> Any: ...
    def __getitem__(self, name: Any, /) -> Any: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class PackedRows:
    """numeric (n, F), missing NaN; categorical (n, C) of str, missing ""; requested_at (n, 1) in epoch seconds."""

    numeric: NDArray[np.float32]
    categorical: NDArray[np.object_]
    requested_at: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numeric)

    def parts(self, max_rows: int) -> list["PackedRows"]:
        """The same rows in pieces of at most `max_rows`."""
        if len(self) <= max_rows:
            return [self]
        pieces = [slice(start, start + max_rows) for start in range(0, len(self), max_rows)]
        return [PackedRows(self.numeric[rows], self.categorical[rows], self.requested_at[rows]) for rows in pieces]


class RowPacker:
    """Packs rows by the columns of one schema. Holds nothing that changes: threads may share it."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.fingerprint = schema.fingerprint  # found now: it takes 0.4 ms, which is much for a first call
        self._needed = frozenset(schema.input_names)
        self._allowed = self._needed | {schema.id, schema.target}
        self._low, self._high = _limits(schema.numeric)
        self._ranges = tuple(zip(self._low.tolist(), self._high.tolist(), strict=True))
        self._numbers_of = _getter(schema.numeric_names)
        self._texts_of = _getter(schema.categorical_names)
        self._time_of = itemgetter(schema.requested_at)

    def pack(self, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]] | Frame) -> PackedRows:
        """RequestError listing what is wrong with the rows."""
        if type(rows) is dict and (packed := self._pack_usual(rows)) is not None:
            return packed
        if isinstance(rows, Mapping):
            return self._pack_dicts([rows])
        if isinstance(rows, list | tuple):
            return self._pack_dicts(rows)
        if is_frame(rows):
            return self._pack_frame(rows)
        raise RequestError(f"rows must be a dict, a list of dicts or a pandas or Polars frame, got {shown(rows)}")

    def ids(self, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]] | Frame) -> Sequence[str]:
        """Of rows that were packed: each one's id, "" where it has none; nothing when no row has one.

        RequestError for what is no id.
        """
        name = self.schema.id
        given: list[Any]
        if type(rows) is dict or isinstance(rows, Mapping):  # the first is asked in a tenth of the time
            given = [rows.get(name)]
        elif isinstance(rows, list | tuple):
            if set(map(len, rows)) == {len(self._needed)}:  # they were packed, so that there is nothing else in them
                return ()
            given = [row.get(name) for row in rows]
        else:
            given = rows[name].to_list() if is_frame(rows) and name in rows.columns else []
        if all(value is None for value in given):
            return ()
        ids, wrong = to_texts(given)
        _refuse(_told(wrong, (name,)))
        return ids

    def nothing_known(self, now_s: int) -> PackedRows:
        """One row in which everything is missing but the time: what a server is tried with."""
        numeric = np.full((1, len(self.schema.numeric)), np.nan, np.float32)
        categorical = np.full((1, len(self.schema.categorical)), "", object)
        return PackedRows(numeric, categorical, np.array([[now_s]], np.int64))

    def _pack_usual(self, row: dict[str, Any]) -> PackedRows | None:
        """One row of the usual types, in order; None where more is to be looked at.

        Between two answers of a server the caches are cold, and what counts is how much code runs: 25 µs a row where
        the way of many rows took 71.
        """
        try:
            numbers, texts, asked_s = self._numbers_of(row), self._texts_of(row), to_epoch_s(self._time_of(row))
        except (KeyError, ValueError):
            return None
        if len(row) != len(self._needed) or not USUAL.issuperset(map(type, numbers)):
            return None
        for value, (low, high) in zip(numbers, self._ranges, strict=True):
            if value is not None and not low <= value <= high and value == value:
                return None
        if None in texts:
            texts = tuple("" if text is None else text for text in texts)
        if not TEXTS.issuperset(map(type, texts)) or not "".join(texts).isascii():
            return None
        asked = np.array(((asked_s,),), np.int64)
        return PackedRows(np.array((numbers,), np.float32), np.array((texts,), object), asked)

    def _pack_dicts(self, rows: Sequence[Mapping[str, Any]]) -> PackedRows:
        """Values row after row, each kind in one go: 1.5 µs a row where one function call a value took 9."""
        names, categories, asked = self.schema.numeric_names, self.schema.categorical_names, self.schema.requested_at
        try:
            self._check_kinds(rows)
            numbers, wrong_numbers = to_numbers(list(chain.from_iterable(map(self._numbers_of, rows))))
            texts, wrong_texts = to_texts(list(chain.from_iterable(map(self._texts_of, rows))))
            seconds, wrong_times = to_times(list(map(self._time_of, rows)))
        except (KeyError, TypeError):
            self._check_dicts(rows)
            raise
        problems: list[str] = []
        if wrong_times or wrong_numbers or wrong_texts:
            problems = _told(wrong_times, (asked,)) + _told(wrong_numbers, names) + _told(wrong_texts, categories)
        packed_texts = np.array(texts, dtype=object).reshape(len(rows), len(categories))
        return self._finished(numbers.reshape(len(rows), len(names)), packed_texts, seconds, problems)

    def _pack_frame(self, frame: Frame) -> PackedRows:
        _refuse(self._name_problems(list(frame.columns)))
        numbers = np.empty((len(frame), len(self.schema.numeric)))
        texts = np.empty((len(frame), len(self.schema.categorical)), object)
        seconds, wrong = times_of(frame[self.schema.requested_at])
        problems = _told(wrong, (self.schema.requested_at,))
        for place, name in enumerate(self.schema.numeric_names):
            numbers[:, place], wrong = numbers_of(frame[name])
            problems += _told(wrong, (name,))
        for place, name in enumerate(self.schema.categorical_names):
            texts[:, place], wrong = texts_of(frame[name])
            problems += _told(wrong, (name,))
        return self._finished(numbers, texts, seconds, problems)

    def _finished(
        self,
        numbers: NDArray[np.float64],
        texts: NDArray[np.object_],
        seconds: NDArray[np.int64],
        problems: list[str],
    ) -> PackedRows:
        outside = (numbers < self._low) | (numbers > self._high)
        if np.count_nonzero(outside):  # a third of what any() takes for one row
            problems += [self._range_problem(row, place, numbers) for row, place in np.argwhere(outside)]
        _refuse(problems)
        return PackedRows(numbers.astype(np.float32), texts, seconds[:, None])

    def _range_problem(self, row: int, place: int, numbers: NDArray[np.float64]) -> str:
        column, came = self.schema.numeric[place], numbers[row, place]
        allowed = column.range_text if abs(came) <= LARGEST else "finite in float32, or None for missing"
        return f"row {row}: {column.name} must be {allowed}, got {came:.10g}"

    def _check_kinds(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Dicts of no other columns; a missing one is found when its value is taken."""
        if set(map(type, rows)) == {dict} and set(map(len, rows)) == {len(self._needed)}:
            return  # as many columns as needed, so that none can be another when none is missing
        if not all(isinstance(row, Mapping) and row.keys() <= self._allowed for row in rows):
            self._check_dicts(rows)

    def _check_dicts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        problems: list[str] = []
        for place, row in enumerate(rows):
            if not isinstance(row, Mapping):
                problems.append(f"row {place}: must be a dict of column names and values, got {shown(row)}")
            elif not (self._needed <= row.keys() <= self._allowed):
                problems += [f"row {place}: {problem}" for problem in self._name_problems(list(row))]
        _refuse(problems)

    def _name_problems(self, given: list[Any]) -> list[str]:
        twice = sorted(str(name) for name, times in Counter(given).items() if times > 1)
        problems = [f"column {name} is there more than once" for name in twice]
        unknown = [str(name) for name in given if name not in self._allowed]
        for name in self.schema.input_names:
            if name not in given:
                near = get_close_matches(name, unknown, n=1)
                problems.append(f"column {name} is missing{f', but {near[0]!r} is there' if near else ''}")
                unknown = [other for other in unknown if other not in near]
        return [*problems, *(f"no column {name!r}{did_you_mean(name, self.schema.input_names)}" for name in unknown)]


def is_frame(rows: object) -> TypeGuard[Frame]:
    """Whether it is a pandas or a Polars frame; asked of its methods, so that neither need be installed."""
    return hasattr(rows, "get_column") or (hasattr(rows, "iloc") and hasattr(rows, "columns"))


def _getter(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """The values of these columns of a row; `itemgetter` gives a bare value for one name and takes no none at all."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda row: tuple(row[name] for name in names)


def _limits(columns: tuple[Column, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a number must lie between: its column's range where that is `reject`, else any that float32 can hold."""
    rejects = [column.out_of_range == "reject" for column in columns]
    low = [c.minimum if no and c.minimum is not None else -LARGEST for c, no in zip(columns, rejects, strict=True)]
    high = [c.maximum if no and c.maximum is not None else LARGEST for c, no in zip(columns, rejects, strict=True)]
    return _half_step(low, -LARGEST), _half_step(high, LARGEST)


def _half_step(limits: list[float], towards: float) -> NDArray[np.float64]:
    """Limits half a float32 step further out: the model compares in float32, where what lies between is the limit."""
    in_float32 = np.array(limits, np.float32)
    next_one = np.nextafter(in_float32, np.float32(towards))
    return (in_float32.astype(np.float64) + next_one.astype(np.float64)) / 2


def _told(wrong: Wrong, names: Sequence[str]) -> list[str]:
    """Problems in words; a place counts through the names of row 0, then of row 1, and so on."""
    n = len(names)
    return [f"row {place // n}: {names[place % n]} {problem}" for place, problem in wrong.items()]


def _refuse(problems: Sequence[str]) -> None:
    if not problems:
        return
    rest = len(problems) - MAX_TOLD
    more = [f"and {rest} more problem{'s' if rest > 1 else ''}"] if rest > 0 else []
    raise RequestError("; ".join([*problems[:MAX_TOLD], *more]))
