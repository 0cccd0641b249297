"""Local processes as channels: what the local and the exec transport have in common."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, BinaryIO, cast

from styx.errors import DeadlineExceeded, Unreachable
from styx.transport.base import Completed, NodeGone

_TAIL_BYTES = 8192
_GRACE_S = 1.0


class Pipe:
    """One end of a process's pipe that threads may read, write and close at the same time.

    A thread that is about to read has let go of the interpreter but holds the descriptor's number. Closing the pipe at
    that moment gives the number to the next pipe that is opened, and the late thread takes that one's first bytes: on
    loaded machines, answers of agents were lost so. So the last thread that leaves the pipe closes it.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._lock = threading.Lock()
        self._inside = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nobody may enter any more."""
        return self._closed

    def read(self, most: int = -1) -> bytes:
        """What is there, at most so many bytes, or everything up to the end; `b""` is the end."""
        with self._entered():
            return self._raw.read(most)

    def write(self, data: bytes | memoryview) -> int:
        """How many of these bytes were taken."""
        with self._entered():
            return self._raw.write(data)

    def flush(self) -> None:
        """Nothing: the pipe keeps nothing back."""

    def fileno(self) -> int:
        """The descriptor, for whoever is inside."""
        return self._raw.fileno()

    def close(self) -> None:
        """Let nobody enter any more; the descriptor is closed when the last one has left."""
        with self._lock:
            last = not self._closed and not self._inside
            self._closed = True
        if last:
            self._raw.close()

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise ValueError("the pipe is closed")
            self._inside += 1
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            last = self._closed and not self._inside
        if last:
            close_quietly(self._raw)


class ProcessChannel:
    """A local process with its three streams. See `styx.transport.base.Channel`."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None) -> None:
        self._process = spawn(argv, env=env, cwd=cwd)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.stdin = cast(BinaryIO, Pipe(self._process.stdin))
        self.stdout = cast(BinaryIO, Pipe(self._process.stdout))
        self._tail: deque[bytes] = deque()
        self._drain = threading.Thread(target=self._drain_stderr, name="stderr", daemon=True)
        self._drain.start()

    def _drain_stderr(self) -> None:
        stream = cast(IO[bytes], self._process.stderr)
        held = 0
        with contextlib.suppress(OSError, ValueError):
            while data := stream.read(4096):
                self._tail.append(data)
                held += len(data)
                while held - len(self._tail[0]) >= _TAIL_BYTES:
                    held -= len(self._tail.popleft())

    def stderr_tail(self) -> str:
        """The last 8 KiB of standard error; complete when the command has ended."""
        if self._process.poll() is not None:
            self._drain.join(_GRACE_S)
        return b"".join(self._tail)[-_TAIL_BYTES:].decode("utf-8", "replace")

    def wait(self, timeout_s: float) -> int:
        """Exit code, signals as 128 + n."""
        try:
            return exit_code(self._process.wait(timeout_s))
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(f"the command did not end within {timeout_s:g} s") from None

    def close(self) -> None:
        """Let the command see the end of its input, then end it if it takes no notice."""
        close_quietly(self.stdin)
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            end_group(self._process)
        self._drain.join(_GRACE_S)
        if not self._drain.is_alive():  # else a descendant keeps the pipe: closing it here would block
            close_quietly(cast(IO[bytes], self._process.stderr))
        close_quietly(self.stdout)


def close_quietly(stream: IO[bytes]) -> None:
    """Close a pipe whose other end may be gone."""
    with contextlib.suppress(OSError, ValueError):
        stream.close()


def spawn(argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None) -> subprocess.Popen[bytes]:
    """Start `argv` in its own session with unbuffered pipes.

    Raises:
        Unreachable: The program or the folder does not exist; the message says which.
    """
    try:
        return subprocess.Popen(
            list(argv),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
        )
    except OSError as error:
        raise cannot_start(argv, cwd, error) from error


def cannot_start(argv: Sequence[str], cwd: str | None, error: OSError) -> Unreachable:
    """Why a program could not be started, naming what is missing."""
    if cwd is not None and not os.path.isdir(cwd):
        return NodeGone(f"the node's folder {cwd} does not exist", hint="the node was removed; see `styx status`")
    return Unreachable(f"cannot run {argv[0]}: {error.strerror}")


def run_process(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None, stdin: bytes, timeout_s: float
) -> Completed:
    """Run `argv` to its end; at the deadline everything in its session is killed."""
    process = spawn(argv, env=env, cwd=cwd)
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise DeadlineExceeded(f"{Path(argv[0]).name} did not end within {timeout_s:g} s") from None
    finally:
        if process.poll() is None:
            end_group(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    close_quietly(stream)
    return Completed(exit_code(process.returncode), stdout, stderr)


def run_on_terminal(argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None) -> int:
    """Give this terminal to `argv`; Ctrl-C is the command's, not ours, while it runs."""

    def ignore(signum: int, frame: FrameType | None) -> None:
        """A handler, not SIG_IGN: the command must not inherit an ignored signal."""

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, ignore) if in_main else None
    sys.stdout.flush()
    try:
        return exit_code(subprocess.run(list(argv), env=dict(env), cwd=cwd, check=False).returncode)
    except OSError as error:
        raise cannot_start(argv, cwd, error) from error
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Terminate, then kill, the session that `spawn` made."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signum)
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
        return


def exit_code(returncode: int) -> int:
    """Python's return code as shells know it: signals as 128 + n."""
    return returncode if returncode >= 0 else 128 - returncode
