"""The prepared folder, made: raw data in; train, validation, calibration and test Parquet by time out.

    prepared = prepare(raw, settings, Path("data/prepared/nyc_ems"))

Trips come in blocks, so a table larger than memory is prepared on one machine: every block is cleaned by itself and put
in time order beside the others (`time_order.py`), duplicates are found over all of them, then the conditions are joined
one span of time after another and each span is written to its part. The folder appears whole or not at all.

Parts follow each other in time (`split.py`), because a model is always asked about the future: a random split lets
tomorrow's traffic teach today's.
"""

import json
import logging
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import polars as pl

from hailtime.errors import ConfigError, did_you_mean
from hailtime.preparation.ahead import ahead
from hailtime.preparation.budget import check_budget, read_budget
from hailtime.preparation.clean import cleaning_plan
from hailtime.preparation.declared_rules import read_rules
from hailtime.preparation.engines import ENGINES, LocalEngine
from hailtime.preparation.findings import CleaningReport, Finding, add_findings
from hailtime.preparation.join import keys_of, tables_of
from hailtime.preparation.leakage import check_leakage, find_leaks, read_leakage, sample_rows
from hailtime.preparation.page import write_page
from hailtime.preparation.parts import PartWriter, coded
from hailtime.preparation.prepared import Prepared, part_files, types_of
from hailtime.preparation.profile import Profile
from hailtime.preparation.spark import SparkEngine
from hailtime.preparation.split import PARTS, Split, check_parts, read_split, utc_text
from hailtime.preparation.stopwatch import Stopwatch
from hailtime.preparation.time_order import TimeOrder
from hailtime.schema import Schema
from hailtime.sources import RawData
from hailtime.whole_folder import whole_folder

log = logging.getLogger(__name__)

_SETTINGS = ("load", "schema", "conditions", "rules", "budget", "leakage", "split", "slices")
ENGINE_NAMES = (*ENGINES, "spark")
Engine = LocalEngine | SparkEngine
PAGE = "report.html"
_WORK = ".work"  # within the new folder; gone when it is complete


def prepare(
    raw: RawData,
    settings: Mapping[str, Any],
    folder: Path,
    engine: str = "polars",
    spark: Mapping[str, Any] | None = None,
) -> Prepared:
    """Cleans, joins and splits, and leaves the prepared folder.

    - settings: a source's yaml as plain data; its `load` is only noted in the report
    - engine: polars, pandas or spark; the result is the same to the last bit
    - spark: the arguments of `spark_session`
    """
    schema = check_settings(settings)
    if engine not in ENGINE_NAMES:
        raise ConfigError(
            f"data is prepared with polars, pandas or spark, got {engine!r}{did_you_mean(engine, ENGINE_NAMES)}"
        )
    with whole_folder(Path(folder), ours="report.json") as beside:
        report = _prepare_into(beside, raw, settings, schema, engine, spark or {})
        (beside / "schema.json").write_text(schema.to_json())
        text = json.dumps(report, indent=2, allow_nan=False)
        (beside / "report.json").write_text(text)
        write_page(report, beside / PAGE)
        shutil.rmtree(beside / _WORK, ignore_errors=True)
    log.info("prepared %s: %s", folder, ", ".join(f"{name} {part['rows']:,}" for name, part in report["parts"].items()))
    return Prepared(Path(folder), schema, json.loads(text))


def check_settings(settings: Mapping[str, Any]) -> Schema:
    """The schema of a source's settings. ConfigError or SchemaError for whatever is wrong without looking at data."""
    for name in settings:
        if name not in _SETTINGS:
            raise ConfigError(f"a source has no entry {name!r}{did_you_mean(name, _SETTINGS)}")
    for name in ("schema", "split"):
        if not settings.get(name):
            raise ConfigError(f"a source needs an entry {name!r}")
    schema = Schema.from_dict(settings["schema"])
    read_rules(settings.get("rules") or {}, schema)
    read_budget(settings, schema)
    read_leakage(settings, schema)
    keys_of(schema, settings.get("conditions") or {})
    read_split(settings["split"], schema)
    _check_slices(settings.get("slices") or [], schema)
    return schema


def _check_slices(slices: Sequence[str], schema: Schema) -> None:
    """The columns that evaluation will cut errors by are there."""
    inputs = (*schema.numeric_names, *schema.categorical_names)
    for name in slices:
        if name not in inputs:
            raise ConfigError(f"slices names inputs of the schema, and has {name!r}{did_you_mean(str(name), inputs)}")


def _prepare_into(
    folder: Path,
    raw: RawData,
    settings: Mapping[str, Any],
    schema: Schema,
    engine: str,
    spark: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes the parts into an empty folder; the report."""
    watch, conditions = Stopwatch(), settings.get("conditions") or {}
    plan = cleaning_plan(schema, settings.get("rules") or {}, keys_of(schema, conditions))
    worker: Engine
    if engine == "spark":
        worker = SparkEngine(raw, plan, conditions, spark, folder / _WORK / "spark")
    else:
        worker = LocalEngine(raw, plan, conditions, engine)
    rows, profile = TimeOrder(folder / _WORK, schema.requested_at, ties=plan.columns), Profile(schema)
    rows_in, findings = worker.clean(rows, watch, profile)
    cleaned, budget = CleaningReport.of(rows_in, findings), read_budget(settings, schema)
    check_budget(cleaned, budget)
    split = read_split(settings["split"], schema).of(rows.n_rows, rows.time_at)
    ours = {"schema_fingerprint": schema.fingerprint, "preparation": secrets.token_hex(8)}
    writer = PartWriter(folder, schema, ours)
    mended, hits = _write_parts(worker, rows, split, schema, writer, profile, watch)
    cleaning = CleaningReport.of(rows_in, [*findings, *mended])
    check_budget(cleaning, budget)
    check_parts(writer.rows, split, cleaned.rows_out, *rows.span())
    with watch.time("leakage"):
        train = sample_rows(pl.scan_parquet(part_files(folder, "train")))
        leakage = find_leaks(train, schema, read_leakage(settings, schema))
    check_leakage(leakage)
    return {
        "source": schema.source,
        **ours,
        "data_fingerprint": writer.fingerprint(),
        "clean": cleaning.to_dict(),
        "conditions": {table: hits[table] / cleaning.rows_out for table in tables_of(schema)},
        "parts": writer.describe(),
        "boundaries": {name: utc_text(us) for name, us in zip(PARTS[1:], split.boundaries_us, strict=True)},
        "leakage": leakage,
        "dropped_in_gaps": cleaning.rows_out - sum(writer.rows.values()),
        "profile": profile.to_dict(),
        "engine": engine,
        "seconds": watch.rounded(),
        "settings": json.loads(json.dumps(dict(settings), default=str)),
    }


def _write_parts(
    worker: Engine,
    rows: TimeOrder,
    split: Split,
    schema: Schema,
    writer: PartWriter,
    profile: Profile,
    watch: Stopwatch,
) -> tuple[list[Finding], Counter[str]]:
    """Joins the conditions block by block and writes each to its part.

    What was wrong with joined values, and for each condition how many rows got a value of it.
    """
    hits, columns = Counter[str](), list(types_of(schema))
    profile.expect(rows.n_rows)
    masks = split.masks(pl.col(schema.requested_at))

    def joined() -> Iterator[tuple[pl.DataFrame, list[Finding]]]:
        for block in watch.each("sort", rows.blocks()):
            with watch.time("join"):
                found = worker.join(block)
            yield found

    def written(block: tuple[pl.DataFrame, list[Finding]]) -> tuple[dict[str, pl.DataFrame], list[Finding]]:
        hits.update(_count_hits(block[0], schema))
        with watch.time("write"):
            ready = coded(block[0].select(columns), schema)
            by_part = {part: ready.filter(mask) for part, mask in masks.items()}
            for part, of_part in by_part.items():
                writer.write(part, of_part)
        return by_part, block[1]

    def counted(block: tuple[dict[str, pl.DataFrame], list[Finding]]) -> list[Finding]:
        for part, of_part in block[0].items():
            with watch.time("digest"):
                writer.digest(part, of_part)
            with watch.time("profile"):
                profile.add(part, of_part)
        return block[1]

    # one thread writes and one counts: blocks of a part follow each other
    in_parts = ahead(written, joined(), n_threads=1)
    findings = reduce(add_findings, ahead(counted, in_parts, n_threads=1), list[Finding]())
    return findings, hits


def _count_hits(rows: pl.DataFrame, schema: Schema) -> dict[str, int]:
    """For each condition how many of the rows got a value of it."""
    columns = {table: [c.name for c in schema.columns if c.condition == table] for table in tables_of(schema)}
    if not columns:
        return {}
    has_value = [pl.any_horizontal(pl.col(names).is_not_null()).sum().alias(t) for t, names in columns.items()]
    return {name: int(count) for name, count in rows.select(has_value).row(0, named=True).items()}
