"""A page of the documentation as a reader follows it: its code blocks, in order, typed into a fresh checkout."""

import re
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:<!-- test-docs: file (?P<file>\S+) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```", re.DOTALL | re.M
)
NEEDS_A_VERSION = "<!-- test-docs: a version is live -->"  # a page for those who serve one already
# What goes on until it is stopped, and the port on which a reader sees that it is there.
SERVERS = {"python scripts/serve.py": 8001, "python scripts/monitor.py serve": 8050}
LIMIT_S = 300


@dataclass(frozen=True)
class Step:
    """`kind`: bash, python, or file (then `file` says which)."""

    kind: str
    text: str
    file: str | None = None

    def __str__(self) -> str:
        return self.file or self.text.splitlines()[0][:80]


def steps_of(page: str) -> Iterator[Step]:
    """Every bash command, Python block and file of a page; other blocks are not for typing."""
    for block in _BLOCK.finditer(page):
        if block["file"]:
            yield Step("file", block["text"], block["file"])
        elif block["kind"] == "python":
            yield Step("python", block["text"])
        elif block["kind"] == "bash":
            yield from (Step("bash", command) for command in commands_of(block["text"]))


def commands_of(block: str) -> Iterator[str]:
    """The commands of a block: a line each, unless it ends with a backslash or within quotes."""
    command = ""
    for line in block.splitlines():
        command += line + "\n"
        try:
            words = shlex.split(command, comments=True)
        except ValueError:  # a quote is open
            continue
        if line.endswith("\\"):
            continue
        if words:
            yield command.strip()
        command = ""
    assert not command.strip(), f"a block ends within a command: {command}"


class Reader:
    """Types steps into a checkout; keeps exported variables and servers from one to the next."""

    def __init__(self, checkout: Path, environment: dict[str, str]) -> None:
        self.checkout, self.environment = checkout, environment
        self.servers: dict[int, subprocess.Popen[bytes]] = {}
        self.variables = checkout / ".variables"
        self.variables.write_text("")

    def follow(self, step: Step) -> None:
        """AssertionError with what the step said when it fails or takes longer than `LIMIT_S`."""
        if step.kind == "file":
            assert step.file is not None
            (self.checkout / step.file).parent.mkdir(parents=True, exist_ok=True)
            (self.checkout / step.file).write_text(step.text)
        elif step.kind == "python":
            self._run(["python", "-c", step.text], step)
        elif port := next((port for words, port in SERVERS.items() if step.text.startswith(words)), None):
            self._start(step, port)
        else:
            self._run(["bash", "-euo", "pipefail", "-c", self._in_shell(step.text)], step)

    def close(self) -> None:
        for port in list(self.servers):
            self._stop(port)

    def _in_shell(self, command: str) -> str:
        return f"source {self.variables}\n{command}\nexport -p > {self.variables}"

    def _run(self, words: list[str], step: Step) -> None:
        done = subprocess.run(
            words, cwd=self.checkout, env=self.environment, timeout=LIMIT_S, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{step.text}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"

    def _start(self, step: Step, port: int) -> None:
        """A server; where one is there already, it is stopped first, as somebody does who starts it anew."""
        self._stop(port)
        log = self.checkout / f"server_{port}.txt"
        command = f"source {self.variables}\nexec {step.text}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", command], cwd=self.checkout, env=self.environment, stdout=out, stderr=out
            )
        self.servers[port] = process
        deadline = time.monotonic() + 60
        while not is_open(port):
            assert process.poll() is None, f"{step.text}\nended with {process.returncode}:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"{step.text}\nis not there after 60 s:\n{log.read_text()}"
            time.sleep(0.1)

    def _stop(self, port: int) -> None:
        process = self.servers.pop(port, None)
        if process is not None:
            process.terminate()
            process.wait(30)


def is_open(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
