"""Spark for tests: one local session, one cluster, and a small dirty city with what Polars makes of it."""

import importlib.util
import os
import shutil

import polars as pl
import pytest
import yaml

from hailtime.config import CONFIGS
from hailtime.preparation.dataset import prepare
from hailtime.preparation.spark_session import spark_session
from hailtime.sources import RawData
from hailtime.sources.simulated_city import load

LATER_US = pl.col("requested_at") + 3 * 3600 * 1_000_000  # nobody waits three hours

# Small data: few partitions, and only the first of Java's two compilers, which halves the time.
FAST = {
    "spark.sql.shuffle.partitions": 2,
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}
LOCAL = {"master": "local[2]", "memory": "1g", "conf": FAST}


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/spark/" in item.path.as_posix():
            item.add_marker(pytest.mark.spark)


def pytest_runtest_setup(item):
    lacking = [
        what
        for what, is_there in (
            ("pyspark", importlib.util.find_spec("pyspark") is not None),
            ("Java", "JAVA_HOME" in os.environ or shutil.which("java") is not None),
        )
        if not is_there
    ]
    if lacking and os.environ.get("HAILTIME_REQUIRE_SPARK") == "1":
        pytest.fail(f"HAILTIME_REQUIRE_SPARK=1, and there is no {' and no '.join(lacking)}")
    if lacking:
        pytest.skip(f"needs {' and '.join(lacking)}: make test-all installs what it needs")


@pytest.fixture(scope="module")
def spark():
    """A local session; a process holds one session, so a file of tests either shares this one or starts its own."""
    with spark_session(**LOCAL) as session:
        yield session


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    from tests.spark.cluster import standalone_cluster

    with standalone_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def city():
    """20,000 trips of two weeks with three times the usual faults, four rare ones besides, and their settings."""
    settings = yaml.safe_load((CONFIGS / "source" / "simulated_city.yaml").read_text())
    raw = load(n_requests=20_000, days=14, dirt=3.0)
    row = pl.int_range(pl.len()) // 50  # fifty rows of each
    rare = {"pickup_lon": -60.0, "driver_speed_mps": 99.0, "driver_busy_s": 5000.0, "arrived_at": LATER_US}
    spoiled = raw.table().with_columns(
        pl.when(row == place).then(value).otherwise(pl.col(name)).alias(name)
        for place, (name, value) in enumerate(rare.items())
    )
    return RawData(spoiled, raw.conditions), {**settings, "load": {}}


@pytest.fixture(scope="session")
def by_polars(city, tmp_path_factory):
    return prepare(*city, tmp_path_factory.mktemp("polars") / "city")
