"""A small client for the agent's socket: for programs on the node, such as the actors of the Ray driver."""

from __future__ import annotations

import threading
import time

from styx_agent import protocol
from styx_agent.lean import TYPE_CHECKING, dumps, loads, socket

if TYPE_CHECKING:
    from typing import Any


class AgentError(Exception):
    """The agent answered with an error, or not at all; `code` is one of the protocol's, or `lost`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Connection:
    """One connection. `call` may be used from several threads; calls wait for one another."""

    def __init__(self, stream: socket.socket) -> None:
        self._socket = stream
        self._received = bytearray()
        self._lock = threading.Lock()
        self._last_id = 0
        self.hello: dict[str, Any] = {}

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go. Idempotent."""
        self._socket.close()

    def call(self, method: str, params: dict[str, Any] | None = None, timeout: float = 60.0) -> Any:
        """Ask one thing and wait for its answer.

        Raises:
            AgentError: The answer is an error, or the connection is lost or too slow. After `lost`, connect anew.
        """
        with self._lock:
            self._last_id += 1
            request = {"id": self._last_id, "method": method, "params": params or {}}
            deadline = time.monotonic() + timeout
            try:
                self._socket.settimeout(timeout)
                self._socket.sendall(dumps(request).encode("ascii") + b"\n")
                while True:
                    answer = loads(self._line(deadline).decode("utf-8"))
                    if answer.get("id") in (self._last_id, None):
                        break
            except (OSError, ValueError) as error:
                self._socket.close()
                raise AgentError("lost", "the agent did not answer %s: %s" % (method, error)) from error
        if "error" in answer:
            raise AgentError(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def _line(self, deadline: float) -> bytes:
        searched = 0
        while True:
            end = self._received.find(b"\n", searched)
            if end >= 0:
                line = bytes(self._received[:end])
                del self._received[: end + 1]
                return line
            searched = len(self._received)
            left = deadline - time.monotonic()
            if left <= 0:
                raise socket.timeout("timed out")
            self._socket.settimeout(left)
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError("the connection was closed")
            self._received += data


def open_socket(path: str, timeout: float) -> socket.socket:
    """A connected socket with that timeout.

    Raises:
        OSError: Nobody listens there, or nobody takes the connection in time.
    """
    deadline = time.monotonic() + timeout
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(timeout)
    while True:
        try:
            stream.connect(path)
            return stream
        except BlockingIOError:  # many clients at once: the line is full, for a moment
            if time.monotonic() >= deadline:
                stream.close()
                raise
            time.sleep(0.01)
        except OSError:
            stream.close()
            raise


def connect(socket_path: str, timeout: float = 10.0, name: str = "styx_agent.client") -> Connection:
    """Connect and say hello.

    Raises:
        OSError: Nobody listens there.
        AgentError: The agent does not answer, or speaks no common version.
    """
    stream = open_socket(socket_path, timeout)
    try:
        connection = Connection(stream)
        connection.hello = connection.call("hello", {"versions": list(protocol.VERSIONS), "client": name}, timeout)
    except BaseException:
        stream.close()
        raise
    return connection
