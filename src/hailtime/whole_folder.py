"""A folder that appears whole or not at all, and whose old content stays until the new is complete.

    with whole_folder(Path("data/prepared/nyc_ems"), ours="report.json") as beside:
        (beside / "report.json").write_text("{}")

The new folder is written beside the old one, flushed, and renamed. Between the two renames the old folder has the name
`.<name>.previous`: `present_folder` finds it there, so a process killed at any point leaves one whole folder.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hailtime.durable import flush
from hailtime.errors import DataError
from hailtime.locking import locked


@contextmanager
def whole_folder(folder: Path, ours: str) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `folder` when the block ends without an error.

    `ours` names a file that a folder of this kind holds: a folder of other things is not replaced. DataError when
    that is so, or the place cannot be written.
    """
    if folder.exists() and not (folder / ours).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} holds other things (no {ours}) and is not replaced: name another folder or empty it")
    beside, previous = folder.parent / f".{folder.name}.new", _previous(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f".{folder.name}.lock", DataError):
            if not folder.exists() and previous.exists():
                previous.rename(folder)  # a process died between the two renames
            for leftover in (beside, previous):
                shutil.rmtree(leftover, ignore_errors=True)
            beside.mkdir()
            try:
                yield beside
                _flush(beside)
                if folder.exists():
                    folder.rename(previous)
                beside.rename(folder)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            shutil.rmtree(previous, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error}") from error


def present_folder(folder: Path) -> Path:
    """Where the content of `folder` is now."""
    return _previous(folder) if not folder.exists() and _previous(folder).exists() else folder


def _previous(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.previous"


def _flush(folder: Path) -> None:
    """The files are on the disk before their new name is, so that a power cut leaves no empty ones."""
    for path in (*folder.rglob("*"), folder):
        flush(path)
