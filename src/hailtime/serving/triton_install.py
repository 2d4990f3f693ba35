"""Where `tritonserver` comes from: the one on PATH (NVIDIA's image), else an embedded one in a folder of its own.

The wheel of `nvidia-pytriton` carries a real tritonserver 2.51 with the Python backend. Beside that backend this module
puts `triton_backend/model.py` under the name `onnxruntime`, so that the embedded server loads the same repository as
the image. The embedded server is for development and tests on loopback; production is NVIDIA's newest image.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hailtime.errors import ServerError
from hailtime.locking import locked

HOME_VARIABLE = "HAILTIME_TRITON_HOME"
BACKEND = Path(__file__).parent / "triton_backend" / "model.py"

# What the backend's process needs and no more: --no-deps leaves out the web clients that pytriton's own Python wants.
PACKAGES = (
    "nvidia-pytriton==0.7.0",
    "onnxruntime==1.32.0",
    "numpy==1.26.4",  # with numpy 2 the backend's process dies at its first request
    "flatbuffers==25.12.19",
    "packaging==26.3",
    "protobuf==6.33.6",
)
VERSIONS = ("3.12", "3.11")  # numpy 1.26 has no wheel for 3.13, onnxruntime 1.32 none for 3.10


@dataclass(frozen=True)
class Installation:
    """A server to run: its program, the environment it needs, and its backends (None: where it looks by itself)."""

    program: Path
    environment: Mapping[str, str]
    backends: Path | None


def default_home() -> Path:
    """The folder of the embedded server: $HAILTIME_TRITON_HOME, else `.triton` here."""
    return Path(os.environ.get(HOME_VARIABLE) or ".triton").resolve()


def find_or_install(home: Path | None = None) -> Installation:
    """The `tritonserver` on PATH, else the embedded one, set up first where it is missing (330 MB, half a minute)."""
    native = shutil.which("tritonserver")
    if native:
        return Installation(Path(native), _without_our_python(), None)
    return install(home or default_home())


def install(home: Path) -> Installation:
    """Set up the embedded server in `home`; at once when it is there, from anew when an earlier try broke off."""
    venv = home.resolve() / "venv"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / ".lock", ServerError):
            if not is_installed(home):
                _build(venv)
            _place_backend(venv)
    except OSError as error:
        raise ServerError(f"the embedded Triton needs a folder it can write, got {home}: {error}") from error
    environment = _without_our_python()
    environment["PATH"] = f"{venv / 'bin'}:{environment.get('PATH', '')}"  # the backend's process finds its Python so
    environment["LD_LIBRARY_PATH"] = f"{venv / 'libpython'}:{environment.get('LD_LIBRARY_PATH', '')}".rstrip(":")
    return Installation(_triton(venv) / "bin" / "tritonserver", environment, _triton(venv) / "backends")


def _without_our_python() -> dict[str, str]:
    """The environment less what would put this Python's packages in front of the server's own."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}


def is_installed(home: Path) -> bool:
    """Whether the embedded server is complete there, in the versions wanted now and with its Python still in place."""
    venv = home.resolve() / "venv"
    marker = venv / "complete.json"
    if not marker.is_file() or marker.read_text() != _wanted(venv):
        return False
    return (venv / "bin" / "python").exists() and any(link.exists() for link in venv.glob("libpython/*"))


def find_python() -> Path:
    """A Python the server's packages have wheels for: this one, else one on PATH."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" in VERSIONS:
        return Path(sys.executable)
    for version in VERSIONS:
        found = shutil.which(f"python{version}")
        # A name on PATH may be a version manager's stand-in that runs nothing.
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return Path(found)
    have = " or ".join(VERSIONS)
    raise ServerError(
        f"the embedded Triton runs on Python {have}, this is {sys.version.split()[0]}: install one of them"
    )


def find_libpython(version: str, folders: Iterable[Path]) -> Path:
    """The shared library of that Python version, which Triton's Python backend is linked to."""
    name = f"libpython{version}.so.1.0"
    folders = list(dict.fromkeys(folders))
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise ServerError(
        f"Triton's Python backend needs {name}, there is none in {', '.join(map(str, folders))}: "
        f"apt install libpython{version}, or use a Python built with --enable-shared"
    )


def _wanted(venv: Path) -> str:
    """What the marker says. A virtual environment holds absolute paths, so one that was moved is built anew."""
    return json.dumps({"packages": PACKAGES, "folder": str(venv)})


def _build(venv: Path) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    python = find_python()
    version, *folders = _ask_python(python)
    libpython = find_libpython(version, [*map(Path, folders), Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib64")])
    _run([str(python), "-m", "venv", str(venv)], f"python -m venv needs ensurepip: apt install python{version}-venv")
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, *PACKAGES], "its wheel is for Linux on x86-64 with glibc 2.35 or newer; elsewhere use NVIDIA's image")
    triton = _triton(venv)
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    for program in (triton / "bin" / "tritonserver", stub):
        program.chmod(0o755)
    # A link, not a copy: the stub finds its libraries relative to where it really is.
    (triton / "backends" / "python" / stub.name).symlink_to(stub)
    # A folder with this one library, not the Python's own: conda's lib holds a libstdc++ and a libssl as well.
    (venv / "libpython").mkdir()
    (venv / "libpython" / libpython.name).symlink_to(libpython)
    (venv / "complete.json").write_text(_wanted(venv))


def _ask_python(python: Path) -> list[str]:
    """Its version, and the folders its shared library may lie in."""
    question = (
        "import sys, sysconfig; print('%d.%d' % sys.version_info[:2]); "
        "print(sysconfig.get_config_var('LIBDIR') or ''); print(sys.base_prefix + '/lib')"
    )
    done = subprocess.run([str(python), "-c", question], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line]


def _run(command: list[str], hint: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise ServerError(f"setting up the embedded Triton failed at {' '.join(command[1:4])}: {said} ({hint})")


def _triton(venv: Path) -> Path:
    """The server's folder inside the wheel."""
    return next(venv.glob("lib/python3.*/site-packages/pytriton/tritonserver"))


def _place_backend(venv: Path) -> None:
    """Our backend beside the wheel's, renewed when this package was; a server starting now reads old or new, whole."""
    file = _triton(venv) / "backends" / "onnxruntime" / "model.py"
    content = BACKEND.read_bytes()
    if not file.is_file() or file.read_bytes() != content:
        file.parent.mkdir(exist_ok=True)
        file.with_suffix(".new").write_bytes(content)
        file.with_suffix(".new").replace(file)
