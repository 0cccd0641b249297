"""This terminal on a host: raw mode, size and resizes, exit code; or plain pipes where there is no terminal."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import paramiko

from styx.driver import SshFailed
from styx.transport.ssh.channel import request
from styx.transport.ssh.diagnosis import lost

if TYPE_CHECKING:
    from styx.transport.ssh.login import Login

_CHUNK = 1 << 15


def interact(login: Login, channel: Any, command: str | None) -> int:
    """Give standard input and output to `command`, or to a login shell; returns its exit code.

    Raises:
        SshFailed: The login was lost meanwhile.
    """
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    sys.stdout.flush()
    try:
        if terminal or (command is None and sys.stdin.isatty()):
            size = shutil.get_terminal_size()
            channel.get_pty(os.environ.get("TERM", "xterm"), size.columns, size.lines)
        if command is None:
            request(channel, "shell")
        else:
            request(channel, "exec", command)
        with _raw() if terminal else contextlib.nullcontext(), _resizing(channel) if terminal else _deaf():
            _carry(channel)
        code = int(channel.exit_status)
        if code < 0:
            raise _why(login)
        return code
    except (paramiko.SSHException, EOFError, OSError) as error:
        if isinstance(error, SshFailed):
            raise
        raise _why(login) from error
    finally:
        login.release(channel)


def _why(login: Login) -> SshFailed:
    return lost(login.hop, "it ended the session without an exit code" if login.alive else login.why_lost())


def _carry(channel: Any) -> None:
    """Bytes both ways until the command has ended."""
    stdin = sys.stdin.fileno()

    def send() -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while data := os.read(stdin, _CHUNK):
                channel.sendall(data)
            channel.shutdown_write()

    def errors() -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while data := channel.recv_stderr(_CHUNK):
                _write(2, data)

    threading.Thread(target=send, name="ssh-stdin", daemon=True).start()
    drain = threading.Thread(target=errors, name="ssh-stderr", daemon=True)
    drain.start()
    try:
        while data := channel.recv(_CHUNK):
            _write(1, data)
    except BrokenPipeError:
        return  # nobody reads our output any more: closing the channel tells the command
    drain.join()
    channel.status_event.wait(10.0)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Every key goes to the host, Ctrl-C included."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed ahead is kept
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizing(channel: Any) -> Iterator[None]:
    """The host learns of this window's new size."""

    def resized(_number: int, _frame: FrameType | None) -> None:
        # Not from the handler itself: it may interrupt a thread that holds the channel's lock.
        threading.Thread(target=tell, name="ssh-resize", daemon=True).start()

    def tell() -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.resize_pty(size.columns, size.lines)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGWINCH, resized)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Without a terminal, Ctrl-C ends this client as usual; closing the channel tells the command."""
    yield
