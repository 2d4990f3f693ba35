"""The prepared folder: raw data in; train, validation, calibration and test Parquet by time out.

    prepared = prepare(raw, settings, Path("data/prepared/nyc_ems"))
    prepared.part("train")  # a Polars frame

The folder holds the four parts, `schema.json` and `report.json`, and appears whole or not at all. Parts follow each
other in time (`split.py`), because a model is always asked about the future: a random split lets tomorrow's traffic
teach today's.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from hailtime.errors import ConfigError, DataError, SchemaError, did_you_mean
from hailtime.preparation.clean import CleaningReport, clean, mend_conditions
from hailtime.preparation.join import join_conditions, keys_of, tables_of
from hailtime.preparation.rules import read_rules
from hailtime.preparation.split import PARTS, Split, cut, read_split, utc_text
from hailtime.schema import Column, Schema
from hailtime.sources import RawData
from hailtime.whole_folder import present_folder, whole_folder

log = logging.getLogger(__name__)

ENGINES = ("polars", "pandas")
_SETTINGS = ("load", "schema", "conditions", "rules", "split", "slices")
_TYPES: dict[str, type[pl.DataType]] = {"id": pl.String, "requested_at": pl.Int64, "categorical": pl.String}


@dataclass(frozen=True)
class Prepared:
    """A prepared folder: its schema, the report of how it was made, and its parts, read when asked for."""

    folder: Path
    schema: Schema
    report: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the content of all parts: equal exactly when the data is, whatever engine prepared it."""
        return str(self.report["data_fingerprint"])

    def part(self, name: str) -> pl.DataFrame:
        """The rows of train, validation, calibration or test by time: id, requested_at, inputs, target, truth."""
        if name not in PARTS:
            raise DataError(f"there is no part {name!r}{did_you_mean(name, PARTS)}")
        path = present_folder(self.folder) / f"{name}.parquet"
        _check_part(path, self.schema, self.fingerprint)
        try:
            return pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{path} cannot be read, {_way_out(self.schema.source)}: {error}") from error


def prepare(raw: RawData, settings: Mapping[str, Any], folder: Path, engine: str = "polars") -> Prepared:
    """Cleans, joins and splits, and leaves the prepared folder.

    - settings: a source's yaml as plain data; its `load` is only noted in the report
    - engine: polars or pandas; the result is the same to the last bit
    """
    schema = check_settings(settings)
    if engine not in ENGINES:
        raise ConfigError(
            f"data is prepared with {' or '.join(ENGINES)}, got {engine!r}{did_you_mean(engine, ENGINES)}"
        )
    seconds: dict[str, float] = {}
    rows, cleaning = _clean_and_join(raw, settings, schema, engine, seconds)
    with _timed("split", seconds):
        split = read_split(settings["split"], schema).of(rows[schema.requested_at])
        parts = cut(rows, split, schema)
    with _timed("fingerprint", seconds):
        fingerprint = data_fingerprint(parts)
    report: dict[str, Any] = {
        "source": schema.source,
        "schema_fingerprint": schema.fingerprint,
        "data_fingerprint": fingerprint,
        "clean": cleaning.to_dict(),
        "conditions": _hit_shares(rows, schema),
        **_describe(parts, rows.height, split, schema),
        "seconds": seconds,
        "settings": json.loads(json.dumps(dict(settings), default=str)),
    }
    with whole_folder(Path(folder), ours="report.json") as beside:
        with _timed("write", seconds):
            for name, part in parts.items():
                metadata = {"schema_fingerprint": schema.fingerprint, "data_fingerprint": fingerprint}
                part.write_parquet(beside / f"{name}.parquet", compression="zstd", metadata=metadata)
        (beside / "schema.json").write_text(schema.to_json())
        text = json.dumps(report, indent=2, allow_nan=False)
        (beside / "report.json").write_text(text)
    log.info("prepared %s: %s", folder, ", ".join(f"{name} {part.height:,}" for name, part in parts.items()))
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
    keys_of(schema, settings.get("conditions") or {})
    read_split(settings["split"], schema)
    return schema


def load_prepared(folder: Path) -> Prepared:
    """The prepared folder. DataError when it is not there, or its files do not belong together."""
    folder = Path(folder)
    present = present_folder(folder)
    for name in ("schema.json", "report.json", *(f"{part}.parquet" for part in PARTS)):
        if not (present / name).is_file():
            raise DataError(f"a prepared folder holds {name}, {folder} does not: {_way_out('...')}")
    try:
        schema = Schema.from_json((present / "schema.json").read_text())
        report = json.loads((present / "report.json").read_text())
        found, fingerprint = report["schema_fingerprint"], report["data_fingerprint"]
    except (SchemaError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"schema.json or report.json of {folder} is damaged, {_way_out('...')}: {error}") from error
    if found != schema.fingerprint:
        raise DataError(
            f"schema.json and report.json of {folder} must belong together, got schema fingerprints "
            f"{schema.fingerprint} and {found}: {_way_out(schema.source)}"
        )
    for part in PARTS:
        _check_part(present / f"{part}.parquet", schema, fingerprint)
    return Prepared(folder, schema, report)


def data_fingerprint(parts: Mapping[str, pl.DataFrame]) -> str:
    """16 hex digits over names, types and values; not over Parquet bytes, which differ between writers."""
    digest = hashlib.sha256()
    for part, rows in parts.items():
        for column in rows.iter_columns():
            digest.update(f"{part}.{column.name}:{column.dtype}:{len(column)};".encode())
            digest.update(column.is_null().to_numpy().tobytes())
            for block in _value_blocks(column):
                digest.update(block)
    return digest.hexdigest()[:16]


def _value_blocks(column: pl.Series) -> Iterator[bytes]:
    """The values as bytes that do not depend on how a missing one is stored; texts are preceded by their lengths."""
    if column.dtype == pl.String:
        texts = column.fill_null("")
        yield np.asarray(texts.str.len_bytes().to_numpy(), dtype="<i8").tobytes()
        yield "".join(texts.to_list()).encode()
    else:
        values = np.asarray(column.fill_null(0).to_numpy(), dtype="<i8" if column.dtype == pl.Int64 else "<f8")
        yield (values + 0).tobytes()  # + 0 makes -0.0 and 0.0 one number


def _clean_and_join(
    raw: RawData, settings: Mapping[str, Any], schema: Schema, engine: str, seconds: dict[str, float]
) -> tuple[pl.DataFrame, CleaningReport]:
    """One row a believable request, in the columns and types of a part, sorted by time and id."""
    conditions = settings.get("conditions") or {}
    in_engine: Any = pl.DataFrame.to_pandas if engine == "pandas" else lambda frame: frame
    with _timed("clean", seconds):
        trips, report = clean(in_engine(raw.table()), schema, settings.get("rules") or {}, keys_of(schema, conditions))
    with _timed("join", seconds):
        tables = {name: in_engine(table) for name, table in raw.conditions.items()}
        joined, mended = mend_conditions(join_conditions(trips, tables, schema, conditions), schema)
    rows_out = report.rows_out - sum(finding.rows for finding in mended if finding.severity == "drop")
    rows = nw.from_native(joined, eager_only=True).to_polars()
    rows = rows.select(pl.col(c.name).cast(_type(c)) for c in _columns(schema))
    report = replace(report, rows_out=rows_out, findings=(*report.findings, *mended))
    if rows.is_empty():
        raise DataError("no trip is left after the joined columns were held to their ranges with out_of_range: reject")
    first = [schema.requested_at, schema.id]
    return rows.sort(*first, *(name for name in rows.columns if name not in first)), report


def _columns(schema: Schema) -> list[Column]:
    """The columns of a part in their order."""
    roles = ("id", "requested_at", "numeric", "categorical", "target", "truth")
    return [column for role in roles for column in schema.columns if column.role == role]


def _type(column: Column) -> type[pl.DataType]:
    return _TYPES.get(column.role, pl.Float64)


def _hit_shares(rows: pl.DataFrame, schema: Schema) -> dict[str, float]:
    """For each condition the share of the rows that got a value of it."""
    columns = {table: [c.name for c in schema.columns if c.condition == table] for table in tables_of(schema)}
    has_value = {table: pl.any_horizontal(pl.col(names).is_not_null()) for table, names in columns.items()}
    return {table: float(rows.select(hit.mean()).item()) for table, hit in has_value.items()}


def _describe(parts: Mapping[str, pl.DataFrame], n_rows: int, split: Split, schema: Schema) -> dict[str, Any]:
    """Rows and time range of each part, and how many rows fell into the gaps."""
    times = {name: part[schema.requested_at] for name, part in parts.items()}
    return {
        "parts": {
            name: {"rows": len(time), "first": utc_text(time[0]), "last": utc_text(time[-1])}
            for name, time in times.items()
        },
        "boundaries": {name: utc_text(us) for name, us in zip(PARTS[1:], split.boundaries_us, strict=True)},
        "dropped_in_gaps": n_rows - sum(len(time) for time in times.values()),
    }


def _check_part(path: Path, schema: Schema, fingerprint: str) -> None:
    """DataError unless the file was written with this schema in this preparation."""
    try:
        metadata, found = pl.read_parquet_metadata(path), pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read, {_way_out(schema.source)}: {error}") from error
    expected = {column.name: _type(column) for column in _columns(schema)}
    if dict(found) != expected:
        wrong = sorted(name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name))
        raise DataError(
            f"{path} must hold the columns of schema.json, differing: {', '.join(wrong)}; {_way_out(schema.source)}"
        )
    for name, value in (("schema_fingerprint", schema.fingerprint), ("data_fingerprint", fingerprint)):
        if metadata.get(name) != value:
            raise DataError(
                f"{path} comes from another preparation than its report ({name} {metadata.get(name)}, not {value}): "
                f"load the folder again or {_way_out(schema.source)}"
            )


def _way_out(source: str) -> str:
    return f"prepare it with python scripts/prepare.py source={source}"


@contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 3)
    log.info("%s: %.1f s", stage, seconds[stage])
