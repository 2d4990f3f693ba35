"""Trips in Parquet or CSV files of your own: the yaml says which column is which, and no code is written.

    raw = load("trips/*.parquet", {"request_id": "id", "requested_at": "created"}, timezone="Europe/Madrid")

A path is one file, a folder (all Parquet or CSV files under it; of Parquet, `year=2026/month=7` are columns) or a glob;
CSV may be gzipped. Only the named columns are read; `columns.py` says what an entry of `columns` can hold.

Trips come in blocks: a file is never in memory as a whole. A CSV has no types, so its whole content is looked at once
when it is loaded: a column without a declared kind is whole numbers, numbers, or text if a single value is neither.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from hailtime.errors import DataError
from hailtime.sources import BLOCK_ROWS, Blocks, RawData
from hailtime.sources.columns import Kinds, TableColumns, check_keys, grouped

_PARQUET, _CSV = (".parquet", ".pq"), (".csv", ".csv.gz")


def load(
    path: str | Path,
    columns: Mapping[str, Any],
    conditions: Mapping[str, Mapping[str, Any]] | None = None,
    timezone: str | None = None,
    folder: str | Path | None = None,
    missing: Sequence[str] = (),
) -> RawData:
    """The trips, and for each name in `conditions` a table read the same way.

    - conditions: name → {path, columns, timezone (the trips' when left out)}
    - folder: where relative paths begin
    - missing: further words that mean "not given" in a CSV, such as NA

    DataError names the file and the column that cannot be used, here or when the blocks are read.
    """
    start = Path(folder or ".")
    if folder is not None and not start.is_dir():
        raise DataError(f"source.load.folder must be a folder, there is none at {folder}")
    tables = {}
    for name, settings in (conditions or {}).items():
        check_keys(f"condition {name}", settings, ("path", "columns", "timezone"), needed=("path", "columns"))
        zone = settings.get("timezone") or timezone
        tables[name] = read_table(start / settings["path"], settings["columns"], zone, missing)
    return RawData(read_blocks(start / path, columns, timezone, missing), tables)


def read_table(
    path: str | Path, columns: Mapping[str, Any], timezone: str | None = None, missing: Sequence[str] = ()
) -> pl.DataFrame:
    """One table from all files of a path: times in microseconds since 1970 UTC, numbers in the package's units."""
    return pl.concat(read_blocks(path, columns, timezone, missing), how="vertical_relaxed")


def read_blocks(
    path: str | Path, columns: Mapping[str, Any], timezone: str | None = None, missing: Sequence[str] = ()
) -> Blocks:
    """The same some rows at a time. Whether every file has every column is looked at here, values are when read."""
    table = TableColumns.read(columns, timezone)
    scans = {file: _scan(file, table, missing) for file in find_files(path)}
    return Blocks(lambda: grouped(_converted(scans, table)))


def find_files(path: str | Path) -> list[Path]:
    """The files of a path in the order of their names. DataError when there is none."""
    path = Path(path)
    if path.is_file():
        return [path]
    base, pattern = (path, "**/*") if path.is_dir() else (Path(path.anchor), str(path.relative_to(path.anchor)))
    hits = sorted(file for file in base.glob(pattern) if file.is_file())
    found = [file for file in hits if file.name.endswith((*_PARQUET, *_CSV)) and file.name[0] not in "._"]
    if not found:
        what = f"there is {hits[0].name}" if hits else "there is no file"
        raise DataError(f"{path} must be or match files ending in {', '.join((*_PARQUET, *_CSV))}; {what}")
    return found


def _scan(file: Path, table: TableColumns, missing: Sequence[str]) -> pl.LazyFrame:
    """The named columns of one file as they are there, with types."""
    with _told(file):
        if file.name.endswith(_PARQUET):
            scan = pl.scan_parquet(file, hive_partitioning=True)
        else:
            scan = pl.scan_csv(file, infer_schema=False, null_values=["", *missing])
        table.check_present(scan.collect_schema().names(), str(file))
        scan = scan.select(table.names)
        if file.name.endswith(_PARQUET):
            return scan
        return scan.cast(_judged(scan, [name for name in table.names if name not in table.texts]))  # type: ignore[arg-type]


def _judged(scan: pl.LazyFrame, names: Sequence[str]) -> dict[str, type[pl.DataType]]:
    """The type of each text column by all its values."""
    types: dict[str, type[pl.DataType]] = dict.fromkeys(names, pl.Int64)
    undecided = list(names)
    for batch in scan.select(names).collect_batches(chunk_size=BLOCK_ROWS) if names else ():
        types |= {name: _widened(types[name], batch[name].drop_nulls()) for name in undecided}
        undecided = [name for name in undecided if types[name] != pl.String]
        if not undecided:
            break
    return types


def _widened(so_far: type[pl.DataType], texts: pl.Series) -> type[pl.DataType]:
    """Whole numbers, else numbers, else text. A whole number past 64 bits is a name, and so text."""
    if so_far == pl.Int64 and not texts.cast(pl.Int64, strict=False).has_nulls():
        return pl.Int64
    numbers = texts.cast(pl.Float64, strict=False)
    has_long = texts.filter(numbers.abs() >= 2.0**63).str.contains(r"^[+-]?\d+$").any()
    return pl.String if numbers.has_nulls() or has_long else pl.Float64


def _converted(scans: Mapping[Path, pl.LazyFrame], table: TableColumns) -> Iterator[pl.DataFrame]:
    kinds = Kinds(table)
    for file, scan in scans.items():
        rows_read = 0
        for raw in _pieces(file, scan):
            kinds.check(raw, str(file))
            yield table.convert(raw, str(file), rows_read + 1)
            rows_read += raw.height
        if rows_read == 0:
            raise DataError(f"{file} has no rows")


def _pieces(file: Path, scan: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Rows of a file in their order, up to `BLOCK_ROWS` at a time."""
    with _told(file):
        if file.name.endswith(_PARQUET):
            n_rows = scan.select(pl.len()).collect().item()
            # Slices skip row groups. Batches of the streaming engine, which run ahead, took three times the memory.
            if n_rows <= BLOCK_ROWS:  # as a slice it would take a fifth longer
                yield scan.collect()
                return
            for start in range(0, n_rows, BLOCK_ROWS):
                yield scan.slice(start, BLOCK_ROWS).collect()
        else:
            yield from scan.collect_batches(chunk_size=BLOCK_ROWS)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
