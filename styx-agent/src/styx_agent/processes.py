"""The process table: who descends from whom, who carries a mark, and how to end them all for certain."""

from __future__ import annotations

import contextlib
import os
import sys
import time

from styx_agent.lean import TYPE_CHECKING, NamedTuple, libc, signal

if TYPE_CHECKING:
    from typing import Callable, Iterable, Mapping

_LINUX = sys.platform.startswith("linux")
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    """One process. `start` tells a process from a later one with the same pid; `dead` ones wait to be reaped."""

    pid: int
    ppid: int
    session: int
    start: str
    dead: bool


def table() -> dict[int, Process]:
    """Every process that this user can see."""
    if not _LINUX:
        return _table_from_ps()
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = _from_proc(int(name))
            if process is not None:
                found[process.pid] = process
    return found


def _from_proc(pid: int) -> Process | None:
    try:
        with open("/proc/%d/stat" % pid, "rb") as stream:
            return parse_stat(pid, stream.read())
    except (OSError, ValueError, IndexError):
        return None


def parse_stat(pid: int, data: bytes) -> Process:
    """One line of `/proc/<pid>/stat`; the command name in it may hold spaces and parentheses."""
    fields = data[data.rindex(b")") + 2 :].split()
    # A leader that ended while its threads run on is shown as a zombie, yet is alive.
    dead = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    return Process(pid, int(fields[1]), int(fields[3]), fields[19].decode("ascii"), dead)


def _table_from_ps() -> dict[int, Process]:
    import subprocess

    listing = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,pgid=,stat=,lstart="],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=10,
        check=False,
    ).stdout
    return parse_ps(listing.decode("ascii", "replace"))


def parse_ps(listing: str) -> dict[int, Process]:
    """The output of `ps -axo pid=,ppid=,pgid=,stat=,lstart=`, for systems without /proc."""
    found = {}
    for line in listing.splitlines():
        fields = line.split(None, 4)
        if len(fields) == 5 and fields[0].isdigit() and fields[1].isdigit():
            pid = int(fields[0])
            session = int(fields[2]) if fields[2].isdigit() else 0
            found[pid] = Process(pid, int(fields[1]), session, fields[4].strip(), fields[3].startswith("Z"))
    return found


def lookup(pid: int) -> Process | None:
    """One process, or None when it is gone."""
    return _from_proc(pid) if _LINUX else _table_from_ps().get(pid)


def is_alive(pid: int, start: str) -> bool:
    """Whether that very process still runs."""
    process = lookup(pid)
    return process is not None and process.start == start and not process.dead


def descendants(processes: Mapping[int, Process], roots: Iterable[int]) -> set[int]:
    """Pids of everything below `roots`, without the roots themselves."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.ppid, []).append(process.pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def environment(pid: int) -> frozenset[bytes]:
    """The `NAME=value` entries that a process was started with; empty when it cannot be read."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as stream:
            return frozenset(stream.read().split(b"\0"))
    except OSError:
        return frozenset()


def marked(processes: Iterable[int], marks: Mapping[str, str]) -> set[int]:
    """Those of `processes` whose environment holds every one of `marks`. Linux only; elsewhere none."""
    if not _LINUX:
        return set()
    wanted = frozenset(os.fsencode("%s=%s" % item) for item in marks.items())
    return {pid for pid in processes if wanted <= environment(pid)}


def writing_below(processes: Iterable[int], folder: str) -> set[int]:
    """Those of `processes` whose standard output or error is a file below `folder`. Linux only; elsewhere none."""
    found = set()
    prefix = os.path.realpath(folder) + os.sep
    for pid in processes:
        for stream in (1, 2):
            try:
                if os.readlink("/proc/%d/fd/%d" % (pid, stream)).startswith(prefix):
                    found.add(pid)
                    break
            except OSError:
                break
    return found


def command_line(pid: int) -> list[bytes]:
    """The arguments of a process; empty when they cannot be read."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            return stream.read().split(b"\0")
    except OSError:
        return []


def boot_id() -> str:
    """Changes with every start of the machine; empty where that cannot be told."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def send(process: Process, number: int) -> None:
    """Signal that very process, not a later one with its pid."""
    if is_alive(process.pid, process.start):
        with contextlib.suppress(OSError):
            os.kill(process.pid, number)


def end(find: Callable[[], list[Process]], *, grace_s: float, deadline_s: float = 10.0) -> list[int]:
    """End every process that `find` returns, and verify.

    Those of the first look get SIGTERM, and all `grace_s`: what they start to clean up is left to do so. Then SIGKILL
    again and again, because new ones may be forked meanwhile, until two looks in a row find nothing.

    Returns:
        Pids that are alive after all that: in an uninterruptible sleep, or not ours to kill.
    """
    began = time.monotonic()
    pause = 0.005
    found = find()
    if grace_s > 0:
        for process in found:
            send(process, signal.SIGTERM)
            send(process, signal.SIGCONT)
    while found and time.monotonic() - began < grace_s:
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
        found = find()
    quiet = 0
    pause = 0.005
    while time.monotonic() - began < grace_s + deadline_s:
        found = find()
        quiet = 0 if found else quiet + 1
        if quiet == 2:
            return []
        for process in found:
            send(process, signal.SIGKILL)
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    return sorted(process.pid for process in find())


def _prctl(option: int, argument: object) -> None:
    if not _LINUX:
        return
    with contextlib.suppress(OSError):  # without it orphans go to the init process, and are found by their marks
        libc("prctl")(option, argument, 0, 0, 0)


def become_subreaper() -> None:
    """Orphans among our descendants become our children, so that they stay in our tree."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """The name that `ps` shows."""
    _prctl(_PR_SET_NAME, name.encode("ascii"))


def set_command_line(words: list[str]) -> None:
    """What `ps -f` shows, for a fork that is no longer what its first process was asked to be. Linux only."""
    try:
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        if not 0 < start < end:
            return
        room = end - start
        data = b"\0".join(os.fsencode(word) for word in words)[: room - 1]
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(data.ljust(room, b"\0"))
    except (OSError, ValueError, IndexError):
        return


def reap() -> None:
    """Take leave of every child that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except OSError:
        pass
