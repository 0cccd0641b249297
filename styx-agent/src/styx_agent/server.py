"""The unix socket: one thread for each connection, one more for each request that waits."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time

from styx_agent import protocol
from styx_agent.faults import Fault
from styx_agent.journal import note, note_error
from styx_agent.lean import TYPE_CHECKING, accept, dumps, loads, socket
from styx_agent.paths import prepare_socket_folder

if TYPE_CHECKING:
    from typing import Any, Callable

    Dispatch = Callable[[str, "dict[str, Any]"], Any]

_MAX_CONNECTIONS = 256
_MAX_WAITING = 64
_SEND_S = 30
_RECEIVE_BYTES = 1 << 16


class Server:
    """Listens on `path`. `dispatch(method, params)` answers; `is_slow(method, params)` says which may take long."""

    def __init__(self, path: str, dispatch: Dispatch, is_slow: Callable[[str, dict[str, Any]], bool]) -> None:
        self.path = path
        self._dispatch = dispatch
        self._is_slow = is_slow
        self._lock = threading.Lock()
        self._open: dict[socket.socket, int] = {}
        self._listener: socket.socket | None = None
        self._inode = 0

    def listen(self) -> None:
        """Bind the socket anew and accept connections on a thread. Only the holder of the agent lock may call it."""
        prepare_socket_folder(self.path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.path)  # mode 0600 by the umask; the folder is 0700
        os.chmod(self.path, 0o600)
        listener.listen(512)
        old, self._listener = self._listener, listener
        self._inode = os.stat(self.path).st_ino
        if old is not None:
            _shut(old)  # wakes the thread that accepts on it
            old.close()
        threading.Thread(target=self._accept, args=(listener,), name="accept", daemon=True).start()

    def ensure_listening(self) -> None:
        """Bind again if somebody tidied up /tmp."""
        try:
            if os.stat(self.path).st_ino == self._inode:
                return
        except OSError:
            pass
        note("the socket %s is gone; making it again" % self.path)
        self.listen()

    def peers(self) -> set[int]:
        """Pids of the processes that are connected, where the system tells."""
        with self._lock:
            return set(self._open.values()) - {0}

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                stream = accept(listener)
            except OSError as error:
                if listener.fileno() < 0 or listener is not self._listener:
                    return
                note("cannot accept a connection: %s" % error)
                time.sleep(0.2)
                continue
            with self._lock:
                crowded = len(self._open) >= _MAX_CONNECTIONS
                if not crowded:
                    self._open[stream] = _peer(stream)
            if crowded:
                stream.close()
                continue
            threading.Thread(target=self._serve, args=(stream,), name="connection", daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        try:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_S, 0))
            Connection(stream, self._dispatch, self._is_slow).serve()
        except OSError:
            pass  # the client is gone
        finally:
            with self._lock:
                del self._open[stream]
            stream.close()


class Connection:
    """One client: reads lines, answers each. Whatever it sends, the others are not harmed."""

    def __init__(
        self, stream: socket.socket, dispatch: Dispatch, is_slow: Callable[[str, dict[str, Any]], bool]
    ) -> None:
        self._stream = stream
        self._dispatch = dispatch
        self._is_slow = is_slow
        self._send_lock = threading.Lock()
        self._places = threading.Semaphore(_MAX_WAITING)
        self._waiting: set[threading.Thread] = set()
        self._greeted = False

    def serve(self) -> None:
        """Answer until the client closes; then let requests that wait finish."""
        received = bytearray()
        searched = 0
        while True:
            end = received.find(b"\n", searched)
            if end > protocol.MAX_LINE_BYTES or (end < 0 and len(received) > protocol.MAX_LINE_BYTES):
                self._refuse(None, protocol.BAD_REQUEST, "a line is longer than %d bytes" % protocol.MAX_LINE_BYTES)
                return
            if end >= 0:
                line = bytes(received[:end])
                del received[: end + 1]
                searched = 0
                self._take(line)
                continue
            searched = len(received)
            data = self._stream.recv(_RECEIVE_BYTES)
            if not data:
                break
            received += data
        for thread in list(self._waiting):
            thread.join(protocol.MAX_WAIT_S + _SEND_S)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        number = None
        try:
            request = loads(line.decode("utf-8"))
            if not isinstance(request, dict):
                raise ValueError("not an object")
            number = request.get("id")
            if isinstance(number, bool) or not isinstance(number, int):
                number = None
                raise ValueError("the field 'id' is not a whole number")
            method, params = request.get("method"), request.get("params", {})
            params = {} if params is None else params
            if not isinstance(method, str) or not isinstance(params, dict):
                raise ValueError("'method' must be a string and 'params' an object")
        except (ValueError, RecursionError) as error:
            self._refuse(number, protocol.BAD_REQUEST, "this is not a request: %.200s" % error)
            return
        if not self._greeted and method != "hello":
            self._refuse(number, protocol.BAD_REQUEST, "the first request must be 'hello'")
            return
        if self._is_slow(method, params):
            self._places.acquire()
            thread = threading.Thread(target=self._answer_later, args=(number, method, params), daemon=True)
            self._waiting.add(thread)
            thread.start()
        else:
            self._answer(number, method, params)

    def _answer_later(self, number: int, method: str, params: dict[str, Any]) -> None:
        try:
            self._answer(number, method, params)
        except OSError:
            pass  # the client is gone; the reading thread sees it too
        finally:
            self._waiting.discard(threading.current_thread())
            self._places.release()

    def _answer(self, number: int, method: str, params: dict[str, Any]) -> None:
        try:
            result = self._dispatch(method, params)
        except Fault as fault:
            self._refuse(number, fault.code, fault.message)
            return
        except Exception as error:  # noqa: BLE001 - the wall between one request and the agent; logged in full
            note_error("%s failed" % method)
            self._refuse(number, protocol.INTERNAL, "%s failed in the agent: %r" % (method, error))
            return
        if method == "hello":
            self._greeted = True
        self._send({"id": number, "result": result})

    def _refuse(self, number: int | None, code: str, message: str) -> None:
        self._send({"id": number, "error": {"code": code, "message": message}})

    def _send(self, answer: dict[str, Any]) -> None:
        data = dumps(answer).encode("ascii") + b"\n"
        with self._send_lock:
            try:
                self._stream.sendall(data)
            except OSError:
                # A part may be out: nothing sensible can follow it. Also wakes the reading thread.
                _shut(self._stream)
                raise


def _peer(stream: socket.socket) -> int:
    if not hasattr(socket, "SO_PEERCRED"):
        return 0
    credentials = struct.Struct("iII")
    try:
        found = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    except OSError:
        return 0
    return int(credentials.unpack(found)[0])


def _shut(stream: socket.socket) -> None:
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)
