"""Wakes waiting requests when a file in a folder grows or a job changes, without polling where inotify exists."""

from __future__ import annotations

import os
import struct
import sys
import threading
import time

from styx_agent.lean import libc

_IN_MODIFY = 0x2
_IN_CREATE = 0x100
_IN_MOVED_TO = 0x80
_IN_CLOEXEC = 0o2000000
_EVENT = struct.Struct("iIII")
_LONGEST_WAIT_S = 5.0
_FIRST_LOOK_S = 0.02
_SLOWEST_LOOK_S = 0.2
_BREATH_S = 0.005
"""Pause after a wake-up: a job that writes line by line must not wake its readers for each."""


class Watch:
    """Shared by all requests of an agent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakers: set[Waker] = set()
        self._fd = _open_inotify()
        if self._fd is not None:
            threading.Thread(target=self._read_events, name="inotify", daemon=True).start()

    def subscribe(self, folder: str) -> Waker:
        """A waker for changes of files directly in `folder`; use it in a `with`."""
        waker = Waker(self, folder)
        with self._lock:
            self._wakers.add(waker)
        return waker

    def poke(self) -> None:
        """Wake everybody: a job or a phase changed."""
        with self._lock:
            for waker in self._wakers:
                waker.event.set()

    def add(self, folder: str) -> int | None:
        """Start watching a folder; the kernel gives one number per folder. None: it has to be looked at."""
        if self._fd is None:
            return None
        mask = _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO
        with self._lock:
            number = int(libc("inotify_add_watch")(self._fd, os.fsencode(folder), mask))
        return number if number >= 0 else None

    def drop(self, waker: Waker) -> None:
        """Forget a waker, and the folder when it was the last one for it."""
        with self._lock:
            self._wakers.discard(waker)
            number = waker.number
            if number is not None and not any(other.number == number for other in self._wakers):
                libc("inotify_rm_watch")(self._fd, number)

    def _read_events(self) -> None:
        assert self._fd is not None
        while True:
            data = os.read(self._fd, 1 << 16)
            numbers = set()
            position = 0
            while position < len(data):
                number, _mask, _cookie, name_bytes = _EVENT.unpack_from(data, position)
                position += _EVENT.size + name_bytes
                numbers.add(number)
            with self._lock:
                for waker in self._wakers:
                    if waker.number in numbers or -1 in numbers:  # -1: the kernel's queue overflowed
                        waker.event.set()


class Waker:
    """One waiting request. Loop: `clear`, look, `wait`; a change between look and wait is not missed."""

    def __init__(self, watch: Watch, folder: str) -> None:
        self._watch = watch
        self._folder = folder
        self._look_s = _FIRST_LOOK_S
        self.event = threading.Event()
        self.number: int | None = None

    def __enter__(self) -> Waker:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.drop(self)

    def clear(self) -> None:
        """Forget earlier wake-ups."""
        if self.number is None:
            self.number = self._watch.add(self._folder)
        self.event.clear()

    def wait(self, timeout_s: float) -> None:
        """Return after a change, or sooner or later without one."""
        if self.number is not None:
            if self.event.wait(min(timeout_s, _LONGEST_WAIT_S)):
                time.sleep(min(timeout_s, _BREATH_S))
            return
        self.event.wait(min(timeout_s, self._look_s))
        self._look_s = min(self._look_s * 2, _SLOWEST_LOOK_S)


def _open_inotify() -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        fd = int(libc("inotify_init1")(_IN_CLOEXEC))
    except OSError:
        return None
    return fd if fd >= 0 else None
