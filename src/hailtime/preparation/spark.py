"""Cleaning and joining on Spark, for trips that outgrow one machine: the same definition, on one frame of all trips.

    stage_trips(raw.blocks(), work / "raw")
    with spark_session(master="spark://10.0.0.5:7077") as session:
        found = clean_and_join_with_spark(work / "raw", raw.conditions, plan, conditions, work / "rows", session)

Raw trips, conditions, what is between the stages and the result are Parquet in a folder that the driver and every
worker see under the same path. Only counts and examples pass through the driver's memory, and an executor that is lost
costs what it was at work on.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from hailtime.errors import DataError
from hailtime.preparation.clean import CleaningPlan, clean_rows, drop_duplicates, mend_conditions
from hailtime.preparation.findings import Finding
from hailtime.preparation.join import ConditionJoin
from hailtime.preparation.profile import Profile
from hailtime.preparation.spark_session import spark_session
from hailtime.preparation.stopwatch import Stopwatch
from hailtime.preparation.time_order import BLOCK_ROWS, TimeOrder
from hailtime.sources import RawData

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Settings = Mapping[str, Mapping[str, Any]]
_BEFORE_SPARK = {  # types that Spark does not read from Parquet, or reads as another
    pl.UInt8: pl.Int64,
    pl.UInt16: pl.Int64,
    pl.UInt32: pl.Int64,
    pl.UInt64: pl.Int64,
    pl.Null: pl.String,
}


class SparkEngine:
    """All trips as one Spark frame; what is left for the blocks in the order of time is to look at joined values.

    - spark: the arguments of `spark_session`
    - folder: made when needed and gone after `clean`; on a cluster every worker must see it
    """

    def __init__(
        self, raw: RawData, plan: CleaningPlan, settings: Settings, spark: Mapping[str, Any], folder: Path
    ) -> None:
        self._raw, self._plan, self._settings = raw, plan, settings
        self._spark, self._folder = dict(spark), folder

    def clean(self, rows: TimeOrder, watch: Stopwatch, profile: Profile) -> tuple[int, list[Finding]]:
        """Fills `rows` with the clean trips, joined. How many raw trips there were, and what the rules found."""
        raw, out = self._folder / "raw", self._folder / "rows"
        if not stage_trips(_counted(watch.each("load", self._raw.blocks()), profile), raw):
            return 0, []
        with watch.time("spark"), spark_session(**self._spark) as session:
            n_rows, findings = clean_and_join_with_spark(
                raw, self._raw.conditions, self._plan, self._settings, out, session
            )
        with watch.time("sort"):
            for path in sorted(out.glob("*.parquet")):
                rows.add(pl.read_parquet(path))
        shutil.rmtree(self._folder)
        return n_rows, findings

    def join(self, block: pl.DataFrame) -> tuple[pl.DataFrame, list[Finding]]:
        """The block, whose conditions are joined already, with their values held to their ranges."""
        rows: pl.DataFrame
        rows, findings = mend_conditions(block, self._plan.schema)
        return rows, findings


def _counted(blocks: Iterable[pl.DataFrame], profile: Profile) -> Iterator[pl.DataFrame]:
    for block in blocks:
        profile.add_raw(block)
        yield block


def stage_trips(blocks: Iterable[pl.DataFrame], folder: Path) -> int:
    """Raw trips as Parquet that Spark can read, a file for each block, all with the same types. How many files."""
    folder.mkdir(parents=True)
    schemas: dict[Path, pl.Schema] = {}
    for number, block in enumerate(blocks):
        path, block = folder / f"{number:06}.parquet", _for_spark(block)
        block.write_parquet(path, compression="lz4")
        schemas[path] = block.schema
    if schemas:
        common = pl.concat([pl.DataFrame(schema=schema) for schema in schemas.values()], how="vertical_relaxed").schema
        for path, schema in schemas.items():
            if schema != common:  # whole numbers in one block and fractions in another
                pl.read_parquet(path).cast(common).write_parquet(path, compression="lz4")
    return len(schemas)


def clean_and_join_with_spark(
    staged: Path,
    tables: Mapping[str, pl.DataFrame],
    plan: CleaningPlan,
    settings: Settings,
    out: Path,
    session: "SparkSession",
) -> tuple[int, list[Finding]]:
    """Writes one row a believable request as Parquet to `out`, in no order: the plan's columns and those of conditions.

    - staged: a folder of Parquet with the raw trips
    - settings: of the source's conditions
    - out: not there yet; beside it is a folder for what is between the stages, gone at the end

    How many raw trips there were and what the rules found. DataError when a worker does not see the folder.
    """
    between = out.with_name(f"{out.name}.stages")
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        _check_shared(session, between)
        trips, findings, n_rows = clean_rows(_read(session, staged), plan)
        trips, repeated = drop_duplicates(_by_way_of(between / "good", trips), plan)
        trips = _by_way_of(between / "clean", trips.select(*plan.columns))
        joined = ConditionJoin(_staged(session, tables, between), plan.schema, settings).join(trips)
        joined.write.option("maxRecordsPerFile", BLOCK_ROWS).parquet(_uri(out))
    except (PySparkException, Py4JError) as error:
        raise DataError(f"Spark could not prepare the trips in {staged}: {_first_line(error)}") from error
    finally:
        session.catalog.clearCache()
        shutil.rmtree(between, ignore_errors=True)
    findings = [*findings, *repeated]
    _check_complete(out, n_rows - sum(finding.rows for finding in findings if finding.severity in ("select", "drop")))
    return n_rows, findings


def _check_shared(session: "SparkSession", folder: Path) -> None:
    """Makes the folder. DataError unless what workers write into it is seen from here."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    rule = f"{folder.parent} must be a folder that every Spark worker sees under this path and may write to"
    n_rows = max(session.sparkContext.defaultParallelism, 2)
    folder.mkdir(parents=True)
    try:
        session.range(0, n_rows, 1, n_rows).write.parquet(_uri(folder / "probe"))
    except (PySparkException, Py4JError) as error:
        raise DataError(f"{rule}: {_first_line(error)}") from error
    found = _count(folder / "probe")
    if found != n_rows:
        raise DataError(f"{rule}: of {n_rows} rows written by workers {found} are there")


def _read(session: "SparkSession", folder: Path) -> "DataFrame":
    if not any(folder.glob("*.parquet")):
        raise DataError(f"there must be staged trips in {folder}, and it has no Parquet file")
    return session.read.parquet(_uri(folder))


def _by_way_of(folder: Path, frame: "DataFrame") -> "DataFrame":
    """The frame from the disk: Spark computes one that is asked several times anew from the raw trips each time."""
    frame.write.parquet(_uri(folder))
    return frame.sparkSession.read.parquet(_uri(folder))


def _staged(session: "SparkSession", tables: Mapping[str, pl.DataFrame], folder: Path) -> dict[str, "DataFrame"]:
    for name, table in tables.items():
        _for_spark(table).write_parquet(folder / f"{name}.parquet", compression="lz4")
    return {name: session.read.parquet(_uri(folder / f"{name}.parquet")) for name in tables}


def _for_spark(block: pl.DataFrame) -> pl.DataFrame:
    types: dict[str, pl.DataType | type[pl.DataType]] = {
        name: pl.Datetime("us", dtype.time_zone) if isinstance(dtype, pl.Datetime) else _BEFORE_SPARK[dtype.base_type()]
        for name, dtype in block.schema.items()
        if dtype.base_type() in _BEFORE_SPARK or isinstance(dtype, pl.Datetime)
    }
    return block.with_columns(pl.col(name).cast(dtype) for name, dtype in types.items())


def _check_complete(out: Path, expected: int) -> None:
    found = _count(out)
    if found != expected:
        raise DataError(f"Spark must have written {expected:,} rows, and {found:,} are there: prepare again")


def _count(folder: Path) -> int:
    return sum(pl.scan_parquet(path).select(pl.len()).collect().item() for path in folder.glob("*.parquet"))


def _first_line(error: Exception) -> str:
    """What went wrong, without the page of Java that follows and the line of Python's bridge before it."""
    lines = str(error).strip().splitlines()
    return next((line.lstrip(": ") for line in lines if not line.startswith("An error occurred while calling")), "")


def _uri(path: Path) -> str:
    """With its scheme, so that a cluster whose default is HDFS reads and writes where we do."""
    return path.absolute().as_uri()
