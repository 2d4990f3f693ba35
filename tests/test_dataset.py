"""The prepared folder: parts follow each other in time, appear whole, and are the same whatever engine made them."""

import json
import signal
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from datetime import date
from itertools import pairwise

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from hailtime.config import CONFIGS
from hailtime.errors import ConfigError, DataError, HailtimeError, SchemaError
from hailtime.preparation.dataset import prepare
from hailtime.preparation.parts import PartDigest, coded
from hailtime.preparation.prepared import load_prepared
from hailtime.preparation.split import PARTS, read_split, utc_text
from hailtime.schema import Schema
from hailtime.sources import RawData
from hailtime.sources.simulated_city import load
from hailtime.whole_folder import present_folder, whole_folder

NOON_US = 1_768_219_200_000_000  # date -u -d 2026-01-12T12:00:00Z +%s, in microseconds
SECOND = 1_000_000
CITY = yaml.safe_load((CONFIGS / "source" / "simulated_city.yaml").read_text())
TOWN = {
    "schema": {
        "source": "town",
        "timezone": "Europe/Berlin",
        "columns": {
            "request_id": {"role": "id"},
            "requested_at": {"role": "requested_at"},
            "queue": {"role": "numeric", "unit": "1"},
            "zone": {"role": "categorical"},
            "pickup_time_s": {"role": "target", "unit": "s"},
        },
    },
    "split": {"validation": 0.5, "calibration": 0.7, "test": 0.8, "gap_s": 0},
}


def town(n=10, step_s=60):
    """n requests, one every `step_s` seconds from noon on; the queue counts them."""
    return RawData(
        pl.DataFrame(
            {
                "request_id": [f"r{i:03}" for i in range(n)],
                "requested_at": [NOON_US + i * step_s * SECOND for i in range(n)],
                "queue": [float(i) for i in range(n)],
                "zone": [None if i % 4 == 0 else f"z{i % 3}" for i in range(n)],
                "pickup_time_s": [300.0] * n,
            },
            schema_overrides={"requested_at": pl.Int64, "zone": pl.String},
        ),
        {},
    )


def with_split(**entries):
    return {**TOWN, "split": {**TOWN["split"], **entries}}


def queues(prepared):
    return {part: prepared.part(part)["queue"].to_list() for part in PARTS}


@pytest.fixture(scope="module")
def city():
    return load(n_requests=4000, days=10, dirt=3.0)


@pytest.fixture(scope="module")
def prepared_city(city, tmp_path_factory):
    return prepare(city, CITY, tmp_path_factory.mktemp("city") / "prepared")


@pytest.fixture
def prepared_town(tmp_path):
    return prepare(town(), TOWN, tmp_path / "town")


def test_shares_cut_the_rows_in_time_order(prepared_town):
    assert queues(prepared_town) == {
        "train": [0, 1, 2, 3, 4],
        "validation": [5, 6],
        "calibration": [7],
        "test": [8, 9],
    }


def test_shares_are_exact_where_floats_are_not(tmp_path):
    """0.29 * 100 is 28.999999999999996 in floats."""
    shares = with_split(validation=0.29, calibration=0.57, test=0.58)
    assert [len(rows) for rows in queues(prepare(town(100), shares, tmp_path / "town")).values()] == [29, 28, 1, 42]


@pytest.mark.parametrize("first", ["2026-03-29", date(2026, 3, 29)], ids=["text", "date"])
def test_date_is_local_midnight_also_around_daylight_saving(first):
    settings = {"validation": first, "calibration": "2026-03-30", "test": "2026-03-31T06:30", "gap_s": 0}
    plan = read_split(settings, Schema.from_dict(TOWN["schema"]))
    assert [utc_text(us)[:16] for us in plan.boundaries] == ["2026-03-28T23:00", "2026-03-29T22:00", "2026-03-31T04:30"]


def test_rows_in_the_gap_before_a_boundary_belong_to_no_part(tmp_path):
    prepared = prepare(town(20), with_split(validation=0.5, calibration=0.7, test=0.85, gap_s=60), tmp_path / "town")
    assert queues(prepared) == {
        "train": [0, 1, 2, 3, 4, 5, 6, 7, 8],
        "validation": [10, 11, 12],
        "calibration": [14, 15],
        "test": [17, 18, 19],
    }
    assert prepared.report["dropped_in_gaps"] == 3


def test_no_label_of_a_part_was_open_when_the_next_began(prepared_city):
    schema = prepared_city.schema
    arrived_at = pl.col(schema.requested_at) + (pl.col(schema.target) * SECOND).cast(pl.Int64)
    for part, following in pairwise(PARTS):
        last_label = prepared_city.part(part).select(arrived_at.max()).item()
        assert last_label <= prepared_city.part(following)[schema.requested_at][0]


def test_part_holds_the_declared_columns_by_time(prepared_city):
    part, schema = prepared_city.part("train"), prepared_city.schema
    numbers = [*schema.numeric_names]
    names = ["request_id", "requested_at", *numbers, *schema.categorical_names, "pickup_time_s", "true_median_s"]
    assert part.columns == names
    assert {part.schema[name] for name in [*numbers, "pickup_time_s", "true_median_s"]} == {pl.Float64}
    assert {part.schema[name] for name in ["request_id", *schema.categorical_names]} == {pl.String}
    assert part.schema["requested_at"] == pl.Int64
    assert_frame_equal(part, part.sort("requested_at", "request_id"))
    assert not any(part[name].is_nan().any() for name in numbers)


@pytest.mark.slow
def test_pandas_prepares_the_same_data_to_the_last_bit(city, prepared_city, tmp_path):
    other = prepare(city, CITY, tmp_path / "pandas", engine="pandas")
    assert other.fingerprint == prepared_city.fingerprint
    assert other.report["clean"] == prepared_city.report["clean"]
    for part in PARTS:
        assert_frame_equal(other.part(part), prepared_city.part(part), check_exact=True)


def test_row_order_of_the_source_changes_nothing(city, prepared_city, tmp_path):
    mixed = RawData(
        city.table().sample(fraction=1.0, shuffle=True, seed=1),
        {name: table.sample(fraction=1.0, shuffle=True, seed=2) for name, table in city.conditions.items()},
    )
    assert prepare(mixed, CITY, tmp_path / "mixed").fingerprint == prepared_city.fingerprint


def test_trips_that_come_in_blocks_give_the_same_data_and_report(city, prepared_city, tmp_path):
    """Blocks cut duplicates apart, and are not in the order of time."""
    blocks = list(city.table().iter_slices(333))[::-1]
    other = prepare(RawData(blocks, city.conditions), CITY, tmp_path / "blocks")
    assert other.fingerprint == prepared_city.fingerprint
    assert other.report["clean"] == prepared_city.report["clean"]
    assert any(f["rows"] for f in other.report["clean"]["findings"] if f["kind"] == "duplicate")


def test_report_tells_what_was_done(prepared_city):
    report = json.loads((prepared_city.folder / "report.json").read_text())
    n_parts = sum(part["rows"] for part in report["parts"].values())
    assert report["clean"]["rows_out"] == n_parts + report["dropped_in_gaps"]
    assert set(report["conditions"]) == {"weather", "traffic", "incidents"}
    assert min(report["conditions"].values()) > 0.99
    assert set(report["seconds"]) == {"load", "clean", "sort", "join", "write", "digest", "profile", "leakage", "all"}
    assert report["settings"] == json.loads(json.dumps(CITY, default=str))
    assert report["parts"]["train"]["rows"] == prepared_city.part("train").height


def test_joined_value_outside_its_range_is_in_the_report(tmp_path):
    settings = deepcopy(TOWN)
    settings["schema"]["columns"]["rain"] = {"role": "numeric", "unit": "mm", "range": [0, 9], "condition": "weather"}
    settings["conditions"] = {"weather": {"key": None, "freshness_h": 3}}
    weather = pl.DataFrame({"observed_at": [NOON_US], "known_at": [NOON_US], "rain": [10.0]})
    prepared = prepare(replace(town(), conditions={"weather": weather}), settings, tmp_path / "town")
    found = {f["name"]: f["rows"] for f in prepared.report["clean"]["findings"] if f["rows"]}
    assert found == {"range_rain": 10}
    assert prepared.report["conditions"] == {"weather": 0.0}


def test_loaded_folder_equals_the_prepared_one(prepared_town):
    loaded = load_prepared(prepared_town.folder)
    assert (loaded.schema, loaded.fingerprint) == (prepared_town.schema, prepared_town.fingerprint)
    assert loaded.report == prepared_town.report
    assert_frame_equal(loaded.part("test"), prepared_town.part("test"))


def test_fingerprint_sees_every_value_name_and_part():
    frame = pl.DataFrame({"a": [1.0, None], "b": ["x", "yz"]})
    others = [
        {"train": frame.with_columns(a=pl.Series([1.0, 0.0]))},
        {"train": frame.with_columns(b=pl.Series(["xy", "z"]))},
        {"train": frame.with_columns(b=pl.Series(["x", None]))},
        {"train": frame.rename({"a": "c"})},
        {"train": frame[::-1]},
        {"test": frame},
    ]
    assert len({digest(parts) for parts in [{"train": frame}, *others]}) == 7
    same = frame.with_columns(a=pl.Series([1.0, 0.0]) * -1 * -1).with_columns(a=pl.Series([1.0, None]))
    assert digest({"train": same}) == digest({"train": frame})


def digest(parts):
    ((part, frame),) = parts.items()
    digest = PartDigest(part)
    digest.add(frame)
    return digest.digest()


def test_fingerprint_does_not_see_how_rows_are_cut_into_blocks(prepared_city):
    rows, whole, cut = prepared_city.part("test"), PartDigest("test"), PartDigest("test")
    whole.add(coded(rows, prepared_city.schema))
    for block in (rows[:7], rows[7:8], rows[8:]):
        cut.add(coded(block, prepared_city.schema))
    assert cut.digest() == whole.digest()


def test_fingerprint_sees_each_value_of_coded_categories():
    schema = Schema.from_dict(TOWN["schema"])
    name = schema.categorical_names[0]
    texts = [["a", "b", "b"], ["b", "a", "b"], ["a", "b", None], ["a", "b", ""]]
    assert len({digest({"train": coded(pl.DataFrame({name: values}), schema)}) for values in texts}) == 4


@pytest.mark.parametrize(
    ("raw", "settings", "message"),
    [
        pytest.param(town(1), TOWN, "must begin one after another", id="one trip"),
        pytest.param(town(0), TOWN, "0 rows", id="no trip"),
        pytest.param(
            town(),
            with_split(validation="2026-01-10", calibration="2026-01-11", test=0.8),
            "part train would be empty: 10 clean rows go from 2026-01-12T12:00.*set split.train",
            id="dates before the data",
        ),
        pytest.param(town(), with_split(gap_s=3600), "part train would be empty.*gap of 3600 s", id="gap too wide"),
        pytest.param(town(), with_split(test="2027-01-01"), "part test would be empty", id="dates after the data"),
    ],
)
def test_split_that_leaves_a_part_empty_is_told(tmp_path, raw, settings, message):
    with pytest.raises(HailtimeError, match=message):
        prepare(raw, settings, tmp_path / "town")
    assert not (tmp_path / "town").exists()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (with_split(validation=1.5), ConfigError, "share between 0 and 1 or a date such as 2015-07-01, got 1.5"),
        (with_split(validation="soon"), ConfigError, "split.validation must be a share .* got 'soon'"),
        (with_split(gap_s=-1), ConfigError, "gap_s must be whole seconds from 0, got -1"),
        (with_split(gap=1), ConfigError, "no setting 'gap', did you mean 'gap_s'"),
        (with_split(test=None), ConfigError, "split needs the setting 'test'"),
        (with_split(test=0.6), ConfigError, "must begin one after another"),
        ({**TOWN, "rule": {}}, ConfigError, "no entry 'rule', did you mean 'rules'"),
        ({"schema": TOWN["schema"]}, ConfigError, "a source needs an entry 'split'"),
        ({**TOWN, "schema": {**TOWN["schema"], "timezone": "Mars/Base"}}, ConfigError, "IANA name"),
        ({**TOWN, "slices": ["zon"]}, ConfigError, "slices names inputs of the schema, and has 'zon', did you mean"),
        ({**TOWN, "schema": {"source": "town"}}, SchemaError, "needs an entry 'timezone'"),
    ],
)
def test_settings_that_cannot_work_are_told(tmp_path, settings, error, message):
    if "timezone" in settings["schema"] and settings["schema"]["timezone"] == "Mars/Base":
        settings = {**settings, "split": {**settings["split"], "test": "2026-01-12"}}
    with pytest.raises(error, match=message):
        prepare(town(), settings, tmp_path / "town")


def test_unknown_engine_is_told(tmp_path):
    with pytest.raises(ConfigError, match="polars, pandas or spark, got 'polar', did you mean 'polars'"):
        prepare(town(), TOWN, tmp_path / "town", engine="polar")


def test_folder_that_is_not_there_names_the_command(tmp_path):
    with pytest.raises(DataError, match=r"python scripts/prepare.py source="):
        load_prepared(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("schema.json", r"holds schema\.json"),
        ("report.json", r"holds report\.json"),
        ("test/00000.parquet", "part test of .* must have 1 files, got 0"),
    ],
)
def test_missing_or_damaged_file_is_named(prepared_town, name, missing):
    (prepared_town.folder / name).write_text("{")
    with pytest.raises(DataError, match=name):
        load_prepared(prepared_town.folder)
    (prepared_town.folder / name).unlink()
    with pytest.raises(DataError, match=missing):
        load_prepared(prepared_town.folder)


def test_schema_of_another_preparation_is_told(prepared_town):
    path = prepared_town.folder / "schema.json"
    path.write_text(path.read_text().replace("Europe/Berlin", "Europe/Paris"))
    with pytest.raises(DataError, match=r"must belong together, got schema fingerprints .* source=town"):
        load_prepared(prepared_town.folder)


def test_part_of_another_preparation_is_told(prepared_town, tmp_path):
    other = prepare(town(11), TOWN, tmp_path / "other")
    (other.folder / "test/00000.parquet").replace(prepared_town.folder / "test/00000.parquet")
    with pytest.raises(DataError, match=r"test/00000\.parquet comes from another preparation"):
        load_prepared(prepared_town.folder)


def test_part_with_other_columns_is_told(prepared_town):
    path = prepared_town.folder / "train/00000.parquet"
    pl.read_parquet(path).drop("queue").write_parquet(path)
    with pytest.raises(DataError, match="differing: queue"):
        load_prepared(prepared_town.folder)


def test_data_prepared_anew_under_a_reader_is_told(prepared_town):
    prepare(town(12), TOWN, prepared_town.folder)
    with pytest.raises(DataError, match=r"another preparation than its report.*load the folder again"):
        prepared_town.part("train")
    assert load_prepared(prepared_town.folder).part("train").height == 6


def test_unknown_part_is_told(prepared_town):
    with pytest.raises(DataError, match="no part 'valid', did you mean 'validation'"):
        prepared_town.part("valid")


def fail_while_writing(folder):
    with whole_folder(folder, "report.json") as beside:
        (beside / "report.json").write_text("half")
        raise OSError("the disk is full")


def test_failed_preparation_leaves_the_old_folder_whole(prepared_town):
    with pytest.raises(DataError, match="disk is full"):
        fail_while_writing(prepared_town.folder)
    assert load_prepared(prepared_town.folder).fingerprint == prepared_town.fingerprint
    assert sorted(path.name for path in prepared_town.folder.parent.iterdir()) == [".town.lock", "town"]


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from hailtime.whole_folder import whole_folder
with whole_folder(Path(sys.argv[1]), "report.json") as beside:
    (beside / "report.json").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_preparation_leaves_the_old_folder_whole_and_the_next_one_works(prepared_town):
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, prepared_town.folder], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert load_prepared(prepared_town.folder).fingerprint == prepared_town.fingerprint
    prepare(town(12), TOWN, prepared_town.folder)
    assert sorted(path.name for path in prepared_town.folder.parent.iterdir()) == [".town.lock", "town"]


def test_folder_is_found_and_restored_when_death_came_between_the_two_renames(prepared_town):
    folder = prepared_town.folder
    folder.rename(folder.parent / ".town.previous")
    assert present_folder(folder) != folder
    assert load_prepared(folder).part("train").height == 5
    with pytest.raises(DataError, match="disk is full"):
        fail_while_writing(folder)
    assert (folder / "report.json").is_file()


def test_folder_of_other_things_is_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    with pytest.raises(DataError, match="holds other things"):
        prepare(town(), TOWN, tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "meow"


def run_prepare(*arguments):
    script = CONFIGS.parent / "scripts" / "prepare.py"
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_script_prepares_and_shows_the_report(tmp_path):
    done = run_prepare("source.load.n_requests=2000", "source.load.days=5", f"prepared={tmp_path / 'city'}")
    assert done.returncode == 0, done.stderr
    assert load_prepared(tmp_path / "city").part("test").height > 200
    assert "raw trips" in done.stdout
    assert "caught nothing" in done.stdout
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["city"]


@pytest.mark.slow
def test_script_tells_an_error_in_one_line_with_exit_status_2(tmp_path):
    done = run_prepare("source=nyc_ems", f"source.load.folder={tmp_path / 'nowhere'}", f"prepared={tmp_path / 'ems'}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("DataError: nyc_ems needs a folder with")
    assert "Traceback" not in done.stderr
