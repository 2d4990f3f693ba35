"""A slow network: passes bytes on to a port, those of the answers `delay_s` later."""

import socket
import threading
import time
from contextlib import closing


class Proxy:
    """Listens on a free port of this machine until it is closed."""

    def __init__(self, port: int) -> None:
        self.delay_s, self._port = 0.0, port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._pass_on, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        try:
            while content := source.recv(65536):
                if is_answer:
                    time.sleep(self.delay_s)
                sink.sendall(content)
        except OSError:
            pass
        for end in (source, sink):
            with closing(end):
                pass
