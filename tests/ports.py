"""A port for a server that a test starts."""

import socket


def free_port() -> int:
    """One that nobody listens on now; somebody else may take it before the server does, which no test has met yet."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
