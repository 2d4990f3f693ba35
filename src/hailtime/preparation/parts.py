"""The parts of a prepared folder, written block by block in the order of time."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hailtime.preparation.codes import count_codes
from hailtime.preparation.prepared import types_of
from hailtime.preparation.split import PARTS, utc_text
from hailtime.schema import Schema

_NO_TEXT = 2**32 - 1  # the length of a missing text
_AT_ONCE = 16_384  # numbers; 131 kB stay in a core's cache


class PartWriter:
    """Writes blocks of rows as `train/00000.parquet`, ... and keeps what the report says of each part."""

    def __init__(self, folder: Path, schema: Schema, metadata: Mapping[str, str]) -> None:
        self._folder, self._time = folder, schema.requested_at
        self._metadata = {**metadata, **_as_texts(schema)}
        self._digests = {part: PartDigest(part) for part in PARTS}
        self.rows = dict.fromkeys(PARTS, 0)
        self._files = dict.fromkeys(PARTS, 0)
        self._spans: dict[str, tuple[int, int]] = {}
        for part in PARTS:
            (folder / part).mkdir()

    def write(self, part: str, rows: pl.DataFrame) -> None:
        """One more block of a part, later than all before it."""
        if rows.is_empty():
            return
        path = self._folder / part / f"{self._files[part]:05}.parquet"
        # level 1: half the time of the default level for 4 % more space (measured on simulated trips)
        rows.write_parquet(path, compression="zstd", compression_level=1, metadata=self._metadata)
        times = rows[self._time]
        self._spans[part] = (self._spans.get(part, (times[0], 0))[0], times[-1])
        self.rows[part] += rows.height
        self._files[part] += 1

    def digest(self, part: str, rows: pl.DataFrame) -> None:
        """Adds a written block to the fingerprint; blocks of a part come in the order of time."""
        self._digests[part].add(rows)

    def fingerprint(self) -> str:
        """16 hex digits over the content of all parts."""
        return hashlib.sha256(b"".join(digest.digest() for digest in self._digests.values())).hexdigest()[:16]

    def describe(self) -> dict[str, dict[str, int | str]]:
        """Rows, files and time range of each part."""
        return {
            part: {
                "rows": self.rows[part],
                "files": self._files[part],
                "first": utc_text(self._spans[part][0]),
                "last": utc_text(self._spans[part][1]),
            }
            for part in PARTS
        }


def coded(rows: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """The rows with all their categories as Polars' codes, which are written, counted and hashed faster than texts.

    Those that are texts yet get codes of this block, gone with it. Measured: 0.08 CPU seconds a million rows of five
    categories, and 0.11 less to write, 0.05 less to hash and 0.05 less to count them.
    """
    codes = pl.Categorical(pl.Categories.random())
    texts = [name for name in schema.categorical_names if rows.schema[name] == pl.String]
    return rows.with_columns(pl.col(texts).cast(codes))


def _as_texts(schema: Schema) -> dict[str, str]:
    """What tells readers that coded columns are texts, which is how Parquet holds them: Arrow's schema of a part."""
    file = io.BytesIO()
    pl.DataFrame(schema=types_of(schema)).write_parquet(file)
    file.seek(0)
    return {"ARROW:schema": pl.read_parquet_metadata(file)["ARROW:schema"]}


class PartDigest:
    """A hash over names, types and values of rows that come in blocks; how they are cut into blocks does not count.

    Not over Parquet bytes, which differ between writers. SHA-256 of every value would cost as much as cleaning: numbers
    and coded texts of a row are first mixed into 64 bits, as many as the fingerprint has, and those are hashed.
    """

    def __init__(self, part: str) -> None:
        self._part = part
        self._n_rows = 0
        self._columns: dict[str, hashlib._Hash] = {}

    def add(self, rows: pl.DataFrame) -> None:
        self._n_rows += rows.height
        mixed = np.zeros(rows.height, "<u8")
        for column in rows.iter_columns():
            name = f"{self._part}.{column.name}:{column.dtype.base_type()}"
            if column.dtype == pl.String:
                lengths = column.str.len_bytes().fill_null(_NO_TEXT).to_numpy()
                self._update(f"{name}:lengths", np.ascontiguousarray(lengths, "<u4").data)
                self._update(f"{name}:texts", _text_bytes(column.fill_null("")))
            else:
                is_coded = isinstance(column.dtype, pl.Categorical)
                _mix_into(mixed, _hashes(column) if is_coded else column.to_numpy(), name)
                self._update(name, b"")
        self._update(f"{self._part}:mixed", mixed.data)

    def digest(self) -> bytes:
        whole = hashlib.sha256(f"{self._part}:{self._n_rows}".encode())
        for name, column in self._columns.items():
            whole.update(name.encode() + column.digest())
        return whole.digest()

    def _update(self, name: str, values: memoryview | bytes) -> None:
        self._columns.setdefault(name, hashlib.sha256()).update(values)


def _mix_into(mixed: NDArray[np.uint64], values: NDArray[Any], name: str) -> None:
    """Adds to each row 64 bits that any other value in this column would change; a missing number is NaN.

    A few at a time through small buffers: measured, a third of the time of SHA-256 over the column.
    """
    factor = np.uint64(_bits(name) | 1)  # odd, so that no two values give the same
    buffer, high = np.empty(_AT_ONCE, "<i8" if values.dtype.kind == "i" else "<f8"), np.empty(_AT_ONCE, "<u8")
    for start in range(0, len(values), _AT_ONCE):
        some = values[start : start + _AT_ONCE]
        number, shifted = buffer[: len(some)], high[: len(some)]
        np.add(some, 0, out=number)  # makes -0.0 and 0.0 one number
        bits = number.view("<u8")
        np.multiply(bits, factor, out=bits)
        np.bitwise_xor(bits, np.right_shift(bits, 32, out=shifted), out=bits)
        np.multiply(bits, factor, out=bits)
        mixed[start : start + len(some)] += bits


def _hashes(column: pl.Series) -> NDArray[np.int64]:
    """64 bits of each coded text, whatever its code; 0 where it is missing."""
    texts, n_rows = count_codes(column)
    used = np.flatnonzero(n_rows)
    by_code = np.zeros(len(texts) + 1, "<u8")
    by_code[used] = [_bits(text) for text in texts.gather(used)]
    hashes: NDArray[np.int64] = by_code.view("<i8")[
        column.to_physical().cast(pl.UInt32).fill_null(len(texts)).to_numpy()
    ]
    return hashes


def _bits(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _text_bytes(texts: pl.Series) -> memoryview | bytes:
    """All texts one after another: the data buffer of Arrow's plain layout."""
    arrow = texts.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets, data = arrow.buffers()[1:3]
    if data is None:
        return b""
    ends = np.frombuffer(offsets, dtype="<i8")[arrow.offset : arrow.offset + len(arrow) + 1]
    return memoryview(data)[int(ends[0]) : int(ends[-1])]
