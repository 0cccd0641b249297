"""The steps of every operation, in their order.

The one table that the engine, `styx why`, the documentation and the kill tests read.
"""

from __future__ import annotations

from typing import Final

LAUNCH: Final = {
    "intend": "the cluster and its key are committed",
    "create": "machines are made, place by place in the plan's order",
    "reach": "a way to every node is open",
    "bootstrap": "every node's agent runs and knows its rank; several nodes form a Ray cluster",
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
