"""The same action on many things at once, each on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(action: Callable[[T], R], items: Sequence[T], *, at_once: int = 32) -> list[R]:
    """Results in the order of the items; the first error is raised after all have ended."""
    if len(items) <= 1:
        return [action(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(at_once, len(items)), thread_name_prefix="styx") as pool:
        futures = [pool.submit(action, item) for item in items]
    return [future.result() for future in futures]


def within(action: Callable[[T], R], items: Sequence[T], timeout_s: float) -> list[R | None]:
    """Results in the order of the items, and None for those that were not there in time, whose threads are left alone.

    All items are begun at the same time. The action must not raise.
    """
    found: dict[int, R] = {}

    def work(index: int) -> None:
        found[index] = action(items[index])

    threads = [threading.Thread(target=work, args=(index,), name="styx", daemon=True) for index in range(len(items))]
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [found.get(index) for index in range(len(items))]
