"""Events near a request: how many are active within a radius of its place, and how far the nearest of them is.

An event is active from when it has begun and is known until its end in the row in force; a row known later of the same
id corrects it from then on. The distance is exact; events meet requests by equality of a grid cell and a span of time,
and the distance decides. The grid is one of cubes around the Earth, so the date line and the poles are no cases.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import narwhals as nw

from hailtime.preparation.conform import AnyFrame, Kind
from hailtime.preparation.exact import EARTH_RADIUS_M, great_circle_m, half_angles, on_sphere, sine
from hailtime.preparation.join_settings import HOUR_US, Nearby
from hailtime.preparation.known import FROM, UNTIL, each_with, not_over_before, read_rows, spans_in_force

CELL = "_cell"
POINT = ("_x", "_y", "_z")
THEN = ("_then_x", "_then_y", "_then_z")  # of the event, where the request's are POINT
_HALVES, _LOW = ("_half_lat", "_quarter_lon"), ("_low_x", "_low_y", "_low_z")
_CORNER, _END, _WIDTH = "_corner", "_end", "_width"
_ROW, _BUCKET, _COUNT, _NEAREST_M = "_row", "_bucket", "_count", "_nearest_m"
_PER_AXIS = 1 << 20  # cells along each axis, so that three numbers fit into one int64
# An event is looked for in buckets at least as long as itself, so that it is in two of them at most
_WIDTHS_US = (HOUR_US, 4 * HOUR_US, 32 * HOUR_US, 1 << 62)


class NearbyJoin:
    """One table of events, worked out once.

    `cells`: CELL, FROM, UNTIL and THEN of every event, in each cell from which a request may reach it.
    """

    def __init__(self, entry: Nearby, table: AnyFrame, requested_at: str, since_us: int | None = None) -> None:
        self.entry, self.requested_at = entry, requested_at
        self.needs = [requested_at, *entry.at]
        kinds: dict[str, Kind] = {entry.id: "text", **dict.fromkeys(entry.place, "number"), "ends_at": "time"}
        rows = read_rows(table, entry.table, kinds, None, needed=[entry.id])
        rows = not_over_before(rows, since_us, ["observed_at", "known_at", "ends_at"], same=entry.id)
        self.cells = _in_cells(_spans(rows, entry), table)
        self._placed = _in_buckets(self.cells, table)
        self._widths_us = _WIDTHS_US
        if isinstance(self._placed, nw.DataFrame):
            self._widths_us = tuple(self._placed[_WIDTH].unique().to_list()) or _WIDTHS_US[:1]
        self._table = table

    def join(self, trips: Any, asked: Any) -> Any:
        lat, lon = self.entry.at
        if isinstance(trips, nw.DataFrame):
            shared = [_ROW]
            trips = trips.with_row_index(_ROW)
            asked = trips.select(_ROW, *self.needs)
        else:
            shared = self.needs
            asked = asked.select(*self.needs).drop_nulls().unique()
        cell = cell_of(nw.col(lat), nw.col(lon), self.entry.radius_m)
        asked = asked.filter(is_place(lat, lon)).with_columns(cell.alias(CELL))
        joined = trips.join(self._found(asked, shared), on=shared, how="left")
        joined = joined.with_columns(*self._columns())
        if isinstance(joined, nw.DataFrame):
            joined = (joined if joined[_ROW].is_sorted() else joined.sort(_ROW)).drop(_ROW)
        return joined.drop(_COUNT, _NEAREST_M)

    def _found(self, asked: AnyFrame, shared: list[str]) -> AnyFrame:
        """For every row of `asked` with an event in reach, their number and the least distance."""
        names = list(dict.fromkeys([*shared, *self.entry.at]))
        placed = self._placed_within(asked)
        pairs: Any = nw.concat([self._met(here, placed).select(*names, *THEN) for here in self._with_widths(asked)])
        pairs = _with_point(pairs, *self.entry.at, POINT)
        distance_m = great_circle_m(*(nw.col(a) - nw.col(b) for a, b in zip(POINT, THEN, strict=True)))
        pairs = pairs.select(*shared, distance_m.alias(_NEAREST_M))
        # no filter here: Spark pushes it down to the places with the whole distance written out, and runs out of stack
        is_near = nw.col(_NEAREST_M) <= self.entry.radius_m
        count, nearest_m = is_near.cast(nw.Int64), nw.when(is_near).then(nw.col(_NEAREST_M))
        pairs = pairs.with_columns(count.alias(_COUNT), nearest_m.alias(_NEAREST_M))
        return cast(AnyFrame, pairs.group_by(*shared).agg(nw.col(_COUNT).sum(), nw.col(_NEAREST_M).min()))

    def _placed_within(self, asked: Any) -> Any:
        """The events of a block's time; the engine works through all it is given for every block."""
        if isinstance(asked, nw.LazyFrame) or not len(asked):
            return self._placed
        when = asked[self.requested_at]
        return self._placed.filter(nw.col(FROM) <= when[-1], nw.col(UNTIL) > when[0])

    def _met(self, asked: Any, placed: Any) -> Any:
        """The requests with every event that is active and lies in a cell in reach."""
        when = nw.col(self.requested_at)
        asked = asked.with_columns((when // nw.col(_WIDTH)).alias(_BUCKET))
        active = asked.join(placed, on=[CELL, _WIDTH, _BUCKET], how="inner")
        return active.filter(nw.col(FROM) <= when, when < nw.col(UNTIL))

    def _with_widths(self, asked: Any) -> list[Any]:
        """The requests once for each width of buckets: in pieces to spare memory, or at once to spare reading."""
        if isinstance(asked, nw.LazyFrame):
            return [each_with(asked, _WIDTH, self._widths_us, self._table)]
        return [asked.with_columns(nw.lit(width).cast(nw.Int64).alias(_WIDTH)) for width in self._widths_us]

    def _columns(self) -> list[nw.Expr]:
        count = nw.col(_COUNT).cast(nw.Float64).fill_null(0.0)
        held = {"count": nw.when(is_place(*self.entry.at)).then(count), "distance": nw.col(_NEAREST_M)}
        return [held[what].alias(name) for name, what in self.entry.columns.items()]


def is_place(lat: str, lon: str) -> nw.Expr:
    return nw.col(lat).is_between(-90, 90) & nw.col(lon).is_between(-180, 180)


def cell_of(lat: Any, lon: Any, radius_m: float) -> Any:
    """The number of the cell a request lies in: expressions or floats, in degrees."""
    return _number(*(_axis_cell(value, radius_m) for value in _about(lat, lon)))


def _about(lat: Any, lon: Any) -> tuple[Any, Any, Any]:
    """x, y, z in metres by each engine's own sines, which are quicker and good enough to find a cell."""
    sin_lat, cos_lat = _sine_and_cosine(lat * (math.pi / 180))
    sin_lon, cos_lon = _sine_and_cosine(lon * (math.pi / 180))
    return EARTH_RADIUS_M * cos_lat * cos_lon, EARTH_RADIUS_M * cos_lat * sin_lon, EARTH_RADIUS_M * sin_lat


def _sine_and_cosine(angle: Any) -> tuple[Any, Any]:
    return (angle.sin(), angle.cos()) if isinstance(angle, nw.Expr) else (math.sin(angle), math.cos(angle))


def _axis_cell(value: Any, radius_m: float) -> Any:
    """Cells are as long as the reach to both sides and a thousandth more, so that rounding cannot matter."""
    edge_m = 2.002 * radius_m
    place = (value + (EARTH_RADIUS_M + 2 * edge_m)) / edge_m
    return place.cast(nw.Int64) if isinstance(place, nw.Expr) else int(place)


def _number(x: Any, y: Any, z: Any) -> Any:
    return (x * _PER_AXIS + y) * _PER_AXIS + z


def _spans(rows: AnyFrame, entry: Nearby) -> AnyFrame:
    end = nw.coalesce(nw.col("ends_at"), nw.col("observed_at") + entry.freshness_us).cast(nw.Int64)
    spans = spans_in_force(rows, [entry.id], end, ["observed_at", "ends_at", *entry.place])
    # a correction that has no place takes the event off the map, so places are asked for last
    spans = spans.filter(is_place(*entry.place)).select(FROM, UNTIL, *entry.place)
    low = [_axis_cell(value - 1.001 * entry.radius_m, entry.radius_m) for value in _about(*map(nw.col, entry.place))]
    return _with_point(spans.with_columns(*_named(_LOW, low)), *entry.place, THEN).drop(*entry.place)


def _with_point(frame: AnyFrame, lat: str, lon: str, names: tuple[str, str, str]) -> AnyFrame:
    frame = frame.with_columns(*_named(_HALVES, half_angles(nw.col(lat), nw.col(lon))))
    frame = frame.with_columns(*(sine(nw.col(name)).alias(name) for name in _HALVES))
    return frame.with_columns(*_named(names, on_sphere(*map(nw.col, _HALVES)))).drop(*_HALVES)


def _named(names: Sequence[str], values: Sequence[nw.Expr]) -> list[nw.Expr]:
    return [value.alias(name) for name, value in zip(names, values, strict=True)]


def _in_cells(spans: AnyFrame, table: AnyFrame) -> AnyFrame:
    """Each event eight times: the cells of a box around it, two along each axis."""
    corners = each_with(spans, _CORNER, range(8), table)
    x, y, z = (nw.col(low) + nw.col(_CORNER) // bit % 2 for low, bit in zip(_LOW, (4, 2, 1), strict=True))
    return corners.with_columns(_number(x, y, z).alias(CELL)).drop(*_LOW, _CORNER)


def _in_buckets(cells: AnyFrame, table: AnyFrame) -> AnyFrame:
    """Each event in the one or two buckets it touches, of the first width that is not shorter than the event."""
    length, width = nw.col(UNTIL) - nw.col(FROM), nw.lit(_WIDTHS_US[-1])
    for narrower_us in reversed(_WIDTHS_US[:-1]):
        width = nw.when(length <= narrower_us).then(nw.lit(narrower_us)).otherwise(width)
    cells = cells.with_columns(width.cast(nw.Int64).alias(_WIDTH))
    first, last = nw.col(FROM) // nw.col(_WIDTH), (nw.col(UNTIL) - 1) // nw.col(_WIDTH)
    ends = each_with(cells, _END, range(2), table)
    bucket = nw.when(nw.col(_END) == 0).then(first).otherwise(last)
    is_other = (nw.col(_END) == 0) | (first < last)
    return ends.with_columns(bucket.alias(_BUCKET)).filter(is_other).drop(_END)
