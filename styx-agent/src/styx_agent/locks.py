"""File locks that live as long as a process: the way to know, without polling, that it has ended.

A lock is taken by whoever starts the process and handed to it as an open file; the kernel lets go when the last
holder is dead, however it died. Neither a reused process id nor a stale file can fool this.
"""

from __future__ import annotations

import fcntl
import os
import time


def take(path: str, *, block: bool) -> int | None:
    """The open, locked file; None when another holds the lock and `block` is false.

    Raises:
        OSError: The file cannot be made.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd


def take_within(path: str, timeout_s: float) -> int | None:
    """Like `take`, but gives up after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        fd = take(path, block=False)
        if fd is not None or time.monotonic() >= deadline:
            return fd
        time.sleep(0.02)


def is_held(path: str) -> bool:
    """Whether somebody holds the lock now."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def wait_free(path: str) -> None:
    """Return as soon as nobody holds the lock. A missing file is free."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)
