"""Styx: run AI and batch work on any cloud.

`import styx` loads nothing but this file; each name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from styx.models import Resources, Task
    from styx.verbs import autostop, cancel, down, exec, launch, logs, queue, start, status, stop, wait

_HOMES = {
    "Resources": "styx.models",
    "Task": "styx.models",
    "autostop": "styx.verbs",
    "cancel": "styx.verbs",
    "down": "styx.verbs",
    "exec": "styx.verbs",
    "launch": "styx.verbs",
    "logs": "styx.verbs",
    "queue": "styx.verbs",
    "start": "styx.verbs",
    "status": "styx.verbs",
    "stop": "styx.verbs",
    "wait": "styx.verbs",
}

__all__ = [
    "Resources",
    "Task",
    "autostop",
    "cancel",
    "down",
    "exec",
    "launch",
    "logs",
    "queue",
    "start",
    "status",
    "stop",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'styx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
