"""A port of this machine that leads to a port of a host, as a cloud's address translation does."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading


class Forward:
    """While it is open, connections to `address` reach the host.

    Attributes:
        address: Where to connect to: host and a port that nobody chose.
    """

    def __init__(self, here: str, host: str, port: int) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5) as inner:
                    inner.settimeout(None)
                    back = threading.Thread(target=_pump, args=(inner, self.request), daemon=True)
                    back.start()
                    _pump(self.request, inner)
                    back.join()

        self._server = socketserver.ThreadingTCPServer((here, 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.address: tuple[str, int] = (here, self._server.server_address[1])

    def close(self) -> None:
        """Take the port away."""
        self._server.shutdown()
        self._server.server_close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            end.shutdown(how)
