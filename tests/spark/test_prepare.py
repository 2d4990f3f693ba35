"""The prepared folder is the same from Polars, pandas, Spark alone and a Spark cluster that loses executors."""

import threading
import time
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from hailtime.errors import ConfigError, DataError
from hailtime.preparation.dataset import prepare
from hailtime.preparation.spark import clean_and_join_with_spark
from hailtime.preparation.spark_session import spark_session
from hailtime.preparation.split import PARTS
from tests.spark.conftest import FAST, LOCAL

SAME = ("clean", "conditions", "parts", "boundaries", "dropped_in_gaps", "data_fingerprint")


def on(cluster, **settings):
    return {"master": cluster.url, "memory": "1g", "conf": FAST, **settings}


def assert_same(prepared, expected):
    """Texts and times exactly, numbers to 1e-9; the fingerprint says that in truth no bit differs."""
    for part in PARTS:
        assert_frame_equal(prepared.part(part), expected.part(part), rel_tol=0, abs_tol=1e-9)
    for entry in SAME:
        ours, theirs = prepared.report[entry], expected.report[entry]
        assert strip_files(ours) == strip_files(theirs), entry


def strip_files(entry):
    """How a part is cut into files is the engine's own."""
    return {k: {**v, "files": 0} for k, v in entry.items()} if isinstance(entry, dict) and "train" in entry else entry


def test_the_city_is_dirty_enough_to_prove_something(by_polars):
    rows = {finding["name"]: finding["rows"] for finding in by_polars.report["clean"]["findings"]}
    assert sum(n > 0 for n in rows.values()) >= 8
    assert 0 in rows.values()
    assert rows["same_request_twice"] > 50
    assert by_polars.report["clean"]["rows_out"] > 15_000


def test_pandas_prepares_the_same(city, by_polars, tmp_path):
    assert_same(prepare(*city, tmp_path / "city", "pandas"), by_polars)


def test_spark_alone_prepares_the_same_and_leaves_nothing_else(city, by_polars, tmp_path):
    assert_same(prepare(*city, tmp_path / "city", "spark", LOCAL), by_polars)
    assert {path.name for path in (tmp_path / "city").iterdir()} == {
        *PARTS,
        "schema.json",
        "report.json",
        "report.html",
    }


def test_a_cluster_that_loses_executors_prepares_the_same(city, by_polars, cluster, tmp_path):
    stages = tmp_path / ".city.new" / ".work" / "spark" / "rows.stages"
    killed, is_done = [], threading.Event()

    def lose_executors():
        for begun in (stages / "good", stages / "clean" / "_SUCCESS"):  # while it cleans, and again while it joins
            while not begun.exists() and not is_done.is_set():
                time.sleep(0.01)
            killed.append(cluster.kill_executor())

    thread = threading.Thread(target=lose_executors)
    thread.start()
    try:
        prepared = prepare(*city, tmp_path / "city", "spark", on(cluster))
    finally:
        is_done.set()
        thread.join()
    assert len(killed) == 2
    assert None not in killed
    assert_same(prepared, by_polars)


def test_folder_that_workers_do_not_share_is_told(cluster, tmp_path, monkeypatch):
    # the working folder of whoever asks: a worker's is another than ours
    monkeypatch.chdir(tmp_path)
    with spark_session(**on(cluster)) as session:
        out = Path("/proc/self/cwd/rows")
        with pytest.raises(DataError, match=r"must be a folder that every Spark worker sees.*0 are there"):
            clean_and_join_with_spark(tmp_path, {}, None, {}, out, session)


def test_cluster_without_a_worker_that_is_large_enough_is_told(cluster):
    start = time.monotonic()
    with (
        pytest.raises(ConfigError, match=r"no worker of spark://.* took a job within 2 s: .* spark\.memory=900g"),
        spark_session(**on(cluster, memory="900g"), workers_s=2),
    ):
        pass
    assert time.monotonic() - start < 60


def test_second_session_in_a_process_is_refused(cluster):
    with (
        spark_session(**LOCAL),
        pytest.raises(ConfigError, match="runs in this process already: stop it first"),
        spark_session(**on(cluster)),
    ):
        pass
