"""Frames packed: every column type of pandas that backends send, and that a frame says the same as its rows."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tests.small_town import NEW_YORK, NOON_S, ROW
from tests.test_request import PACKER, case, refusal


@pytest.mark.parametrize(
    ("column", "typed", "packed"),
    [
        case("Int64", "speed_mps", pd.array([8, None], "Int64"), [8.0, np.nan]),
        case("Float64", "speed_mps", pd.array([8.5, None], "Float64"), [8.5, np.nan]),
        case("float32", "speed_mps", pd.array([8.5, np.nan], "float32"), [8.5, np.nan]),
        case("uint8", "speed_mps", pd.array([8, 9], "uint8"), [8.0, 9.0]),
        case("object", "speed_mps", pd.array([8.5, None], "object"), [8.5, np.nan]),
        case("Arrow int64", "speed_mps", pd.array([8, None], "int64[pyarrow]"), [8.0, np.nan]),
        case("string", "product", pd.array(["xl", None], "string"), ["xl", ""]),
        case("category", "product", pd.Categorical(["xl", None]), ["xl", ""]),
        case("ints", "product", pd.array([75, 7], "int64"), ["75", "7"]),
        case(
            "times ns",
            "requested_at",
            pd.to_datetime([NOON_S + 0.9, NOON_S], unit="s", utc=True).as_unit("ns"),
            [NOON_S] * 2,
        ),
        case(
            "times us",
            "requested_at",
            pd.DatetimeIndex(["2026-01-12 07:00"] * 2, tz=NEW_YORK).as_unit("us"),
            [NOON_S] * 2,
        ),
        case(
            "Arrow times",
            "requested_at",
            pd.array([datetime(2026, 1, 12, 12, tzinfo=UTC)] * 2, "timestamp[us, UTC][pyarrow]"),
            [NOON_S] * 2,
        ),
        case("epoch seconds", "requested_at", pd.array([NOON_S] * 2, "int64"), [NOON_S] * 2),
    ],
)
def test_pandas_column(column, typed, packed):
    rows = PACKER.pack(pd.DataFrame([ROW, ROW]).assign(**{column: typed}))
    where = {
        "speed_mps": rows.numeric[:, 1],
        "product": rows.categorical[:, 0],
        "requested_at": rows.requested_at[:, 0],
    }
    np.testing.assert_array_equal(where[column], np.array(packed, where[column].dtype))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        case("naive", pd.to_datetime(["2026-01-12", "2026-01-13"]), "row 0: requested_at must say its time zone"),
        case("milliseconds", np.array([NOON_S, NOON_S * 1000]), "these look like milliseconds"),
        case("missing", pd.to_datetime([NOON_S, None], unit="s", utc=True), "row 1: requested_at must be given"),
        case("NaN", np.array([NOON_S, np.nan]), "row 1: requested_at must be given"),
    ],
)
def test_pandas_time_column_refused(typed, said):
    assert said in refusal(pd.DataFrame([ROW, ROW]).assign(requested_at=typed))


def test_bool_column_of_a_frame_is_no_number():
    assert "speed_mps must be a number" in refusal(pd.DataFrame([{**ROW, "speed_mps": True}]))


@pytest.mark.parametrize("frame_of", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_frame_packs_as_its_rows_do(frame_of):
    asked = [datetime(2026, 1, 12, 12, minute, tzinfo=UTC) for minute in range(20)]
    rows = [{**ROW, "requested_at": at, "speed_mps": 2.0 * i or None, "product": f"p{i}"} for i, at in enumerate(asked)]
    one_by_one, at_once = PACKER.pack(rows), PACKER.pack(frame_of(rows))
    for name in ("numeric", "categorical", "requested_at"):
        np.testing.assert_array_equal(getattr(at_once, name), getattr(one_by_one, name))
        assert getattr(at_once, name).dtype == getattr(one_by_one, name).dtype
