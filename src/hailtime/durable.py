"""Writes that a reader sees whole or not at all, and that are on the disk when the call returns."""

import os
from pathlib import Path


def store_file(file: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, also after a power cut."""
    new = file.with_name(f".{file.name}.new")
    new.write_bytes(content.encode() if isinstance(content, str) else content)
    take_place(new, file)


def take_place(new: Path, file: Path) -> None:
    """Rename a file that is written to the name it is read by, once it is on the disk."""
    flush(new)
    new.replace(file)
    flush(file.parent)


def append_line(file: Path, line: str) -> None:
    """Add a line at the end; one that a killed writer left half is closed first, so that it spoils no other."""
    with file.open("ab+") as handle:
        end = handle.seek(0, os.SEEK_END)
        if end:
            handle.seek(end - 1)
            line = line if handle.read(1) == b"\n" else f"\n{line}"
        handle.write(f"{line}\n".encode())
        handle.flush()
        os.fsync(handle.fileno())
    if not end:
        flush(file.parent)


def write_flushed(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    flush(file)


def flush(path: Path) -> None:
    """A file's content, or the names of the files in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
