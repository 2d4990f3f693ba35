"""The images of Dockerfile.cuda, built by buildah on stand-in bases (scripts/replay_images.py) and run by it.

HAILTIME_IMAGES names those to build, `client monitor` when it is not set; `client monitor serve train` takes minutes.
"""

import json
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager

import pytest
import replay_images

BUILT = os.environ.get("HAILTIME_IMAGES", "client monitor").split()


class Container:
    """One working container of an image. It shares the machine's network and runs as the image's own user."""

    def __init__(self, image: str) -> None:
        asked = ["buildah", "inspect", "--type=image", image]
        self.config = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)["Docker"]["config"]
        made = subprocess.run(["buildah", "from", image], capture_output=True, text=True, check=True)
        self.name = made.stdout.strip()

    @property
    def health_check(self) -> list[str]:
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return command

    @property
    def launch(self) -> list[str]:
        return [*(self.config.get("Entrypoint") or []), *(self.config.get("Cmd") or [])]

    def command(self, *words, volumes=(), **environment) -> list[str]:
        options = [f"--env={name}={value}" for name, value in environment.items()]
        options += [f"--volume={volume}" for volume in volumes]
        return ["buildah", "run", "--isolation=chroot", *options, self.name, "--", *words]

    def run(self, *words, timeout_s=240, **options) -> subprocess.CompletedProcess[str]:
        # A breath at the end: buildah loses the last words of a program that ends at once
        words = ("sh", "-c", '"$@"; status=$?; sleep 0.3; exit $status', "sh", *words)
        command = self.command(*words, **options)
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)

    @contextmanager
    def running(self, *words, **options):
        """Goes on beside the test; ended with SIGTERM to what buildah started, as an engine does."""
        process = subprocess.Popen(self.command(*words, **options), start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@pytest.fixture(scope="session")
def container():
    """container(target) builds the image, unless it is left out, and makes a container of it."""
    lacking = [name for name in ("buildah", "mmdebstrap") if shutil.which(name) is None]
    if lacking or os.geteuid() != 0:
        assert os.environ.get("HAILTIME_REQUIRE_CONTAINERS") != "1", f"needs root and lacks {lacking}"
        pytest.skip("building images needs root, buildah and mmdebstrap (Debian: apt install buildah mmdebstrap)")
    made: dict[str, Container] = {}

    def make(target: str) -> Container:
        if target not in BUILT:
            pytest.skip(f"takes minutes: HAILTIME_IMAGES='client monitor serve train' builds {target} as well")
        if target not in made:
            made[target] = Container(replay_images.build(target))
        return made[target]

    yield make
    for one in made.values():
        subprocess.run(["buildah", "rm", one.name], stdout=subprocess.DEVNULL, check=True)
