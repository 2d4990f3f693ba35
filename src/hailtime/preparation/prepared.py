"""The prepared folder, read: what training, evaluation and export are given.

    prepared = load_prepared(Path("data/prepared/nyc_ems"))
    prepared.part("train")  # a Polars frame
    prepared.files("train")  # the Parquet files of it in the order of time, for data larger than memory

The folder holds `schema.json`, `report.json` and one folder of Parquet files for each part.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hailtime.errors import DataError, SchemaError, did_you_mean
from hailtime.preparation.split import PARTS
from hailtime.schema import Column, Schema
from hailtime.whole_folder import present_folder

_TYPES: dict[str, type[pl.DataType]] = {"id": pl.String, "requested_at": pl.Int64, "categorical": pl.String}
_ROLES = ("id", "requested_at", "numeric", "categorical", "target", "truth")


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

    def files(self, name: str) -> list[Path]:
        """The Parquet files of train, validation, calibration or test, in the order of time."""
        if name not in PARTS:
            raise DataError(f"there is no part {name!r}{did_you_mean(name, PARTS)}")
        files = part_files(present_folder(self.folder), name)
        for file in files:
            _check_file(file, self.schema, self.report)
        _check_complete(self.folder, name, files, self.report)
        return files

    def part(self, name: str) -> pl.DataFrame:
        """The rows of a part by time: id, requested_at, inputs, target, truth."""
        files = self.files(name)
        try:
            return pl.concat([pl.read_parquet(file) for file in files])
        except (pl.exceptions.PolarsError, OSError) as error:
            way_out = how_to_prepare(self.schema.source)
            raise DataError(f"{files[0].parent} cannot be read, {way_out}: {error}") from error


def load_prepared(folder: Path) -> Prepared:
    """The prepared folder. DataError when it is not there, or its files do not belong together."""
    folder = Path(folder)
    present = present_folder(folder)
    for name in ("schema.json", "report.json", *PARTS):
        if not (present / name).exists():
            raise DataError(f"a prepared folder holds {name}, {folder} does not: {how_to_prepare('...')}")
    try:
        schema = Schema.from_json((present / "schema.json").read_text())
        report = json.loads((present / "report.json").read_text())
        found = report["schema_fingerprint"], report["data_fingerprint"], report["preparation"], report["parts"]
    except (SchemaError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"schema.json or report.json of {folder} is damaged, {how_to_prepare('...')}: {error}"
        ) from error
    if found[0] != schema.fingerprint:
        raise DataError(
            f"schema.json and report.json of {folder} must belong together, got schema fingerprints "
            f"{schema.fingerprint} and {found[0]}: {how_to_prepare(schema.source)}"
        )
    prepared = Prepared(folder, schema, report)
    for part in PARTS:
        prepared.files(part)
    return prepared


def columns_of(schema: Schema) -> list[Column]:
    """The columns of a part in their order."""
    return [column for role in _ROLES for column in schema.columns if column.role == role]


def types_of(schema: Schema) -> dict[str, type[pl.DataType]]:
    """The columns of a part and their types."""
    return {column.name: _TYPES.get(column.role, pl.Float64) for column in columns_of(schema)}


def part_files(folder: Path, part: str) -> list[Path]:
    """The Parquet files of a part in the order of time."""
    return sorted((folder / part).glob("*.parquet"))


def how_to_prepare(source: str) -> str:
    return f"prepare it with python scripts/prepare.py source={source}"


def _check_file(path: Path, schema: Schema, report: Mapping[str, Any]) -> None:
    """DataError when a file does not hold what schema.json says, or comes from another preparation than the report."""
    try:
        found, metadata = pl.read_parquet_schema(path), pl.read_parquet_metadata(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read, {how_to_prepare(schema.source)}: {error}") from error
    expected = types_of(schema)
    if dict(found) != expected:
        wrong = sorted(name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name))
        raise DataError(
            f"{path} must hold the columns of schema.json, differing: {', '.join(wrong)}; "
            f"{how_to_prepare(schema.source)}"
        )
    for name in ("schema_fingerprint", "preparation"):
        if metadata.get(name) != report[name]:
            raise DataError(
                f"{path} comes from another preparation than its report ({name} {metadata.get(name)}, not "
                f"{report[name]}): load the folder again or {how_to_prepare(schema.source)}"
            )


def _check_complete(folder: Path, part: str, files: Sequence[Path], report: Mapping[str, Any]) -> None:
    expected = report["parts"][part]["files"]
    if len(files) != expected:
        raise DataError(
            f"the part {part} of {folder} must have {expected} files, got {len(files)}: {how_to_prepare('...')}"
        )
