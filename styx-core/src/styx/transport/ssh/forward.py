"""Ports of this machine that lead through a login to ports that the host can reach."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import paramiko

from styx.errors import LocalIOError, StyxError
from styx.models.forwards import PortForward
from styx.transport.ssh.login import Login

_CHUNK = 1 << 15


class Forwarder:
    """Listens until it is closed; each connection gets a channel of its own on the login that lives then."""

    def __init__(self, forwards: Sequence[PortForward], login: Callable[[], Login], say: Callable[[str], None]) -> None:
        """`say` is told of connections that could not be carried.

        Raises:
            LocalIOError: A port of this machine can't be listened on; none is then.
        """
        self._login = login
        self._say = say
        self._listeners: list[socket.socket] = []
        self._open: set[Any] = set()
        self._closed = False
        self.forwards: list[PortForward] = []
        """As asked, with the ports that were taken for 0."""
        try:
            for each in forwards:
                self._listen(each)
        except BaseException:
            self.close()
            raise

    def _listen(self, forward: PortForward) -> None:
        family = socket.AF_INET6 if ":" in forward.bind else socket.AF_INET
        try:
            listener = socket.create_server((forward.bind, forward.local), family=family)
        except OSError as error:
            raise LocalIOError(
                f"port {forward.local} of this machine can't be used: {error.strerror or error}",
                hint="choose another one, such as 0 for any that is free",
            ) from None
        self._listeners.append(listener)
        taken = PortForward(listener.getsockname()[1], forward.remote, forward.host, forward.bind)
        self.forwards.append(taken)
        threading.Thread(target=self._accept, args=(listener, taken), name="ssh-forward", daemon=True).start()

    def _accept(self, listener: socket.socket, forward: PortForward) -> None:
        while not self._closed:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(stream, forward), name="ssh-forward", daemon=True).start()

    def _carry(self, stream: socket.socket, forward: PortForward) -> None:
        try:
            login = self._login()
            channel = login.tunnel(login.hop, forward.host, forward.remote)
        except StyxError as error:
            self._say(f"no connection to {forward.host}:{forward.remote} of the node: {error.message}")
            stream.close()
            return
        self._open |= {stream}
        up = threading.Thread(target=_pump, args=(stream.recv, channel.sendall, channel.shutdown_write), daemon=True)
        up.start()
        _pump(channel.recv, stream.sendall, lambda: stream.shutdown(socket.SHUT_WR))
        up.join()
        login.release(channel)
        stream.close()
        self._open -= {stream}

    def close(self) -> None:
        """Stop listening and end what is carried. Idempotent."""
        self._closed = True
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        for stream in list(self._open):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)


def _pump(read: Callable[[int], bytes], write: Callable[[bytes], object], end: Callable[[], object]) -> None:
    errors = (OSError, EOFError, paramiko.SSHException)
    with contextlib.suppress(*errors):
        while data := read(_CHUNK):
            write(data)
    with contextlib.suppress(*errors):
        end()
