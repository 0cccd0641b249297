"""Processes of one simulated node: found by a marker in their environment, killed until none is left.

Reads `/proc`, so it works on Linux; elsewhere it finds nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def marked(variable: str, value: str) -> set[int]:
    """Processes that carry `variable=value` in their environment, with all their descendants.

    A process that cleared its environment is found through its parent; one that did so *and* left its family by
    forking twice is not.
    """
    needle = f"{variable}={value}".encode()
    found = {pid for pid in _pids() if needle in _environment(pid)}
    return found | descendants(found)


def descendants(roots: Iterable[int]) -> set[int]:
    """Children of `roots`, their children, and so on; without the roots."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        children.setdefault(_parent(pid), []).append(pid)
    found: set[int] = set()
    frontier = list(roots)
    while frontier:
        for child in children.get(frontier.pop(), ()):
            if child not in found:
                found.add(child)
                frontier.append(child)
    return found


def kill_marked(variable: str, value: str, *, deadline_s: float = 5.0) -> bool:
    """Kill what `marked` finds, again and again, until nothing is left; the caller itself is spared.

    Returns:
        Whether nothing is left. False means that the deadline passed first.
    """
    end = time.monotonic() + deadline_s
    while True:
        victims = marked(variable, value) - {os.getpid()}
        if not victims:
            return True
        if time.monotonic() > end:
            return False
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.01)


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir(PROC) if name.isdigit()]
    except FileNotFoundError:
        return []


def _environment(pid: int) -> list[bytes]:
    """The environment a process was started with; empty for zombies, strangers, and processes just gone."""
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _parent(pid: int) -> int:
    """The parent's id, or 0 for a process that is gone or a zombie."""
    try:
        # The command name is in parentheses and may hold anything, so split after the last one.
        fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return 0 if fields[0] == b"Z" else int(fields[1])
    except (OSError, IndexError, ValueError):
        return 0
