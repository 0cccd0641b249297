"""Which cluster a name means: a fresh one for a launch, or live ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, count
from typing import TYPE_CHECKING

from styx.errors import NotFound, UsageError
from styx.provision.world import World
from styx.state.rows import ClusterRow

if TYPE_CHECKING:
    from styx.models import Task
    from styx.provision.options import LaunchOptions


def fresh_name(world: World, task: Task) -> str:
    """A name that no live cluster has: the task's own, with a number when it is taken."""
    taken = {row.name for row in world.store.clusters(workspace=world.workspace)}
    base = task.name or f"styx-{re.sub('[^A-Za-z0-9]+', '-', world.user).strip('-') or 'user'}"
    names = chain([base], (f"{base}-{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def name_for(world: World, task: Task, options: LaunchOptions) -> str:
    """The cluster that is to be made or re-used: the one asked for, or a fresh one.

    Raises:
        UsageError: That can't be a name.
    """
    if options.cluster is None:
        return fresh_name(world, task)
    from styx.models.base import Problem
    from styx.models.task import check_name

    try:
        return check_name(options.cluster)
    except Problem as problem:
        raise UsageError(
            f"a cluster's name {problem.message}, not {options.cluster!r}", hint=problem.suggestion
        ) from None


def find(world: World, name: str) -> ClusterRow:
    """A live cluster by name.

    Raises:
        NotFound: There is none; suggests a near name.
    """
    row = world.store.cluster(name, world.workspace)
    if row is not None:
        return row
    from styx.models.suggest import did_you_mean

    near = did_you_mean(name, [each.name for each in world.store.clusters(workspace=world.workspace)])
    raise NotFound(f"there is no cluster called {name}", hint=near or "`styx status` lists the clusters")


def names_matching(world: World, patterns: Sequence[str]) -> list[ClusterRow]:
    """Live clusters whose names match any of the globs; a plain name must exist."""
    from fnmatch import fnmatchcase

    live = world.store.clusters(workspace=world.workspace)
    chosen: dict[str, ClusterRow] = {}
    for pattern in patterns:
        if any(mark in pattern for mark in "*?["):
            chosen.update({row.key: row for row in live if fnmatchcase(row.name, pattern)})
        else:
            row = find(world, pattern)
            chosen[row.key] = row
    return list(chosen.values())
