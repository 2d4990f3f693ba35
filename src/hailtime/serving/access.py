"""Who may load models: whoever knows the key, because a model is code that runs inside the server.

`scripts/serve.py` makes the key when it first serves a repository, in a file beside the repository that only its owner
can read; deployers read it there. `HAILTIME_TRITON_KEY` says another, as on a machine that has the repository only.
Asking for predictions, health, metadata and the model's config needs no key.
"""

import contextlib
import os
import secrets
from pathlib import Path

from hailtime.errors import HailtimeError

KEY_VARIABLE = "HAILTIME_TRITON_KEY"
KEY_NAME = "hailtime-key"
KEY_HEADER = f"triton-grpc-protocol-{KEY_NAME}"  # over gRPC; over HTTP it is KEY_NAME itself
# Config stays open: clients read the schema and the plan from it, and it holds nothing that an answer does not tell.
RESTRICTED = "model-repository,shared-memory,trace,logging"


def key_file(repository: Path) -> Path:
    """Beside the repository, not in it: repositories are copied, mounted and backed up."""
    repository = repository.absolute()
    return repository.parent / f".{repository.name}.key"


def make_key(repository: Path, error: type[HailtimeError]) -> str:
    """The key of a repository, made when there is none yet; complete from the moment that its name is there."""
    key = read_key(repository, error)
    if key:
        return key
    file, key = key_file(repository), secrets.token_hex(32)
    beside = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            handle.write(key)
        with contextlib.suppress(FileExistsError):  # somebody else was faster: theirs holds
            os.link(beside, file)
        beside.unlink()
    except OSError as reason:
        raise error(f"the key of the server must be kept in {file}: {reason}; or set {KEY_VARIABLE}") from reason
    return read_key(repository, error) or key


def read_key(repository: Path, error: type[HailtimeError]) -> str | None:
    """The key a deployer sends; None when there is none here, as for a server that asks for no key."""
    if os.environ.get(KEY_VARIABLE):
        return os.environ[KEY_VARIABLE]
    file = key_file(repository)
    try:
        if file.stat().st_mode & 0o077:
            raise error(f"a key may be readable by its owner only, {file} is not: chmod 600 {file}")
        return file.read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as reason:
        raise error(f"the key of the server cannot be read from {file}: {reason}; or set {KEY_VARIABLE}") from reason
