"""Trips in Parquet or CSV files of your own: the yaml says which column is which, and no code is written.

    raw = load("trips/*.parquet", {"request_id": "id", "requested_at": "created"}, timezone="Europe/Madrid")

A path is one file, a folder (all Parquet or CSV files under it, `year=2026/month=7` as columns) or a glob; CSV may be
gzipped. Only the named columns are read. An entry of `columns` is `ours: theirs`, or `ours: {column: theirs, ...}` with

- `unit`: what a number is in. Lengths become metres, durations seconds, speeds m/s; a time as a number since 1970 needs
  one of s, ms, us
- `kind`: text or number, where the look misleads (a zip code 00501); a value that is no number is then an error
- `format`: how a time is written when it is not ISO 8601, such as "%d-%m-%Y %H:%M"
- `delay_s`: added to a time: `known_at: {column: time, delay_s: 300}`

What is named `*_at` is a time. Wall times without an offset are read in `timezone`: of the two in autumn the earlier,
in spring's missing hour an hour later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from hailtime.errors import ConfigError, DataError, did_you_mean
from hailtime.schema import MICROSECONDS_PER_SECOND
from hailtime.sources import RawData
from hailtime.sources.clock_times import EPOCH_UNITS, check_all_read, read_times

UNITS = {
    "s": 1.0,
    "ms": 0.001,
    "min": 60.0,
    "h": 3600.0,
    "m": 1.0,
    "km": 1000.0,
    "ft": 0.3048,
    "mi": 1609.344,
    "m/s": 1.0,
    "km/h": 1 / 3.6,
    "mph": 0.44704,
}
KINDS = ("text", "number")
_PARQUET, _CSV = (".parquet", ".pq"), (".csv", ".csv.gz")


@dataclass(frozen=True)
class _Entry:
    """One entry of `columns`."""

    name: str
    column: str
    unit: str | None = None
    kind: str | None = None
    format: str | None = None
    delay_s: float = 0.0

    @property
    def is_time(self) -> bool:
        return self.name.endswith("_at")


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

    DataError names the file and the column that cannot be used.
    """
    start = Path(folder or ".")
    if folder is not None and not start.is_dir():
        raise DataError(f"source.load.folder must be a folder, there is none at {folder}")
    tables = {}
    for name, settings in (conditions or {}).items():
        _check_keys(f"condition {name}", settings, ("path", "columns", "timezone"), needed=("path", "columns"))
        zone = settings.get("timezone") or timezone
        tables[name] = read_table(start / settings["path"], settings["columns"], zone, missing)
    return RawData(read_table(start / path, columns, timezone, missing), tables)


def read_table(
    path: str | Path, columns: Mapping[str, Any], timezone: str | None = None, missing: Sequence[str] = ()
) -> pl.DataFrame:
    """One table from all files of a path: times in microseconds since 1970 UTC, numbers in the package's units."""
    entries = [_read_entry(name, entry) for name, entry in columns.items()]
    if timezone is not None:
        _check_timezone(timezone)
    parts: list[pl.DataFrame] = []
    kinds: dict[str, tuple[str, Path]] = {}
    for file in find_files(path):
        raw = _read_file(file, entries, missing)
        _check_kinds(raw, file, kinds)
        parts.append(raw.select(_convert(raw[entry.column], entry, timezone, file) for entry in entries))
    return pl.concat(parts, how="vertical_relaxed")


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


def _read_entry(name: str, entry: Any) -> _Entry:
    if isinstance(entry, str):
        return _Entry(name, entry)
    if not isinstance(entry, Mapping):
        raise ConfigError(f"column {name} must be a name in the file or {{column: name, ...}}, got {entry!r}")
    _check_keys(f"column {name}", entry, ("column", "unit", "kind", "format", "delay_s"), needed=("column",))
    read = _Entry(name, **entry)
    units = EPOCH_UNITS if read.is_time else UNITS
    for key, value, known in (("unit", read.unit, units), ("kind", read.kind, KINDS)):
        if value is not None and value not in known:
            raise ConfigError(f"column {name}: {key} cannot be {value!r}{did_you_mean(str(value), known)}")
    if (read.format or read.delay_s) and not read.is_time:
        raise ConfigError(f"column {name}: format and delay_s are for times, whose names end in _at")
    return read


def _check_keys(what: str, settings: Mapping[str, Any], known: Sequence[str], needed: Sequence[str]) -> None:
    for key in settings:
        if key not in known:
            raise ConfigError(f"{what} has no entry {key!r}{did_you_mean(str(key), known)}")
    for key in needed:
        if not settings.get(key):
            raise ConfigError(f"{what} needs an entry {key!r}")


def _check_timezone(timezone: str) -> None:
    try:
        pl.Series([0]).cast(pl.Datetime("us", timezone))
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"timezone must be a name such as Europe/Madrid, got {timezone!r}") from error


def _read_file(file: Path, entries: Sequence[_Entry], missing: Sequence[str]) -> pl.DataFrame:
    """The named columns of one file as they are there."""
    names = list(dict.fromkeys(entry.column for entry in entries))
    try:
        if file.name.endswith(_PARQUET):
            scan = pl.scan_parquet(file, hive_partitioning=True)
            _check_names(file, names, scan.collect_schema().names())
            table = scan.select(names).collect()
        else:
            _check_names(file, names, pl.read_csv(file, n_rows=0).columns)
            # what is converted here is read as text; the rest is judged by all rows, not by the first 100
            as_text = {e.column: pl.String for e in entries if e.kind or (e.is_time and e.unit is None)}
            table = pl.read_csv(
                file, columns=names, schema_overrides=as_text, infer_schema_length=None, null_values=["", *missing]
            )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if table.is_empty():
        raise DataError(f"{file} has no rows")
    return table


def _check_names(file: Path, names: Sequence[str], present: Sequence[str]) -> None:
    for name in names:
        if name not in present:
            raise DataError(f"{file} has no column {name!r}{did_you_mean(name, present)}")


def _check_kinds(raw: pl.DataFrame, file: Path, kinds: dict[str, tuple[str, Path]]) -> None:
    """Files read as one table must mean the same by a column; whole numbers and fractions do."""
    for column in raw.iter_columns():
        if column.null_count() == len(column):
            continue
        kind = _kind_of(column.dtype)
        expected, first = kinds.setdefault(column.name, (kind, file))
        if kind != expected:
            raise DataError(
                f"the files of one table must be alike: {column.name} is {kind} in {file}, {expected} in {first}"
            )


def _kind_of(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Datetime):
        return "a time without a zone" if dtype.time_zone is None else "a time with a zone"
    if dtype.is_numeric():
        return "a number"
    return "text" if isinstance(dtype, pl.String | pl.Categorical | pl.Enum) else str(dtype)


def _convert(raw: pl.Series, entry: _Entry, timezone: str | None, file: Path) -> pl.Series:
    if entry.is_time:
        read = read_times(raw, f"{file}: {entry.column}", entry.unit, entry.format, timezone) + round(
            entry.delay_s * MICROSECONDS_PER_SECOND
        )
    elif entry.kind == "text":
        read = raw.cast(pl.String)
    elif entry.kind == "number" or entry.unit is not None:
        read = raw.str.strip_chars() if raw.dtype == pl.String else raw
        read = read.cast(pl.Float64, strict=False) * UNITS[entry.unit or "s"]
        check_all_read(raw, read, f"{file}: {entry.column} must be a number")
    else:
        read = raw
    return read.alias(entry.name)
