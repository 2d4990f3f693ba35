"""The one declaration of columns: what it refuses, what it keeps, what its fingerprint sees."""

import pytest

from hailtime.errors import SchemaError
from hailtime.schema import Column, Schema
from tests.tiny_run import TINY_SCHEMA


def changed(**entries):
    return {**TINY_SCHEMA.to_dict(), **entries}


def with_column(which, **entries):
    columns = [{**c, **entries} if c["name"] == which else c for c in TINY_SCHEMA.to_dict()["columns"]]
    return changed(columns=columns)


def test_a_schema_survives_json():
    assert Schema.from_json(TINY_SCHEMA.to_json()) == TINY_SCHEMA


def test_inputs_keep_their_declared_order():
    assert TINY_SCHEMA.input_names == (
        "requested_at", "distance_m", "idle_drivers", "rain_mm_h", "pickup_zone", "product"
    )  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(changed(timezone="America/New_York"), id="timezone"),
        pytest.param(with_column("rain_mm_h", maximum=99.0), id="range"),
        pytest.param(with_column("rain_mm_h", unit="in/h"), id="unit"),
        pytest.param(with_column("rain_mm_h", out_of_range="clip"), id="out_of_range"),
        pytest.param(changed(columns=TINY_SCHEMA.to_dict()["columns"][::-1]), id="order"),
    ],
)
def test_the_fingerprint_sees_what_changes_a_number(other):
    assert Schema.from_dict(other).fingerprint != TINY_SCHEMA.fingerprint


def test_the_fingerprint_does_not_see_a_description():
    other = Schema.from_dict(with_column("rain_mm_h", description="how wet it is"))
    assert other.fingerprint == TINY_SCHEMA.fingerprint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(changed(zone="pickup_zon"), "zone must name a categorical.*did you mean 'pickup_zone'", id="zone"),
        pytest.param(changed(zones="x"), "no entry 'zones', did you mean 'zone'", id="entry"),
        pytest.param(changed(journey=["a", "b", "c", "d"]), "must name numeric columns, got 'a'", id="journey"),
        pytest.param(with_column("product", role="category"), "no role 'category', did you mean", id="role"),
        pytest.param(with_column("rain_mm_h", unit=""), "needs a unit", id="unit"),
        pytest.param(with_column("rain_mm_h", maximum=-1.0), "minimum must be below maximum", id="range"),
        pytest.param(with_column("rain_mm_h", name="Rain"), "must match", id="name"),
        pytest.param(with_column("rain_mm_h", name="product"), "declared twice: product", id="twice"),
        pytest.param(with_column("rain_mm_h", role="target"), "exactly one target", id="two-targets"),
        pytest.param(with_column("rain_mm_h", out_of_range="clamp"), "did you mean 'clip'", id="policy"),
    ],
)
def test_a_wrong_schema_says_what_is_wrong(data, message):
    with pytest.raises(SchemaError, match=message):
        Schema.from_dict(data)


def test_text_that_is_no_json_is_refused():
    with pytest.raises(SchemaError, match="must be JSON"):
        Schema.from_json("source: x")


def test_a_range_reads_as_a_person_would_say_it():
    assert Column("speed", "numeric", "m/s", 0.0, 45.0).range_text == "0 to 45 m/s"
