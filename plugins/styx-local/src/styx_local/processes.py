"""Every process of one node: known by what it carries, where it works and its family; killed until none is left."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_KILL_S = 5.0
_WRITING = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Process:
    """One living process of this user. `start` tells it from a later one with the same pid."""

    pid: int
    parent: int
    start: str


@dataclass(frozen=True)
class Signs:
    """By what a node's processes are known.

    Attributes:
        mark: The value of STYX_NODE.
        styx_home: The value of STYX_HOME.
        folder: The node's folder.
        state: The agent's state folder within.
    """

    mark: str
    styx_home: str
    folder: Path
    state: Path


def end_all(signs: Signs, *, deadline_s: float = _KILL_S) -> list[int]:
    """Kill every process of a node, and return the pids that did not die in time.

    All are stopped before the first is killed: a process that is stopped forks no more, and an orphan stays in the
    family of a stopped supervisor that has adopted it, so nothing slips away between the look and the blow.
    """
    deadline = time.monotonic() + deadline_s
    stopped: set[Process] = set()
    found = find(signs)
    while found - stopped and time.monotonic() < deadline:
        _signal(found - stopped, signal.SIGSTOP)
        stopped |= found
        found = find(signs) | stopped
    left = stopped
    while left and time.monotonic() < deadline:
        _signal(left, signal.SIGKILL)
        _await_ends(left, min(1.0, deadline - time.monotonic()))
        left = find(signs)
    return sorted(process.pid for process in left)


def find(signs: Signs) -> set[Process]:
    """Living processes of a node, without this one; of its children only those that carry the node's signs."""
    table = _table()
    roots = {pid for pid in table if _belongs(pid, signs)} if _PROC.is_dir() else _belonging_by_ps(table, signs)
    above = _ancestors(table)
    table.pop(os.getpid(), None)  # so the family of a marked ancestor ends here
    carriers = {pid for pid in roots & table.keys() if pid not in above or _is_marked(_environment(pid), signs)}
    return {table[pid] for pid in _family(table, carriers) if pid not in above or pid in carriers}


def _belongs(pid: int, signs: Signs) -> bool:
    environment = _environment(pid)
    if _is_marked(environment, signs):
        return True
    with contextlib.suppress(OSError):
        works_in = os.readlink(_PROC / str(pid) / "cwd").removesuffix(" (deleted)")
        inside = Path(works_in).is_relative_to(signs.folder)
        if inside and f"STYX_HOME={signs.styx_home}".encode("utf-8", "surrogateescape") in environment:
            return True
    return _writes_below(pid, signs.state)


def _is_marked(environment: Iterable[bytes], signs: Signs) -> bool:
    values = set(environment)
    if f"STYX_NODE={signs.mark}".encode() not in values:
        return False
    homes = [value for value in values if value.startswith(b"STYX_HOME=")]
    return not homes or os.fsencode(f"STYX_HOME={signs.styx_home}") in homes


def _environment(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _writes_below(pid: int, folder: Path) -> bool:
    """Whether it holds a file under `folder` open for writing: a job that shed everything else keeps its log."""
    try:
        for handle in os.listdir(_PROC / str(pid) / "fd"):
            path = os.readlink(_PROC / str(pid) / "fd" / handle)
            if path.startswith(f"{folder}/"):
                info = (_PROC / str(pid) / "fdinfo" / handle).read_text(encoding="ascii")
                flags = next((line.split()[1] for line in info.splitlines() if line.startswith("flags:")), "0")
                if int(flags, 8) & _WRITING:
                    return True
    except (OSError, ValueError, IndexError):
        return False
    return False


def _table() -> dict[int, Process]:
    """Living processes of this user by pid."""
    if not _PROC.is_dir():
        return _table_by_ps()
    found = {}
    me = os.getuid()
    for name in os.listdir(_PROC):
        if not name.isdigit():
            continue
        try:
            if os.stat(_PROC / name).st_uid != me:
                continue
            # The command's name is in parentheses and may hold anything: what counts comes after the last one.
            fields = (_PROC / name / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if len(fields) > 19 and fields[0] not in (b"Z", b"X"):
            found[int(name)] = Process(int(name), int(fields[1]), fields[19].decode("ascii"))
    return found


def _table_by_ps() -> dict[int, Process]:
    found = {}
    for line in _ps("-U", str(os.getuid()), "-o", "pid=,ppid=,stat=,lstart="):
        pid, parent, state, start = line.split(None, 3)
        if not state.startswith("Z"):
            found[int(pid)] = Process(int(pid), int(parent), start)
    return found


def _belonging_by_ps(table: dict[int, Process], signs: Signs) -> set[int]:
    """Where there is no /proc, `ps -E` shows the environment of the user's own processes behind their command."""
    mark = f"STYX_NODE={signs.mark}"
    found = set()
    for line in _ps("-E", "-U", str(os.getuid()), "-ww", "-o", "pid=,command="):
        pid, _, command = line.strip().partition(" ")
        if mark in command.split() and int(pid) in table:
            found.add(int(pid))
    return found


def _ps(*arguments: str) -> list[str]:
    done = subprocess.run(["ps", *arguments], capture_output=True, text=True, timeout=10, check=False)
    return [line for line in done.stdout.splitlines() if line.strip()]


def _family(table: dict[int, Process], roots: set[int]) -> set[int]:
    """The roots with all that descends from them."""
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    found = roots & table.keys()
    frontier = list(found)
    while frontier:
        for child in children.get(frontier.pop(), ()):
            if child not in found:
                found.add(child)
                frontier.append(child)
    return found


def _ancestors(table: dict[int, Process]) -> set[int]:
    found: set[int] = set()
    pid = os.getppid()
    while pid in table and pid not in found:
        found.add(pid)
        pid = table[pid].parent
    return found


def _signal(processes: Iterable[Process], signum: signal.Signals) -> None:
    for process in processes:
        if _is_alive(process):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signum)


def _is_alive(process: Process) -> bool:
    """Whether it lives, and its pid is not another's by now."""
    if not _PROC.is_dir():
        return _table_by_ps().get(process.pid) == process
    try:
        fields = (_PROC / str(process.pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return len(fields) > 19 and fields[0] not in (b"Z", b"X") and fields[19].decode("ascii") == process.start


def _await_ends(processes: Iterable[Process], timeout_s: float) -> None:
    """Until all have ended, or the time has passed; the kernel tells, where it can."""
    deadline = time.monotonic() + timeout_s
    for process in processes:
        poll = select.poll()
        handle = None
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                handle = os.pidfd_open(process.pid)
                poll.register(handle, select.POLLIN)
        try:
            while _is_alive(process) and (left := deadline - time.monotonic()) > 0:
                poll.poll(min(left, 0.02) * 1000)
        finally:
            if handle is not None:
                os.close(handle)
