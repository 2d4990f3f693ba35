"""A Triton server as a context manager: the same start, stop and checks for tests, development and the image.

with TritonServer(Path("model_repository")) as server:
    client = tritonclient.grpc.InferenceServerClient(server.url)
"""

import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from hailtime.errors import ServerError
from hailtime.schema import MODEL_NAME
from hailtime.serving.access import KEY_NAME, RESTRICTED, make_key
from hailtime.serving.tls import ServerTls, first_certificate, server_options
from hailtime.serving.triton_install import Installation, find_or_install

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")
STOP_TIMEOUT_S = 10  # what requests in flight and unloading may take; measured 2-3 s, Triton looks once a second


class TritonServer:
    """One `tritonserver` over a model repository, with explicit model control; `pickup_eta` is loaded if it is there.

    Loading models, shared memory, tracing and logging ask for the repository's key (access.py).

    - `grpc_port`, `http_port`, `metrics_port`: 0 picks a free one
    - `http_port`: None serves no HTTP; a nested 130 kB body ended Triton 2.51 there, and with `tls` it is refused
    - `log`: file the server writes to; None keeps it only as long as the server runs
    - `installation`: which server to run; None finds or sets one up
    """

    def __init__(
        self,
        repository: Path,
        host: str = "127.0.0.1",
        grpc_port: int = 8001,
        http_port: int | None = None,
        metrics_port: int = 8002,
        log: Path | None = None,
        *,
        tls: ServerTls | None = None,
        start_timeout_s: float = 60.0,
        installation: Installation | None = None,
    ) -> None:
        if tls is not None and http_port is not None:  # it would answer whom a client certificate is to keep out
            raise ServerError(
                "Triton's HTTP knows no TLS, so it is not served beside gRPC over TLS: leave one of them out"
            )
        self.repository = repository.absolute()
        self.host = host
        self.log = log
        self._asked_ports = {"grpc": grpc_port, "metrics": metrics_port}
        if http_port is not None:
            self._asked_ports["http"] = http_port
        self._tls = tls
        self._ports: dict[str, int] = {}
        self._start_timeout_s = start_timeout_s
        self._installation = installation
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file: IO[bytes] | None = None
        self._id = ""

    @property
    def url(self) -> str:
        """Where gRPC is served: what clients and `deploy` are given."""
        return f"{self._address}:{self._ports['grpc']}"

    @property
    def http_url(self) -> str | None:
        """None where HTTP is not served."""
        return f"{self._address}:{self._ports['http']}" if "http" in self._ports else None

    @property
    def metrics_url(self) -> str:
        return f"http://{self._address}:{self._ports['metrics']}/metrics"

    @property
    def pid(self) -> int:
        """Of the server itself; its backends' processes are in its group."""
        assert self._process is not None, "start() comes first"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start and wait until it answers; ServerError with the end of its log when it does not."""
        if self.is_running:
            raise ServerError(f"this server runs already, at {self.url}: stop it first")
        installation = self._installation or find_or_install()
        self._ports = pick_ports(self.host, self._asked_ports)
        self._id = f"hailtime-{uuid.uuid4().hex[:12]}"
        self._log_file = self._open_log()
        try:
            self._process = subprocess.Popen(
                self._command(installation),
                env=dict(installation.environment),
                stdin=subprocess.DEVNULL,
                stdout=self._log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # its own process group: stop() reaches the backend's processes through it
            )
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        logger.info("Triton %s serves %s at %s", self._id, self.repository, self.url)
        return self

    def stop(self) -> None:
        """Let requests in flight end and the models unload, then end what is left as `kill` does."""
        try:
            if self._process is not None:
                self._process.terminate()
                self._process.wait(STOP_TIMEOUT_S + 5)
        except subprocess.TimeoutExpired:
            logger.warning("Triton %s did not stop within %d s and is killed", self._id, STOP_TIMEOUT_S + 5)
        finally:
            self.kill()

    def kill(self) -> None:
        """End every process of the server at once, requests in flight with them, and free its shared memory."""
        if self._process is not None:
            _kill_group(self._process.pid)  # also when it ended by itself: a killed server leaves its stubs behind
            self._process.wait()
            self._process = None
            for region in SHARED_MEMORY.glob(f"{self._id}*"):
                region.unlink(missing_ok=True)
        if self._log_file is not None:
            self._log_file.close()
            self._log_file = None

    def wait(self) -> int:
        """Block until the server ends by itself; its exit status."""
        assert self._process is not None, "start() comes first"
        return self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def _address(self) -> str:
        return "127.0.0.1" if self.host in ("", "0.0.0.0") else self.host

    def _open_log(self) -> IO[bytes]:
        try:
            self.repository.mkdir(parents=True, exist_ok=True)  # the first deployment fills it
            return self.log.open("a+b") if self.log else tempfile.TemporaryFile()
        except OSError as error:
            raise ServerError(f"a server needs a folder of models and a log file it can write: {error}") from error

    def _command(self, installation: Installation) -> list[str]:
        command = [str(installation.program), f"--model-repository={self.repository}", f"--id={self._id}"]
        command += [
            "--disable-auto-complete-config",
            "--model-control-mode=explicit",
            f"--exit-timeout-secs={STOP_TIMEOUT_S}",
        ]
        for name, port in self._ports.items():
            command += [f"--{name}-address={self.host}", f"--{name}-port={port}"]
        key = make_key(self.repository, ServerError)
        command.append(f"--grpc-restricted-protocol={RESTRICTED}:{KEY_NAME}={key}")
        if "http" in self._ports:
            command.append(f"--http-restricted-api={RESTRICTED}:{KEY_NAME}={key}")
        else:
            command.append("--allow-http=false")
        command += server_options(self._tls)
        if (self.repository / MODEL_NAME / "config.pbtxt").is_file():
            command.append(f"--load-model={MODEL_NAME}")
        if installation.backends is not None:
            command.append(f"--backend-directory={installation.backends}")
            command.append(f"--backend-config=python,shm-region-prefix-name={self._id}")
            command.append("--allow-gpu-metrics=false")  # else it looks for NVIDIA's libraries and warns
        return command

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while not self._is_ready():
            assert self._process is not None
            if self._process.poll() is not None:
                raise ServerError(f"Triton ended with status {self._process.returncode} at its start:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"Triton was not ready within {self._start_timeout_s:g} s:\n{self._tail()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        """Whether it answers, and it is this server: two can share one gRPC port in silence."""
        if self._tls is not None:
            return self._shows_certificate(self._tls)
        with InferenceServerClient(self.url, channel_args=[("grpc.max_reconnect_backoff_ms", 100)]) as client:
            try:
                found = client.get_server_metadata(client_timeout=5.0).name
                is_ready = bool(client.is_server_ready(client_timeout=5.0))
            except InferenceServerException:
                return False
        if found != self._id:
            raise ServerError(f"another server ({found}) answers at {self.url}: stop it or choose another port")
        return is_ready

    def _shows_certificate(self, tls: ServerTls) -> bool:
        """With TLS it may want to know us first, so we look at the certificate it shows; models are loaded by then."""
        try:
            shown = ssl.get_server_certificate((self._address, self._ports["grpc"]), timeout=5.0)
        except OSError:
            return False
        if ssl.PEM_cert_to_DER_cert(shown) != first_certificate(tls.certificate):
            raise ServerError(f"another server answers at {self.url}, with another certificate: choose another port")
        return True

    def _tail(self, n_lines: int = 10) -> str:
        """The end of the log, without Triton's tables and its lines of mere information."""
        assert self._log_file is not None
        file = self._log_file.fileno()
        text = os.pread(file, 1 << 20, max(0, os.fstat(file).st_size - (1 << 20))).decode(errors="replace")
        lines = text.split("\n")
        told = [line for line in lines if line and not re.match(r"[|+]|I\d{4} ", line)]
        return "\n".join((told or lines)[-n_lines:])


def end_left_behind(repository: Path) -> int:
    """Ends servers over this repository whose starter was killed, their backends' processes too; how many there were.

    For a repository of one's own, which nobody else serves.
    """
    told, n = f"--model-repository={repository.absolute()}".encode(), 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if told not in words:
            continue
        _kill_group(int(path.parent.name))
        (server_id,) = (word.removeprefix(b"--id=").decode() for word in words if word.startswith(b"--id="))
        for region in SHARED_MEMORY.glob(f"{server_id}*"):
            region.unlink(missing_ok=True)
        n += 1
    return n


def pick_ports(host: str, asked: Mapping[str, int]) -> dict[str, int]:
    """The ports to serve on, a free one where 0 is asked; ServerError for one that is taken."""
    held: list[socket.socket] = []
    try:
        for name, port in asked.items():
            held.append(_bind(host, name, port))
        return {name: sock.getsockname()[1] for name, sock in zip(asked, held, strict=True)}
    finally:
        for sock in held:
            sock.close()


def _bind(host: str, name: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Allows a port whose last connections are fading out, still refuses one that somebody listens on.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen()
    except (OSError, OverflowError) as error:
        sock.close()
        way_out = f"stop what listens there or choose another, as with --{name}-port"
        raise ServerError(f"{name} port {port} of {host} must be free: {error}; {way_out}") from error
    return sock


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # nobody is left of it
