"""Rows checked and packed: what every type becomes, and what is said of those that are refused."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum

import numpy as np
import pandas as pd
import pytest

from hailtime.client.request import RowPacker
from hailtime.errors import RequestError
from tests.small_town import NEW_YORK, NOON_S, ROW, SCHEMA

PACKER = RowPacker(SCHEMA)


class Product(str, Enum):  # noqa: UP042  what backends had before StrEnum
    XL = "xl"


def refusal(rows) -> str:
    with pytest.raises(RequestError) as refused:
        PACKER.pack(rows)
    return str(refused.value)


def case(name, *values):
    return pytest.param(*values, id=name)


NUMBERS = [
    case("float", 7.5, 7.5),
    case("int", 7, 7.0),
    case("Decimal", Decimal("7.5"), 7.5),
    case("numpy float32", np.float32(7.5), 7.5),
    case("numpy int16", np.int16(7), 7.0),
    case("below its range, which the model treats as missing", -3.0, -3.0),
    case("None", None, np.nan),
    case("NaN", float("nan"), np.nan),
    case("Decimal NaN", Decimal("nan"), np.nan),
    case("numpy NaN", np.float32("nan"), np.nan),
    case("pandas NA", pd.NA, np.nan),
    case("pandas NaT", pd.NaT, np.nan),
]
TEXTS = [
    case("text", "xl", "xl"),
    case("not ASCII", "Köln-Süd", "Köln-Süd"),
    case("numpy text", np.str_("xl"), "xl"),
    case("text enum", Product.XL, "xl"),
    case("int", 75, "75"),
    case("numpy int64", np.int64(75), "75"),
    case("empty", "", ""),
    case("None", None, ""),
    case("NaN", float("nan"), ""),
    case("pandas NA", pd.NA, ""),
]
TIMES = [
    case("epoch seconds", NOON_S, NOON_S),
    case("epoch seconds with a fraction", NOON_S + 0.9, NOON_S),
    case("numpy int64", np.int64(NOON_S), NOON_S),
    case("datetime UTC", datetime(2026, 1, 12, 12, tzinfo=UTC), NOON_S),
    case("datetime elsewhere", datetime(2026, 1, 12, 7, tzinfo=NEW_YORK), NOON_S),
    case("Timestamp", pd.Timestamp("2026-01-12 07:00", tz="America/New_York"), NOON_S),
    case("text with Z", "2026-01-12T12:00:00Z", NOON_S),
    case("text with an offset", "2026-01-12T07:00:00.250-05:00", NOON_S),
    case("numpy datetime64 seconds", np.datetime64("2026-01-12T12:00:00"), NOON_S),
    case("numpy datetime64 nanoseconds", np.datetime64("2026-01-12T12:00:00.9", "ns"), NOON_S),
]
REFUSED = [
    case("text in a number", "speed_mps", "fast", "speed_mps must be a number, or None for missing, got 'fast' (str)"),
    case("digits in a number", "speed_mps", "8.5", "must be a number, or None for missing, got '8.5' (str)"),
    case("bool in a number", "speed_mps", True, "speed_mps must be a number, or None for missing, got True (bool)"),
    case("list in a number", "speed_mps", [8.5], "must be a number, or None for missing, got [8.5] (list)"),
    case("duration in a number", "speed_mps", np.timedelta64(3, "s"), "must be a number"),
    case("infinity", "speed_mps", float("inf"), "speed_mps must be finite in float32, or None for missing, got inf"),
    case(
        "infinite in float32",
        "speed_mps",
        -1e39,
        "speed_mps must be finite in float32, or None for missing, got -1e+39",
    ),
    case("infinite int", "speed_mps", 10**400, "speed_mps must be finite in float32, or None for missing, got inf"),
    case("out of range", "pickup_lat", 51.5, "pickup_lat must be 43.4 to 43.8 deg, got 51.5"),
    case(
        "float category",
        "product",
        75.0,
        "must be text or an int, or None for missing, got 75.0 (float); give 75 or '75'",
    ),
    case("bool category", "product", False, "product must be text or an int, or None for missing, got False (bool)"),
    case("bytes category", "product", b"xl", "product must be text or an int, or None for missing, got b'xl' (bytes)"),
    case("half a character", "product", "\ud800", r"product must be text that UTF-8 can hold, got '\ud800' (str)"),
    case("no time", "requested_at", None, "requested_at must be given, it cannot be missing, got None (NoneType)"),
    case("NaT", "requested_at", pd.NaT, "requested_at must be given, it cannot be missing"),
    case("numpy NaT", "requested_at", np.datetime64("NaT", "us"), "requested_at must be given, it cannot be missing"),
    case(
        "naive datetime",
        "requested_at",
        datetime(2026, 1, 12),
        "must say its time zone, got datetime.datetime(2026, 1,",
    ),
    case(
        "naive Timestamp",
        "requested_at",
        pd.Timestamp("2026-01-12"),
        "give an offset, .replace(tzinfo=...), or .dt.tz_",
    ),
    case(
        "naive text",
        "requested_at",
        "2026-01-12T12:00",
        "must say its time zone, got '2026-01-12T12:00' (str): give an",
    ),
    case("no time in text", "requested_at", "noon", "must be ISO 8601 text like 2026-01-12T08:30:00-05:00, got 'noon'"),
    case("milliseconds", "requested_at", NOON_S * 10**3, "these look like milliseconds, divide by 1,000"),
    case("microseconds", "requested_at", NOON_S * 10**6, "these look like microseconds, divide by 1,000,000"),
    case("nanoseconds", "requested_at", NOON_S * 1e9, "these look like nanoseconds, divide by 1,000,000,000"),
    case("long ago", "requested_at", datetime(1999, 12, 31, tzinfo=UTC), "must lie from 2000 to 2059"),
    case("infinite time", "requested_at", float("inf"), "must be an aware datetime, ISO 8601 text or epoch seconds"),
    case(
        "bool time", "requested_at", True, "must be an aware datetime, ISO 8601 text or epoch seconds, got True (bool)"
    ),
    case("duration", "requested_at", timedelta(1), "must be an aware datetime, ISO 8601 text or epoch seconds"),
]


@pytest.mark.parametrize(("value", "packed"), NUMBERS)
def test_number(value, packed):
    np.testing.assert_array_equal(PACKER.pack({**ROW, "speed_mps": value}).numeric, np.float32([[43.6, packed]]))


@pytest.mark.parametrize(("value", "packed"), TEXTS)
def test_category(value, packed):
    rows = PACKER.pack({**ROW, "product": value})
    assert rows.categorical.tolist() == [[packed]]
    assert type(rows.categorical[0, 0]) is str


@pytest.mark.parametrize(("value", "packed"), TIMES)
def test_time(value, packed):
    rows = PACKER.pack({**ROW, "requested_at": value})
    assert (rows.requested_at.tolist(), rows.requested_at.dtype) == ([[packed]], np.int64)


@pytest.mark.parametrize(("column", "value", "said"), REFUSED)
@pytest.mark.parametrize("of", [list, pd.DataFrame], ids=["dicts", "frame"])
def test_refused(column, value, said, of):
    rows = [ROW, {**ROW, column: value}]
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in ROW})
    message = refusal(rows if of is list else frame)
    assert message.startswith(f"row 1: {column} ")
    assert said in message


def test_columns_are_packed_by_name_in_any_order():
    backwards = dict(reversed(ROW.items()))
    np.testing.assert_array_equal(PACKER.pack(backwards).numeric, np.float32([[43.6, 8.5]]))


def test_id_and_target_may_be_there():
    assert len(PACKER.pack({**ROW, "request_id": "r1", "pickup_time_s": None})) == 1


def test_float32_at_the_limit_is_within_it():
    lowest = float(np.float32(43.8))  # 43.79999923706055
    assert len(PACKER.pack([{**ROW, "pickup_lat": 43.8}, {**ROW, "pickup_lat": lowest}])) == 2


@pytest.mark.parametrize("of", [dict, lambda row: pd.DataFrame([row])], ids=["dict", "frame"])
def test_missing_column_names_the_one_it_could_be(of):
    row = {"pick_lat" if name == "pickup_lat" else name: value for name, value in ROW.items()}
    assert refusal(of(row)).endswith("column pickup_lat is missing, but 'pick_lat' is there")


def test_unknown_column_is_refused_with_a_hint():
    assert refusal({**ROW, "speed_mph": 19.0}) == "row 0: no column 'speed_mph', did you mean 'speed_mps'?"


def test_column_twice_in_a_frame_is_refused():
    frame = pd.DataFrame([ROW])
    assert "column product is there more than once" in refusal(pd.concat([frame, frame[["product"]]], axis=1))


def test_five_problems_are_told_and_the_rest_counted():
    message = refusal([{**ROW, "speed_mps": "fast"}] * 8)
    assert message.count("speed_mps must be") == 5
    assert message.endswith("; and 3 more problems")


def test_long_values_are_cut():
    assert len(refusal({**ROW, "speed_mps": "x" * 10_000})) < 200


@pytest.mark.parametrize("rows", [case("text", "rows"), case("series", pd.Series(ROW)), case("number", 7)])
def test_other_than_rows_is_refused(rows):
    assert refusal(rows).startswith("rows must be a dict, a list of dicts or a pandas or Polars frame, got ")


def test_row_that_is_no_dict_is_refused():
    assert refusal([ROW, 5]) == "row 1: must be a dict of column names and values, got 5 (int)"


def outcome(rows):
    try:
        packed = PACKER.pack(rows)
    except RequestError as error:
        return str(error)
    arrays = (packed.numeric, packed.categorical, packed.requested_at)
    return [
        (array.shape, array.dtype, array.tobytes() if array.dtype != object else array.tolist()) for array in arrays
    ]


def test_row_alone_is_packed_or_refused_as_in_a_list():
    """One dict has a shorter way than many, which must not show."""
    numbers = [None, float("nan"), 0, 7, -3.0, 0.1, 1e39, 10**400, True, "3", np.float32(0.1), np.int64(3), pd.NA]
    texts = [None, "", "xl", "Köln", "\ud800", 75, 75.0, True, np.str_("xl"), Product.XL]
    times = [
        NOON_S,
        float(NOON_S) + 0.9,
        True,
        None,
        0,
        10**12,
        "2026-01-12T08:30:00-05:00",
        "2026-01-12",
        datetime.now(UTC),
    ]
    rng, n_packed = np.random.default_rng(5), 0
    for _ in range(2000):
        row = dict(ROW)
        for name in row.keys() & {*SCHEMA.numeric_names, *SCHEMA.categorical_names, SCHEMA.requested_at}:
            values = numbers if name in SCHEMA.numeric_names else texts if name in SCHEMA.categorical_names else times
            if rng.random() < 0.2:
                row[name] = values[rng.integers(len(values))]
        if rng.random() < 0.1:
            row |= {SCHEMA.id: "an id"} if rng.random() < 0.5 else {"no such": 1}
        assert outcome(row) == outcome([row])
        n_packed += not isinstance(outcome(row), str)
    assert 500 < n_packed < 1900
