"""The page of the task format, from the models that read it."""

from __future__ import annotations

from typing import Final

from styx.models.dag import JobGroup, Pipeline
from styx.models.executed import TABLE, Executed, Refused
from styx.models.storage import VolumeSpec
from styx.models.task import Task
from tools.reference import models

INTRODUCTION: Final = """# Task YAML

Every field that a task file may have. A key that is not listed is refused, with the line it stands on and the key that
was probably meant. `null` means "not given". A file of several documents is a [pipeline](#pipeline) or a
[job group](#jobgroup): the first document holds the header, each of the others is a [task](#task).
"""
REFUSALS: Final = """## What this release refuses to launch

The whole format is read and checked. `styx launch` refuses what would not be executed before anything is created,
naming the field and this reason.

| field | reason |
|---|---|
"""


def page() -> str:
    """The whole page."""
    tables = models.sections([Task, Pipeline, JobGroup, VolumeSpec])
    return f"{INTRODUCTION}\n{tables}\n{REFUSALS}{refusals()}"


def refusals() -> str:
    """Rows of the fields that are refused always, or in some places."""
    rows = []
    for name, status in TABLE.items():
        if isinstance(status, Refused) and not status.reason.startswith("is internal"):
            rows.append(f"| `{name}` | {status.reason} |\n")
        elif isinstance(status, Executed) and status.otherwise:
            rows.append(f"| `{name}` | in some places: {status.otherwise} |\n")
    return "".join(rows)
