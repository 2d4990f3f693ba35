"""Where things lie in a model repository, and that none of them leads out of it.

model_repository/
├── pickup_eta/
│   ├── config.pbtxt     the schema, the versions that are loaded, and the plan: which of them answers whom
│   ├── releases.jsonl   every change of the plan and every refusal, one a line
│   ├── warmup/          a real row, which the server runs before a version answers
│   └── 3/               model.onnx, schema.json, export.json, probe.npz, manifest.json, release.json once judged
├── serving.yaml         how the model is served, where not by the defaults (settings.py)
├── .quarantine/         refused versions, each with its reason.txt
├── .incoming/           a version being written
└── .trash/              versions being deleted
.model_repository.key    beside it: who may load models (access.py)
"""

import tempfile
from pathlib import Path

from hailtime.errors import DeployError
from hailtime.schema import MODEL_NAME

LOCK = ".deploy.lock"
QUARANTINE, INCOMING, TRASH = ".quarantine", ".incoming", ".trash"
CONFIG, HISTORY = "config.pbtxt", "releases.jsonl"


def model_folder(repository: Path) -> Path:
    """The folder of our model; DeployError when it leads out of the repository."""
    return folder_in(repository, MODEL_NAME)


def folder_in(repository: Path, name: str) -> Path:
    """A folder of the repository, which need not exist; DeployError when it is a link that leads elsewhere."""
    folder = repository / name
    if folder.resolve() != repository.resolve() / name:
        raise DeployError(f"{name} must lie in its repository, {folder} leads to {folder.resolve()}")
    return folder


def version_folder(repository: Path, version: int) -> Path:
    """The folder of a version, which need not exist; DeployError when it leads out of the model's folder."""
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise DeployError(f"a version must be a whole number from 1, got {version!r}")
    return folder_in(model_folder(repository), str(version))


def quarantined(repository: Path, version: int) -> Path:
    """Where a refused version lies."""
    return folder_in(repository, QUARANTINE) / f"{MODEL_NAME}-{version}"


def present_versions(repository: Path) -> list[int]:
    """The versions whose folders are in the repository, refused ones left out, in rising order."""
    folder = model_folder(repository)
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal()) if folder.exists() else []


def refused_versions(repository: Path) -> list[int]:
    """The versions that lie in quarantine, in rising order."""
    folder = folder_in(repository, QUARANTINE)
    names = [path.name.removeprefix(f"{MODEL_NAME}-") for path in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdecimal())


def check_writable(repository: Path) -> None:
    """DeployError unless new folders can be made there. It tries: permission bits say little, to root nothing."""
    if not repository.is_dir():
        raise DeployError(f"a model repository must be a folder, {repository} is none: create it or name another")
    try:
        tempfile.TemporaryDirectory(dir=repository, prefix=".writable-").cleanup()
    except OSError as error:
        raise DeployError(f"the model repository {repository} cannot be written: {error.strerror}") from error
