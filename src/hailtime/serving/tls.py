"""gRPC over TLS: the files of a server and of who talks to it. docs/security.md makes them."""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from hailtime.errors import ServerError


@dataclass(frozen=True)
class Tls:
    """How to trust a server that speaks TLS, and who we are where it asks for that; files in PEM."""

    ca: Path
    certificate: Path | None = None
    certificate_key: Path | None = None


@dataclass(frozen=True)
class ServerTls:
    """gRPC over TLS; files in PEM. With `client_ca` only those are answered whose certificate it signed."""

    certificate: Path
    certificate_key: Path
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        for file in (self.certificate, self.certificate_key, self.client_ca):
            if file is not None and not file.is_file():
                raise ServerError(f"TLS needs files in PEM, {file} is not there: docs/security.md makes them")


def server_options(tls: ServerTls | None) -> list[str]:
    """What Triton's command line says of it."""
    if tls is None:
        return []
    options = [f"--grpc-server-cert={tls.certificate}", f"--grpc-server-key={tls.certificate_key}"]
    if tls.client_ca is None:
        return ["--grpc-use-ssl=true", *options]
    return ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={tls.client_ca}", *options]


def first_certificate(file: Path) -> bytes:
    """The server's own certificate of a chain, DER."""
    try:
        return ssl.PEM_cert_to_DER_cert(re.findall(r"-+BEGIN CERT.*?END CERTIFICATE-+", file.read_text(), re.DOTALL)[0])
    except (IndexError, ValueError) as error:
        raise ServerError(f"a certificate must be in PEM, {file} is not") from error
