"""Versions in the model repository: they appear whole or not at all, are never changed, and go by rename."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hailtime.durable import flush, store_file, write_flushed
from hailtime.errors import DeployError
from hailtime.locking import locked
from hailtime.serving.history import read_history
from hailtime.serving.model_file import Probe, read_run
from hailtime.serving.places import (
    INCOMING,
    LOCK,
    TRASH,
    check_writable,
    folder_in,
    model_folder,
    present_versions,
    quarantined,
    refused_versions,
    version_folder,
)
from hailtime.serving.settings import WARM_UP, warm_up_files

N_KEPT = 5  # the newest versions, beside those somebody may need at once; a model takes 1 to 10 MB


def publish(run: Path, repository: Path) -> int:
    """Put a run into the repository as its next version, checked, whole, and not yet served; gives the version."""
    files = read_run(run)
    check_writable(repository)
    with locked(repository / LOCK, DeployError):
        return place_version(files, describe_run(run), repository)


def describe_run(run: Path) -> dict[str, Any]:
    """Where a version comes from, for its manifest: the run, its data and its error on its own test part.

    The run of a retraining is called by the id of its retraining (whose folder holds state.json): all are named `run`.
    """
    folder = run.resolve()
    return {
        "run": folder.parent.name if (folder.parent / "state.json").exists() else folder.name,
        "folder": str(folder),
        "data_fingerprint": _entry(run / "export.json", "data_fingerprint"),
        "mae_s": _entry(run / "metrics.json", "network", "mae_s"),
    }


def place_version(files: Mapping[str, bytes], origin: Mapping[str, Any], repository: Path) -> int:
    """Write the files beside the repository's models, flush, then rename. The caller holds the lock."""
    folder = model_folder(repository)
    manifest = {
        **origin,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    try:
        folder.mkdir(exist_ok=True)
        version = next_version(repository)
        incoming = folder_in(repository, INCOMING)
        shutil.rmtree(incoming, ignore_errors=True)  # what a publisher that was killed left
        incoming.mkdir()
        for name, content in {**files, "manifest.json": json.dumps(manifest, indent=1).encode()}.items():
            write_flushed(incoming / name, content)
        flush(incoming)
        incoming.rename(folder / str(version))
        flush(folder)
    except OSError as error:
        raise DeployError(f"{folder} cannot be written: {error}") from error
    return version


def check_version(folder: Path) -> dict[str, Any]:
    """The manifest of a published version; DeployError when a file is not what was published."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        told: dict[str, str] = manifest["sha256"]
        links = sorted(name for name in told if (folder / name).is_symlink() or Path(name).name != name)
        found = {} if links else {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in told}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeployError(f"{folder} is not a version that was published: {error!r}") from error
    changed = links or sorted(name for name in told if told[name] != found[name])
    if changed:
        raise DeployError(f"{folder} must be as it was published, changed since: {', '.join(changed)}")
    return manifest


def store_warm_up(repository: Path, probe: Probe) -> None:
    """A real row for Triton to run before a version answers; all versions share it, as their columns."""
    folder = folder_in(model_folder(repository), WARM_UP)
    try:
        folder.mkdir(exist_ok=True)
        for name, content in warm_up_files(probe.inputs).items():
            store_file(folder / name, content)
    except OSError as error:
        raise DeployError(f"{folder} cannot be written: {error}") from error


def read_origin(folder: Path) -> dict[str, Any]:
    """What the manifest of a version says, for the history; empty when it cannot be read any more."""
    try:
        manifest: dict[str, Any] = dict(json.loads((folder / "manifest.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}
    return manifest


def is_intact(repository: Path, version: int) -> bool:
    """Whether the files of a version are there as they were published."""
    try:
        check_version(version_folder(repository, version))
    except DeployError:
        return False
    return True


def quarantine(repository: Path, version: int, reason: str) -> Path:
    """Move a refused version out of the server's sight: left in place it can fail a later restart."""
    folder, kept = version_folder(repository, version), quarantined(repository, version)
    kept.parent.mkdir(exist_ok=True)
    if folder.exists():
        folder.rename(kept)
    else:
        kept.mkdir(exist_ok=True)
    (kept / "reason.txt").write_text(reason + "\n")
    return kept


def prune(repository: Path, needed: Iterable[int]) -> list[int]:
    """Delete all but the newest versions and those that are `needed`; gives the deleted. The caller holds the lock.

    Of the refused ones the newest stay too. A version leaves by rename first: who is killed leaves no half version.
    """
    present, refused = present_versions(repository), refused_versions(repository)
    old = [version for version in present[:-N_KEPT] if version not in set(needed)]
    trash = folder_in(repository, TRASH)
    trash.mkdir(exist_ok=True)
    for version in old:
        version_folder(repository, version).rename(trash / str(version))
    for version in refused[:-N_KEPT]:
        quarantined(repository, version).rename(trash / f"refused-{version}")
    empty_trash(repository)
    return old


def empty_trash(repository: Path) -> None:
    shutil.rmtree(folder_in(repository, TRASH), ignore_errors=True)


def next_version(repository: Path) -> int:
    """One above every version there was, refused and deleted ones too: a number in a log means one model for ever."""
    told = [change.version or 0 for change in read_history(repository)]
    return 1 + max((*present_versions(repository), *refused_versions(repository), *told), default=0)


def _entry(file: Path, *names: str) -> Any:
    """One entry of a JSON file; None when the file or the entry is not there."""
    try:
        value = json.loads(file.read_text())
        for name in names:
            value = value[name]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value
