"""Rows in time order: the same whether in memory or on the disk, and however they came."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hailtime.preparation.codes import Codes, count_codes, with_texts
from hailtime.preparation.repeats import Repeats
from hailtime.preparation.rules import Duplicate
from hailtime.preparation.time_order import TimeOrder

MINUTE = 60_000_000


def rows(n=500, seed=1):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "at": rng.integers(0, 40 * MINUTE, n) // 1_000_000 * 1_000_000,  # whole seconds: many times occur twice
            "id": [f"r{number}" for number in rng.integers(0, n, n)],
            "value": rng.random(n),
        }
    )


@pytest.fixture(params=[0, 10_000_000], ids=["on the disk", "in memory"])
def kept_bytes(request):
    return request.param


def ordered(table, tmp_path, kept_bytes, block=60):
    order = TimeOrder(tmp_path / "work", "at", kept_bytes)
    for piece in table.iter_slices(block):
        order.add(piece)
    return order


def test_blocks_come_back_sorted_and_no_time_is_in_two(tmp_path, kept_bytes):
    table = rows()
    blocks = list(ordered(table, tmp_path, kept_bytes).blocks(50))
    assert_frame_equal(pl.concat(blocks), table.sort("at", "id", "value"))
    assert 8 <= len(blocks) <= 10
    assert all(a["at"][-1] // MINUTE < b["at"][0] // MINUTE for a, b in pairwise(blocks))
    assert (tmp_path / "work").exists() == (kept_bytes == 0)


def test_time_of_a_row_is_that_of_the_sorted_table(tmp_path, kept_bytes):
    table, order = rows(), ordered(rows(), tmp_path, kept_bytes)
    expected = table["at"].sort().to_list()
    assert [order.time_at(row) for row in (0, 1, 250, 498, 499)] == [expected[row] for row in (0, 1, 250, 498, 499)]
    assert order.span() == (expected[0], expected[-1])


def test_rows_taken_out_are_gone_and_may_come_back_changed(tmp_path, kept_bytes):
    table, order = rows(), ordered(rows(), tmp_path, kept_bytes)
    taken = order.take(pl.col("value") < 0.1)
    assert_frame_equal(taken.sort("at", "id"), table.filter(pl.col("value") < 0.1).sort("at", "id"))
    order.add(taken.head(5).with_columns(value=pl.lit(2.0)))
    left = pl.concat([table.filter(pl.col("value") >= 0.1), taken.head(5).with_columns(value=pl.lit(2.0))])
    assert order.n_rows == left.height
    assert_frame_equal(pl.concat(order.blocks(50)), left.sort("at", "id", "value"))
    assert order.time_at(order.n_rows // 2) == left["at"].sort()[left.height // 2]


def test_categories_wait_as_codes_in_the_same_order(tmp_path, kept_bytes):
    table, codes = rows(), Codes(["id"])
    order = TimeOrder(tmp_path / "work", "at", kept_bytes)
    for piece in table.iter_slices(60):
        order.add(codes.coded(piece))
    found = pl.concat(order.blocks(50))
    assert isinstance(found.schema["id"], pl.Categorical)
    assert_frame_equal(with_texts(found, ["id"]), table.sort("at", "id", "value"))


def test_column_of_more_texts_than_codes_stays_text(tmp_path, kept_bytes):
    n, codes = 70_000, Codes(["id"])
    few = pl.DataFrame({"at": [1, 2, 3], "id": ["b", None, "a"]})
    many = pl.DataFrame({"at": np.arange(4, n), "id": [f"r{number}" for number in range(4, n)]})
    order = TimeOrder(tmp_path / "work", "at", kept_bytes)
    for piece in (few, many):
        order.add(codes.coded(piece))
    assert order.take(pl.col("at") == 3)["id"].to_list() == ["a"]
    assert_frame_equal(pl.concat(order.blocks()), pl.concat([few[:2], many]))


def test_codes_are_counted_by_text():
    coded = Codes(["id"]).coded(pl.DataFrame({"id": ["b", "a", None, "b"]}))
    texts, n_rows = count_codes(coded[1:]["id"])
    assert dict(zip(texts, n_rows.tolist(), strict=True)) == {"b": 1, "a": 1}


def test_rows_whose_key_occurs_again_are_marked_and_no_others():
    table = rows().with_columns(id=pl.when(pl.col("value") > 0.05).then(pl.col("id")))
    repeats = Repeats([Duplicate("twice", ("id",), {})])
    marked = pl.concat([repeats.mark(piece) for piece in table.iter_slices(77)])
    found = marked.filter(repeats.mask()).drop(repeats.columns)
    assert_frame_equal(found, table.filter(pl.col("id").is_not_null() & pl.col("id").is_duplicated()))


def test_no_key_twice_is_nothing_to_look_at():
    repeats = Repeats([Duplicate("twice", ("at", "id"), {})])
    repeats.mark(rows().unique(["at", "id"]))
    assert repeats.mask() is None
