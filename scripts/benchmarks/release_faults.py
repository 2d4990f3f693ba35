"""What may go wrong with a release while a backend asks 200 times a second: one function a fault.

Each gives a line of text: what was done, and what came of it beside the answers.
"""

import json
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.world import World, store_model
from hailtime.errors import DeployError
from hailtime.serving.deploy import Aim, abort, promote
from hailtime.serving.deploy import deploy as deploy_run
from hailtime.serving.rollback import rollback as go_back

TAIL_S = 1.5  # the plan is read again every second


def deploy(world: World) -> str:
    world.begin()
    with world.flowing():
        for name in ("second", "third", "first"):
            world.deploy(name)
            time.sleep(TAIL_S)
    return "three versions, each with all its gates"


def promote_canary(world: World) -> str:
    world.begin()
    with world.flowing():
        world.deploy("second", Aim("canary", 20))
        time.sleep(TAIL_S)
        promote(world.repository, world.server.url)
        time.sleep(TAIL_S)
        world.deploy("third", Aim("shadow"))
        time.sleep(TAIL_S)
        abort(world.repository, world.server.url)
        time.sleep(TAIL_S)
    return "a canary of 20 % promoted, a shadow given up"


def roll_back(world: World) -> str:
    world.begin()
    world.deploy("second")
    with world.flowing():
        for to in (None, 2, 1):
            go_back(world.repository, world.server.url, to)
            time.sleep(TAIL_S)
    return "three times, back and forth"


def broken_model(world: World) -> str:
    """Model files as they might come: cut off, empty, another model's, and one bit changed since the export."""
    world.begin()
    source = world.models.folders["second"]
    content = (source / "model.onnx").read_bytes()
    other = (world.models.folders["third"] / "model.onnx").read_bytes()
    runs = [_copy(world, content) for content in (content[: len(content) // 2], b"", other)]
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    shutil.copytree(source, world.folder / "changed")
    (world.folder / "changed" / "model.onnx").write_bytes(changed)
    with world.flowing():
        n_refused = sum(_is_refused(world, run) for run in (*runs, world.folder / "changed"))
        time.sleep(TAIL_S)
    return f"{n_refused} of {len(runs) + 1} refused"


def half_written_version(world: World) -> str:
    """What a killed copy leaves where versions lie, then a deployment and a restart."""
    world.begin()
    content = (world.models.folders["second"] / "model.onnx").read_bytes()
    for folder in (world.repository / "pickup_eta" / "2", world.repository / ".incoming"):
        folder.mkdir()
        (folder / "model.onnx").write_bytes(content[:1000])
    with world.flowing() as backend:
        version = world.deploy("second")
        time.sleep(TAIL_S)
        world.server.kill()
        world.restart()
        backend.wait_until_back()
        time.sleep(TAIL_S)
    return f"the next one became version {version}; the server killed and started again"


def full_disk(world: World) -> str:
    world.repository.mkdir()
    with _small_disk(world.repository) as is_disk:
        world.begin()
        with world.flowing():
            with _full(world.repository) if is_disk else _no_large_files():
                refused = _is_refused(world, world.models.folders["second"])
                time.sleep(TAIL_S)
            version = world.deploy("second")
            time.sleep(TAIL_S)
    how = "a tmpfs filled up" if is_disk else "RLIMIT_FSIZE for the deployer, as no tmpfs could be mounted"
    return f"{how}: {'refused' if refused else 'NOT refused'}; with room again version {version} is live"


def _copy(world: World, content: bytes) -> Path:
    """The second run with other content in its model file, told as exported."""
    run = world.folder / f"run_{len(list(world.folder.glob('run_*')))}"
    shutil.copytree(world.models.folders["second"], run)
    store_model(run, content, json.loads((run / "export.json").read_text()))
    return run


def _is_refused(world: World, run: Path) -> bool:
    try:
        deploy_run(run, world.repository, world.server.url)
    except DeployError:
        return True
    return False


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """A disk of 256 MB in memory, where this user may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", "size=256m", "hailtime", str(folder)]
    is_mounted = shutil.which("mount") is not None and subprocess.run(command, check=False).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def _full(folder: Path) -> Iterator[None]:
    ballast = folder / ".ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(65536)):
            pass
    yield
    ballast.unlink()


@contextmanager
def _no_large_files() -> Iterator[None]:
    """This process, which deploys, may write 64 kB a file; Python ignores the signal that comes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
