"""An unknown table opened: its files, how many rows, facts from all rows, and a sample of whole rows.

Nothing is ever in memory but the sample, so that 20 M rows need no more than 200 k.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from hailtime.errors import DataError
from hailtime.sources.files import find_files

SAMPLE_ROWS = 200_000
_SAMPLE_CELLS = 10_000_000  # a table of 1,000 columns is looked at in fewer rows
_MANY = 2_654_435_761  # Knuth's multiplier: rows are taken at even but not at equal steps
_BLOCK_ROWS = 200_000
_MAX_ODD_WORDS = 20
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class AllRows:
    """What every row was asked about one column."""

    n_missing: int = 0
    low: float | None = None  # of numbers; of those written as text the sample must do
    high: float | None = None
    odd_words: tuple[str, ...] | None = ()  # of texts that are numbers: those that are none; None where most are words


@dataclass(frozen=True)
class Table:
    """A table as it lies in its files; a CSV's values are text until they are judged."""

    path: Path
    files: tuple[Path, ...]
    is_csv: bool
    rows: pl.LazyFrame
    n_rows: int
    sample: pl.DataFrame
    facts: dict[str, AllRows]
    not_everywhere: tuple[str, ...] = ()  # columns that only some of the files have

    @property
    def is_sampled(self) -> bool:
        return self.sample.height < self.n_rows

    @property
    def basis(self) -> str:
        """`all 10,000 rows`, to say what figures come from."""
        if not self.is_sampled:
            return f"all {self.n_rows:,} rows"
        return f"a sample of {self.sample.height:,} of {self.n_rows:,} rows"


def open_table(path: str | Path, sample_rows: int = SAMPLE_ROWS) -> Table:
    """The table of a file, a folder or a glob. DataError when it is not one table that can be read."""
    files = find_files(path)
    is_csv = _one_format(files)
    try:
        scans = [_scan(file, is_csv) for file in files]
        names, not_everywhere = _common_columns(files, scans, is_csv)
        rows = pl.concat([scan.select(names) for scan in scans], how="vertical_relaxed")
        n_rows = int(rows.select(pl.len()).collect(engine="streaming").item())
        if n_rows == 0:
            raise DataError(f"{path} has no rows")
        n_sample = min(sample_rows, _SAMPLE_CELLS // len(names))
        facts, sample = _read_through(rows, min(1.0, n_sample / n_rows))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return Table(Path(path), tuple(files), is_csv, rows, n_rows, sample, facts, not_everywhere)


def distinct_of(table: Table, name: str, n_groups: int = 64) -> tuple[int, int]:
    """Values looked at in all rows, and how many of them are distinct.

    In a large table these are the values of one hash in `n_groups`: a value is looked at wherever it stands or not at
    all, so that the share of repetitions is true, which a sample of rows cannot tell.
    """
    column = pl.col(name).drop_nulls()
    rows = table.rows.select(name)
    if table.is_sampled:
        rows = rows.filter(pl.col(name).hash(seed=7) % n_groups == 0)
    looked, distinct = rows.select(column.len(), column.n_unique().alias("distinct")).collect(engine="streaming").row(0)
    return int(looked), int(distinct)


def _one_format(files: Sequence[Path]) -> bool:
    csv = [file for file in files if file.name.lower().endswith((".csv", ".csv.gz"))]
    if csv and len(csv) < len(files):
        other = next(file for file in files if file not in csv)
        raise DataError(
            f"a table must be Parquet files or CSV files, found {len(files) - len(csv)} and {len(csv)} "
            f"({other.name}, {csv[0].name}, ...): name one file or a glob such as '{files[0].parent}/*{other.suffix}'"
        )
    return bool(csv)


def _scan(file: Path, is_csv: bool) -> pl.LazyFrame:
    if is_csv:
        return pl.scan_csv(file, infer_schema=False, null_values=[""])
    return pl.scan_parquet(file, hive_partitioning=True)


def _common_columns(
    files: Sequence[Path], scans: Sequence[pl.LazyFrame], is_csv: bool
) -> tuple[list[str], tuple[str, ...]]:
    """The columns of every file, and those of some only. DataError when the files are not one table."""
    schemas = [scan.collect_schema() for scan in scans]
    names = [name for name in schemas[0] if all(name in schema for schema in schemas)]
    others = sorted({name for schema in schemas for name in schema} - set(names))
    if is_csv and len(schemas[0]) == 1:
        _check_separator(files[0], schemas[0].names()[0])
    if len(others) > len(names):
        odd = next(f for f, schema in zip(files, schemas, strict=True) if set(schema) != set(schemas[0]))
        raise DataError(
            f"the files of one table must have the same columns; {files[0].name} and {odd.name} share "
            f"{len(names)} of {len(names) + len(others)}: name the files that belong together, one or by a glob"
        )
    for name in names:
        kinds = {_rough_kind(schema[name]): file for schema, file in zip(schemas, files, strict=True)}
        kinds.pop("nothing", None)
        if len(kinds) > 1:
            said = ", ".join(f"{kind} in {file.name}" for kind, file in kinds.items())
            raise DataError(f"the files of one table must be alike: {name} is {said}")
    return names, tuple(others)


def _check_separator(file: Path, header: str) -> None:
    for mark, word in _SEPARATORS.items():
        if mark in header:
            raise DataError(
                f"{file} must be a CSV with commas, its first line has {word}: {header[:60]!r}. Write it anew, for "
                f"example: python -c \"import polars as pl; pl.read_csv('{file}', separator={mark!r}"
                f"{', decimal_comma=True' if mark == ';' else ''}).write_csv('commas.csv')\""
            )


def _rough_kind(dtype: pl.DataType) -> str:
    if dtype == pl.Null:
        return "nothing"
    if dtype.is_numeric():
        return "a number"
    if isinstance(dtype, pl.Datetime):
        return "a time without a zone" if dtype.time_zone is None else "a time with a zone"
    return "text" if isinstance(dtype, pl.String | pl.Categorical | pl.Enum) else str(dtype)


def _read_through(rows: pl.LazyFrame, share: float) -> tuple[dict[str, AllRows], pl.DataFrame]:
    """All rows once, block by block: the facts, and `share` of the rows from everywhere, the same ones each time."""
    facts: dict[str, AllRows] = {}
    drawn: list[pl.DataFrame] = []
    first = 0
    for block in rows.collect_batches(chunk_size=_BLOCK_ROWS, maintain_order=True, engine="streaming"):
        for column in block.iter_columns():
            facts[column.name] = _ask(column, facts.get(column.name, AllRows()))
        drawn.append(_draw(block, first, share))
        first += block.height
    return facts, pl.concat(drawn, rechunk=True)


def _ask(column: pl.Series, before: AllRows) -> AllRows:
    """The facts of the blocks before, and of one more."""
    n_missing = before.n_missing + column.null_count()
    if column.dtype == pl.String:
        return replace(before, n_missing=n_missing, odd_words=_odd_words(column, before.odd_words))
    if not column.dtype.is_numeric():
        return replace(before, n_missing=n_missing)
    numbers = column.cast(pl.Float64).fill_nan(None)
    ends: list[Any] = [end for end in (before.low, before.high, numbers.min(), numbers.max()) if end is not None]
    return AllRows(n_missing, min(ends, default=None), max(ends, default=None))


def _odd_words(texts: pl.Series, before: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Texts that are no numbers, in a column where half are: one in 20 M spoils it. None once they are too many."""
    if before is None:
        return None
    odd = texts.filter(texts.cast(pl.Float64, strict=False).is_null() & texts.is_not_null()).str.strip_chars()
    odd = odd.filter(odd.cast(pl.Float64, strict=False).is_null() & (odd != ""))  # blanks around a number do not count
    if len(odd) > 0.5 * texts.count():
        return None
    found = {*before, *odd.unique().sort().head(_MAX_ODD_WORDS).to_list()}
    return tuple(sorted(found)[:_MAX_ODD_WORDS])


def _draw(block: pl.DataFrame, first: int, share: float) -> pl.DataFrame:
    """Rows of one block, that begins at row `first`."""
    if share == 1:
        return block
    mixed = pl.int_range(first, first + block.height, dtype=pl.UInt64) * _MANY % 2**32
    drawn = block.filter(pl.select(mixed < round(share * 2**32)).to_series())
    # copied: a text taken from a block would keep the whole block's texts in memory, 2.9 GB for 20 M trips
    return pl.DataFrame(drawn.to_arrow(compat_level=pl.CompatLevel.oldest()), schema=drawn.schema)
