"""A command on a host as a `styx.transport.base.Channel`."""

from __future__ import annotations

import contextlib
import re
import shlex
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import paramiko
from paramiko import common

from styx.driver import Completed
from styx.errors import DeadlineExceeded
from styx.transport.base import write_all
from styx.transport.ssh.connection import PACKET_BYTES
from styx.transport.ssh.diagnosis import lost

if TYPE_CHECKING:
    from styx.transport.ssh.login import Login

_TAIL_BYTES = 8192
_MOST_PER_MESSAGE = PACKET_BYTES - 64
_LAST_WORDS_S = 1.0


_PLAIN = re.compile(r"[A-Za-z0-9_@+:,./-]+")
_NOT_IN_QUOTES = re.compile(r"(['\\\\!])")
_UNPACK = 'eval "exec $(printf %b "$1")"'


def command_line(argv: Sequence[str]) -> str:
    """What the host's login shell is to run, which may be any: `exec` saves a process and passes signals on.

    Within single quotes fish knows escapes, csh looks for `!`, and lets no line end there: a line end is packed.
    """
    if any("\n" in word for word in argv):
        packed = shlex.join(argv).replace("\\", "\\\\").replace("\n", "\\n")
        argv = ("sh", "-c", _UNPACK, "sh", packed)
    return " ".join(("exec", *map(_quoted, argv)))


def _quoted(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    parts = (f"\\{part}" if place % 2 else f"'{part}'" for place, part in enumerate(_NOT_IN_QUOTES.split(word)))
    return "".join(part for part in parts if part != "''") or "''"


class SshChannel:
    """One command. See `styx.transport.base.Channel`."""

    def __init__(self, login: Login, channel: Any, command: str, *, whole_stderr: bool = False) -> None:
        """Starts `command` without waiting for the host to say that it did: one round trip less."""
        self._login = login
        self._whole_stderr = whole_stderr
        self._channel = channel
        self._tail: deque[bytes] = deque()
        self.stdin = cast(BinaryIO, _Input(channel))
        self.stdout = cast(BinaryIO, _Output(channel))
        try:
            request(channel, "exec", command)
        except (paramiko.SSHException, EOFError, OSError) as error:
            login.release(channel)
            raise self.lost() from error
        self._drain = threading.Thread(target=self._drain_stderr, name="ssh-stderr", daemon=True)
        self._drain.start()

    def _drain_stderr(self) -> None:
        held = 0
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while data := self._read_stderr():
                self._tail.append(data)
                held += len(data)
                while not self._whole_stderr and held - len(self._tail[0]) >= _TAIL_BYTES:
                    held -= len(self._tail.popleft())

    def _read_stderr(self) -> bytes:
        while True:
            try:
                data: bytes = self._channel.recv_stderr(PACKET_BYTES)
            except TimeoutError:
                if self._channel.closed:
                    return b""
            else:
                return data

    def stderr_tail(self) -> str:
        """The last 8 KiB of standard error; complete when the command has ended."""
        if self._channel.eof_received or self._channel.closed:
            self._drain.join(_LAST_WORDS_S)
        return b"".join(self._tail)[-_TAIL_BYTES:].decode("utf-8", "replace")

    def wait(self, timeout_s: float) -> int:
        """Exit code, signals as 128 + n.

        Raises:
            SshFailed: The login was lost before the command ended; it may still run.
        """
        if not self._channel.status_event.wait(timeout_s):
            raise DeadlineExceeded(f"the command did not end within {timeout_s:g} s")
        code = int(self._channel.exit_status)
        if code < 0:
            raise self.lost()
        return code

    def lost(self) -> Exception:
        """Why the channel ended without an exit code."""
        if self._login.alive:
            return lost(self._login.hop, "it ended the command without an exit code")
        return lost(self._login.hop, self._login.why_lost())

    @property
    def round_trip_s(self) -> float:
        """How far away the host is."""
        return self._login.round_trip_s

    def close(self) -> None:
        """Close the streams and let go; the command sees the end of its input, then a hang-up."""
        self._login.release(self._channel)

    def unread(self, data: bytes) -> None:
        """Give back what was read too much of the output."""
        cast(_Output, self.stdout).unread(data)

    def bound(self, timeout_s: float | None) -> None:
        """From now on a read or write that waits for so long raises TimeoutError; None waits as long as it takes."""
        self._channel.settimeout(timeout_s)

    def run(self, stdin: bytes, timeout_s: float, name: str) -> Completed:
        """Feed the command, collect what it says, and wait for its end; closes the channel.

        Raises:
            DeadlineExceeded: It did not end in time; it may still run.
            SshFailed: The login was lost meanwhile.
        """
        deadline = time.monotonic() + timeout_s
        out: list[bytes] = []
        if stdin:
            threading.Thread(target=self._feed, args=(stdin,), name="ssh-stdin", daemon=True).start()
        else:
            self.stdin.close()
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._channel.settimeout(left)
                data = self.stdout.read(1 << 20)
                if not data:
                    code = self.wait(max(0.0, deadline - time.monotonic()))
                    self._drain.join(_LAST_WORDS_S)
                    return Completed(code, b"".join(out), b"".join(self._tail))
                out.append(data)
            raise TimeoutError
        except (TimeoutError, DeadlineExceeded):
            raise DeadlineExceeded(f"{name} did not end within {timeout_s:g} s on {self._login.hop}") from None
        finally:
            self.close()

    def _feed(self, data: bytes) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            write_all(self.stdin, data)
        self.stdin.close()


def request(channel: Any, kind: str, *strings: str) -> None:
    """Send a channel request whose answer shows in what follows."""
    message = paramiko.Message()
    message.add_byte(common.cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string(kind)
    message.add_boolean(True)
    for each in strings:
        message.add_string(each.encode("utf-8", "surrogateescape"))
    channel._event_pending()
    channel.transport._send_user_message(message)


class _Input:
    """Standard input of the command. No `io` class: those close themselves when they are garbage collected."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def write(self, data: bytes | memoryview) -> int:
        """Send a part; returns how much."""
        part = bytes(memoryview(data)[:_MOST_PER_MESSAGE])
        try:
            sent: int = self._channel.send(part)
        except (EOFError, paramiko.SSHException) as error:
            raise ConnectionResetError("the connection to the host is gone") from error
        if part and not sent:
            raise BrokenPipeError("the command has ended, or its input was closed")
        return sent

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The command sees the end of its input."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()


class _Output:
    """Standard output of the command."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._unread = b""

    def read(self, size: int = -1) -> bytes:
        """What is there, at most `size` bytes, as soon as there is anything; nothing at the end."""
        wanted = size if size > 0 else 1 << 20
        if self._unread:
            data, self._unread = self._unread[:wanted], self._unread[wanted:]
            return data
        received: bytes = self._channel.recv(wanted)
        return received

    def unread(self, data: bytes) -> None:
        """The next read gives this first."""
        self._unread = data + self._unread

    def close(self) -> None:
        """The channel is closed as a whole."""
