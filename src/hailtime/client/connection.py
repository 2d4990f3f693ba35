"""The gRPC connection to one Triton: its address, encryption, headers, and how fast it comes back after a fault."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc  # type: ignore[import-untyped]

from hailtime.errors import ConfigError, PredictionError

Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]

CHANNEL_OPTIONS = [
    # 1 s: gRPC waits up to 120 s between two attempts to connect, and every call in between fails at once.
    # Measured: the client answers 0.4-0.9 s after a server that was killed is back (three restarts)
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # what one attempt may take; 20 s without it, when a host is gone
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A connection whose other end vanished without a word is given up after 2 s. Pings only while a call waits: a
    # server takes pings on an idle connection for an attack and closes it
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.max_send_message_length", -1),  # 4 MB hold 20,000 rows; the server has a limit of its own
    ("grpc.max_receive_message_length", -1),
]


@dataclass(frozen=True, slots=True)
class Tls:
    """Encryption: PEM files. Without `ca` the system's authorities; `certificate` and `key` show who the client is.

    `server_name`: the name in the server's certificate, where it is not that of the address.

    >>> tls = Tls(ca=Path("ca.pem"), certificate=Path("backend.pem"), key=Path("backend.key"))
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigError(f"certificate and key go together, got {self.certificate} and {self.key}")

    def credentials(self) -> grpc.ChannelCredentials:
        """ConfigError when a file cannot be read."""
        try:
            contents = [path.read_bytes() if path else None for path in (self.ca, self.key, self.certificate)]
        except OSError as error:
            raise ConfigError(f"the files of Tls must be readable PEM files: {error}") from error
        return grpc.ssl_channel_credentials(*contents)


def check_address(url: str) -> str:
    if url.startswith(("http://", "https://")) or not re.search(r":\d+$", url):
        raise ConfigError(f"url must be host:port of Triton's gRPC service, without http://, got {url!r}")
    return url


def channel_options(tls: Tls | None) -> list[tuple[str, str | int]]:
    name = tls.server_name if tls else None
    return [*CHANNEL_OPTIONS, *([("grpc.ssl_target_name_override", name)] if name else [])]


def metadata(headers: Headers | None) -> list[tuple[str, str]] | None:
    """Headers as gRPC sends them; a function is asked at every call, so that a token may be renewed."""
    if headers is None:
        return None
    try:
        given = headers() if callable(headers) else headers
        return [(name.lower(), value) for name, value in given.items()]
    except Exception as error:  # whatever the backend's own function raises
        raise PredictionError(f"headers must give a mapping of texts, it failed: {error!r}") from error
