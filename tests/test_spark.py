"""Preparing with Spark, as far as it goes without one: settings, and trips staged for it. With one: tests/spark."""

import socket
import sys
from datetime import UTC, datetime

import polars as pl
import pytest

from hailtime.errors import ConfigError
from hailtime.preparation.spark import stage_trips
from hailtime.preparation.spark_session import spark_session


def start(**settings):
    with spark_session(**settings):
        raise AssertionError("it started")


@pytest.mark.parametrize("master", ["spark//10.0.0.5:7077", "10.0.0.5:7077", "lokal", "spark://"])
def test_something_that_is_no_master_is_told(master):
    with pytest.raises(ConfigError, match=r"spark\.master must be local\[\*\], spark://HOST:PORT, yarn or k8s"):
        start(master=master)


def test_master_nobody_answers_for_is_told_at_once():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match=rf"nobody answers at 127\.0\.0\.1:{port}: .*spark\.master=local"):
        start(master=f"spark://127.0.0.1:{port}")


def test_port_that_is_no_number_is_told():
    with pytest.raises(ConfigError, match="nobody answers at host:seven"):
        start(master="spark://host:seven")


def test_missing_pyspark_is_told_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(ImportError, match=r"Preparing with Spark needs pyspark: pip install 'hailtime\[spark\]'"):
        start()


def test_missing_java_is_told_with_the_way_out(tmp_path, monkeypatch):
    pytest.importorskip("pyspark")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ConfigError, match="there is no java on the PATH: apt install"):
        start()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=f"JAVA_HOME={tmp_path} has no bin/java"):
        start()


def test_blocks_are_staged_with_types_that_are_the_same_and_that_spark_reads(tmp_path):
    noon = datetime(2026, 1, 12, 12, tzinfo=UTC)
    blocks = [
        pl.DataFrame({"n": [1], "at": [noon], "few": [1], "none": [None]}, schema_overrides={"few": pl.UInt16}),
        pl.DataFrame({"n": [1.5], "at": [noon], "few": [2], "none": ["x"]}, schema_overrides={"few": pl.UInt64}),
    ]
    blocks = [block.with_columns(pl.col("at").dt.cast_time_unit("ns")) for block in blocks]
    assert stage_trips(blocks, tmp_path / "raw") == 2
    files = sorted((tmp_path / "raw").iterdir())
    types = {"n": pl.Float64, "at": pl.Datetime("us", "UTC"), "few": pl.Int64, "none": pl.String}
    assert [pl.read_parquet_schema(path) for path in files] == [types, types]
    assert pl.concat(pl.read_parquet(path) for path in files).rows() == [(1.0, noon, 1, None), (1.5, noon, 2, "x")]
