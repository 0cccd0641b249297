"""The same action on many things at once, each on a thread of its own."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

INTERRUPTED_S: Final = 1.0
"""How long actions under way may take to end by themselves after a Ctrl-C."""


def in_parallel(action: Callable[[T], R], items: Iterable[T], *, at_once: int = 32) -> list[R]:
    """Results in the order of the items; the first error is raised after all have ended.

    Raises:
        KeyboardInterrupt: The user does not wait: what has not begun never will, and what does not end within a moment
            is left to itself, on threads that do not keep the process.
    """
    things = list(items)
    if len(things) <= 1:
        return [action(thing) for thing in things]
    done: dict[int, R] = {}
    failed: dict[int, BaseException] = {}
    left = deque(range(len(things)))

    def work() -> None:
        while True:
            try:
                index = left.popleft()
            except IndexError:
                return
            try:
                done[index] = action(things[index])
            except BaseException as error:  # noqa: BLE001 - raised below, where the caller is
                failed[index] = error

    threads = [threading.Thread(target=work, name="styx", daemon=True) for _ in range(min(at_once, len(things)))]
    for thread in threads:
        thread.start()
    signal.siginterrupt(signal.SIGINT, True)  # Polars, once imported, lets the system go on with waits after a Ctrl-C
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        left.clear()
        _join(threads, INTERRUPTED_S)
        raise
    if failed:
        raise failed[min(failed)]
    return [done[index] for index in range(len(things))]


def within(action: Callable[[T], R], items: Sequence[T], timeout_s: float) -> list[R | None]:
    """Results in the order of the items, and None for those that were not there in time, whose threads are left alone.

    All items are begun at the same time. The action must not raise.
    """
    found: dict[int, R] = {}

    def work(index: int) -> None:
        found[index] = action(items[index])

    threads = [threading.Thread(target=work, args=(index,), name="styx", daemon=True) for index in range(len(items))]
    for thread in threads:
        thread.start()
    _join(threads, timeout_s)
    return [found.get(index) for index in range(len(items))]


def _join(threads: Sequence[threading.Thread], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
