"""What a login travels over: a TCP connection, a proxy command, or a channel of the jump host before it."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, Any

from styx.driver import SshFailed
from styx.transport.ssh.diagnosis import failed, from_os_error
from styx.transport.ssh.target import Hop

_STOP_S = 2.0
_MIN_RTT_AT = 148
"""Where `tcpi_min_rtt` is in `struct tcp_info` of `linux/tcp.h`; what is before it never changes."""
_NO_RTT = 0xFFFFFFFF


def dial(hop: Hop) -> socket.socket:
    """A TCP connection to a host, every address it has tried in turn.

    Raises:
        SshFailed: None answered.
    """
    deadline = time.monotonic() + hop.connect_s
    last: OSError = TimeoutError()
    for family, kind, protocol, _, address in _addresses(hop):
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(max(0.1, deadline - time.monotonic()))
            made.connect(address)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            made.close()
            last = error
            continue
        return made
    raise from_os_error(hop, last) from last


def kernel_round_trip_s(sock: socket.socket) -> float:
    """The quickest answer that the kernel saw, which a busy process would see late; infinite where it does not say."""
    if sys.platform != "linux":
        return math.inf
    try:
        said = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MIN_RTT_AT + 4)
        (microseconds,) = struct.unpack_from("I", said, _MIN_RTT_AT)
    except (OSError, struct.error):  # no TCP, or a kernel before 4.6
        return math.inf
    return microseconds / 1e6 if 0 < microseconds < _NO_RTT else math.inf


def _addresses(hop: Hop) -> list[Any]:
    """Of a name; the system's resolver knows no deadline, so a thread of its own waits for it."""
    found: list[Any] = []
    errors: list[OSError] = []

    def ask() -> None:
        try:
            found.extend(socket.getaddrinfo(hop.host, hop.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            errors.append(error if isinstance(error, OSError) else OSError(str(error)))

    thread = threading.Thread(target=ask, name="ssh-resolve", daemon=True)
    thread.start()
    thread.join(hop.connect_s)
    if found:
        return found
    said = (errors[0].strerror or str(errors[0])) if errors else f"no answer within {hop.connect_s:g} s"
    raise failed(hop, "dns", f"its name can't be resolved: {said}")


class ProxyProcess:
    """A proxy command at the other end of a socket pair, with what it said last."""

    def __init__(self, hop: Hop) -> None:
        """Raises SshFailed when it can't be started."""
        assert hop.command is not None
        self.socket, theirs = socket.socketpair()
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        try:
            self._process = subprocess.Popen(
                ["sh", "-c", f"exec {hop.command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._stderr,
                start_new_session=True,
            )
        except OSError as error:
            self.socket.close()
            self._stderr.close()
            raise failed(hop, "proxy", f"its proxy command can't be run: {error.strerror}") from None
        finally:
            theirs.close()

    def last_words(self) -> str:
        """The last line of its standard error, or how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        with contextlib.suppress(OSError, ValueError):
            self._stderr.seek(0)
            lines = self._stderr.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
            if lines:
                return lines[-1]
        code = self._process.poll()
        return "it said nothing" if code is None else f"it ended with exit code {code}"

    def close(self) -> None:
        """End the command and whatever it started."""
        self.socket.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
                break
        self._stderr.close()


__all__ = ["ProxyProcess", "SshFailed", "dial"]
