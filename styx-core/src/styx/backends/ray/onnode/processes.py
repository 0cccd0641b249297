"""Processes by identity: a pid alone may have been given to somebody else meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from typing import Callable, Iterable, List, Optional, Tuple

LINUX = sys.platform.startswith("linux")


def started(pid: int) -> Optional[str]:
    """When the process began, as an opaque text; None when there is no such process or only its remains."""
    if LINUX:
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else fields[19]
    ran = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    state, _, born = ran.stdout.decode("utf-8", "replace").strip().partition(" ")
    return None if not state or state.startswith("Z") else born.strip()


def alive(pid: int, born: Optional[str]) -> bool:
    """Whether the process `pid` that began at `born` still runs."""
    return born is not None and started(pid) == born


def marked(name: str, value: str) -> List[int]:
    """Processes of this user whose environment has `name=value`, without the caller."""
    wanted = ("%s=%s" % (name, value)).encode("utf-8")
    return [pid for pid in _pids() if wanted in _environment(pid)]


def in_session(leader: int, born: Optional[str]) -> List[int]:
    """Processes of the session that `leader` opened, without the caller.

    While any of them lives the system gives the number to nobody else, so a leader with another birth is a stranger.
    """
    now = started(leader)
    if born is None or not LINUX or (now is not None and now != born):
        return []
    found = []
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None and fields[3] == str(leader) and fields[0] not in "ZX" and int(fields[19]) >= int(born):
            found.append(pid)
    return found


def end(find: Callable[[], Iterable[int]], *, grace_s: float = 0.0, deadline_s: float = 10.0) -> List[int]:
    """Kill what `find` returns until it returns nothing; says what is left at the deadline."""
    give_up = time.monotonic() + deadline_s
    soft_until = time.monotonic() + grace_s
    if grace_s:
        _send(find(), signal.SIGTERM)
    pause_s = 0.01
    while True:
        left = list(find())
        if not left or time.monotonic() > give_up:
            return left
        if time.monotonic() >= soft_until:
            _send(left, signal.SIGKILL)
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.2)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, where the system can do that."""
    if not LINUX:
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def reap() -> None:
    """Take the exit codes of ended children, so that none stays as a zombie."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except OSError as error:
            if error.errno == errno.EINTR:
                continue
            return
        if pid == 0:
            return


def identity(pid: int) -> Tuple[int, Optional[str]]:
    """A process as it is recorded: pid and birth."""
    return pid, started(pid)


def _send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _pids() -> List[int]:
    if not LINUX:
        ran = subprocess.run(["ps", "-xo", "pid="], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        found = [int(word) for word in ran.stdout.split()]
    else:
        found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in found if pid != os.getpid()]


def _environment(pid: int) -> List[bytes]:
    if LINUX:
        try:
            with open("/proc/%d/environ" % pid, "rb") as stream:
                return stream.read().split(b"\0")
        except OSError:
            return []
    ran = subprocess.run(
        ["ps", "-Eww", "-o", "command=", "-p", str(pid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return ran.stdout.split()


def _stat(pid: int) -> Optional[List[str]]:
    """The fields of /proc/<pid>/stat from the state on: [0] state, [1] parent, [2] group, [3] session, [19] birth."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as stream:
            text = stream.read().decode("ascii", "replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()
