"""The process above one phase of one job. It outlives the agent, so that output and exit code are never lost.

It reads its orders from a file and removes it (it may hold secrets), starts the command in a session of its own,
waits, ends what the command left behind, and leaves the outcome in a file that it made room for beforehand.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time

from styx_agent import container, files, processes
from styx_agent.faults import EXIT_DISK_FULL, is_disk_full
from styx_agent.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_OUTCOME_BYTES = 2048
_LINGER_S = 0.5
_TERM_S = 1.0
_DISK_LOOK_S = 2.0


def main(orders_path: str) -> int:
    """Run one phase; the lock on the phase is held by an open file that was inherited."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)  # a handler and not SIG_IGN, which the command would inherit
    processes.set_name("styx-runner")
    processes.become_subreaper()
    orders = files.read_object(orders_path)
    try:
        outcome = _Outcome(orders["outcome"])
        _write_pid(orders, None)
    except OSError as error:
        return EXIT_DISK_FULL if is_disk_full(error) else 1
    files.remove(orders_path)
    try:
        outcome.leave(_run(orders))
    except OSError as error:
        return EXIT_DISK_FULL if is_disk_full(error) else 1
    return 0


class _Outcome:
    """The outcome file. Its blocks are taken at the start, when there still is room."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        files.write_all(self._fd, b" " * _OUTCOME_BYTES)
        os.lseek(self._fd, 0, os.SEEK_SET)

    def leave(self, outcome: dict[str, Any]) -> None:
        outcome["ended_at"] = time.time()
        files.write_all(self._fd, json.dumps(outcome).encode("ascii")[:_OUTCOME_BYTES])
        os.close(self._fd)
        os.replace(self._path + ".tmp", self._path)


def _write_pid(orders: dict[str, Any], child: int | None) -> None:
    me = processes.lookup(os.getpid())
    record = {
        "pid": os.getpid(),
        "start": me.start if me else "",
        "boot": processes.boot_id(),
        "child": child,
        "abandon_s": orders.get("abandon_s"),
        "box": orders["inside"].get("box"),
    }
    files.write_json(orders["pid"], record)


def _run(orders: dict[str, Any]) -> dict[str, Any]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    folders = [os.path.dirname(orders["log"]), orders["home"]]
    cwd = orders["cwd"] if os.path.isdir(orders["cwd"]) else orders["home"]
    oom_before = _oom_kills()
    try:
        log = os.open(orders["log"], flags, 0o600)
        problem = _enter(orders["inside"])
        if problem is not None:
            return {"exit_code": 125, "reason": problem}
        given = _standard_input(orders["inside"])
        child = subprocess.Popen(
            orders["argv"],
            stdin=given,
            stdout=log,
            stderr=log,
            cwd=cwd,
            env=orders["env"],
            start_new_session=True,
            preexec_fn=_usual_umask,  # safe: this process has one thread
        )
        os.close(given)
    except OSError as error:
        return _not_started(orders, cwd, error)
    with contextlib.suppress(OSError):  # the record without the child is enough for all but one double fault
        _write_pid(orders, child.pid)
    watch = _DiskWatch(folders)
    code = _wait_for(child)
    survivors: list[int] = []
    if orders["end_leftovers"]:
        survivors = _end_leftovers()
    reason = _reason(code, oom_before)
    if orders["inside"]:
        left, reason = _leave(orders, code, reason)
        survivors += left
    if code != 0 and (watch.full() or files.refuses_bytes(log)):
        reason = "disk full: no space left on the device under %s" % (watch.full() or folders[0])
    return {"exit_code": code, "reason": reason, "survivors": survivors}


def _enter(inside: dict[str, Any]) -> str | None:
    """Have the container run, if there is one: it may have ended since the last phase. What went wrong."""
    box = container.box_of(inside.get("box"))
    if box is None:
        return None
    problem = container.revive(box, inside["image"], inside["job"].rpartition("/")[0])
    return None if problem is None else "the container cannot be used: %s" % problem


def _standard_input(inside: dict[str, Any]) -> int:
    """What the command reads: nothing, or the program for the container, which is removed (it holds secrets)."""
    if not inside:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    fd = os.open(inside["stdin"], os.O_RDONLY | os.O_CLOEXEC)
    files.remove(inside["stdin"])
    return fd


def _leave(orders: dict[str, Any], code: int, reason: str | None) -> tuple[list[int], str | None]:
    """After a command in the container: end what it left there, and say so if the container itself ended."""
    inside = orders["inside"]
    box = container.box_of(inside["box"])
    assert box is not None  # it was entered
    if code != 0 and not container.state_of(box)[0]:
        return [], "its container has ended"
    left: list[str] = []
    if orders["end_leftovers"]:
        left = container.end(box, inside["job"], inside["phase"], _TERM_S)
    if box.foreign and orders["cwd"] != orders["home"]:
        container.own(box, orders["cwd"])
    if left:
        reason = "%s; could not end %s" % (reason or "ended", ", ".join(left))
    return [], reason


def _usual_umask() -> None:
    os.umask(0o022)


def _not_started(orders: dict[str, Any], cwd: str, error: OSError) -> dict[str, Any]:
    if is_disk_full(error):
        return {"exit_code": None, "reason": "disk full: cannot open the log %s" % orders["log"], "disk_full": True}
    what = "the folder %s" % cwd if not os.path.isdir(cwd) else str(orders["argv"][0])
    return {"exit_code": 127, "reason": "cannot start %s: %s" % (what, error.strerror or error)}


def _wait_for(child: subprocess.Popen[bytes]) -> int:
    """The exit code of `child` (signals as 128 + n), while orphans that came to us are reaped."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            child.returncode = 0  # reaped here; keeps Popen from asking for it again
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _end_leftovers() -> list[int]:
    """End what the command left behind; pipes' other ends get a moment to finish by themselves."""

    def find() -> list[processes.Process]:
        processes.reap()
        seen = processes.table()
        return [seen[pid] for pid in processes.descendants(seen, [os.getpid()]) if not seen[pid].dead]

    deadline = time.monotonic() + _LINGER_S
    pause = 0.002
    while find() and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return processes.end(find, grace_s=_TERM_S)


def _reason(code: int, oom_before: int) -> str | None:
    if code <= 128 or code > 128 + 64:
        return None
    try:
        name = signal.Signals(code - 128).name
    except ValueError:
        return None
    if code == 128 + signal.SIGKILL and _oom_kills() > oom_before:
        return "killed by SIGKILL; the kernel ended a process for want of memory meanwhile"
    return "killed by %s" % name


def _oom_kills() -> int:
    try:
        with open("/proc/vmstat", "rb") as stream:
            for line in stream:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


class _DiskWatch:
    """Remembers whether a disk was full at any look: a job may tidy up before it ends."""

    def __init__(self, folders: list[str]) -> None:
        self._folders = folders
        self._seen: str | None = None
        threading.Thread(target=self._look, name="disk", daemon=True).start()

    def _look(self) -> None:
        while self._seen is None:
            self._seen = files.full_folder(self._folders)
            time.sleep(_DISK_LOOK_S)

    def full(self) -> str | None:
        return self._seen or files.full_folder(self._folders)
