"""The steps of every operation, in their order.

The one table that the engine, `styx why`, the documentation and the kill tests read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from styx.errors import StyxError
from styx.provision.world import World

LAUNCH: Final = {
    "intend": "the cluster and its key are committed",
    "create": "machines are made, place by place in the plan's order",
    "reach": "a way to every node is open",
    "bootstrap": "every node's agent runs and knows its rank; several nodes form a Ray cluster",
    "contain": "every node has a container of the task's docker image, where there is one",
    "sync": "workdir and file mounts are on every node",
    "submit": "the job is in the queue of rank 0: from here on it needs no client",
    "setup": "the job's set-up ran on every node",
}
"""A launch. `setup` is a part of the job, so it comes after `submit`: the client may go away during it."""

STOP: Final = {
    "intend": "the stop is committed",
    "quiesce": "jobs are ended, logs kept",
    "stop": "the machines are stopped, and seen to be",
}

START: Final = {
    "intend": "the start is committed",
    "start": "the machines run again",
    "reach": LAUNCH["reach"],
    "bootstrap": LAUNCH["bootstrap"],
}

DOWN: Final = {
    "intend": "the end is committed",
    "quiesce": "logs are kept",
    "remove": "the machines are gone, and seen to be, in every place that was ever tried",
    "forget": "the record becomes history",
}

OPERATIONS: Final = {"launch": LAUNCH, "stop": STOP, "start": START, "down": DOWN}
"""Every operation with its steps."""


@contextmanager
def step(
    world: World, key: str, operation: str, name: str, message: str = "", seconds: dict[str, float] | None = None
) -> Iterator[None]:
    """Store that a step started, and how it ended; adds what it took to `seconds`."""
    world.tell(key, operation, name, "started", message)
    begun = time.monotonic()
    try:
        yield
    except (StyxError, KeyboardInterrupt) as error:
        world.tell(key, operation, name, "failed", str(error) or "stopped by the user")
        raise
    took_s = time.monotonic() - begun
    if seconds is not None:
        seconds[name] = seconds.get(name, 0.0) + took_s
    world.tell(key, operation, name, "done", seconds=round(took_s, 3))
