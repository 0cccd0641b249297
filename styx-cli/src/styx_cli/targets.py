"""Which clusters a command means: names, globs, or all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from styx.errors import NotFound, UsageError

if TYPE_CHECKING:
    from styx.api import Client, ClusterView


def is_glob(name: str) -> bool:
    """Whether a name is a pattern."""
    return any(char in name for char in "*?[")


def chosen(client: Client, names: Sequence[str] | None, *, every: bool) -> list[ClusterView]:
    """The clusters meant by an action, which must name them or say `--all`.

    Raises:
        UsageError: Neither or both were given.
        NotFound: A name or a glob matches nothing.
    """
    if every and names:
        raise UsageError("name clusters or give --all, not both")
    if not every and not names:
        raise UsageError("no cluster was named", hint="name one or more (globs work), or give --all")
    return matching(client, names or ())


def matching(client: Client, names: Sequence[str], *, refresh: bool = False) -> list[ClusterView]:
    """The clusters that match these names, all when none is given.

    Raises:
        NotFound: A name or a glob matches nothing.
    """
    known = client.names() if names else []
    for name in names:
        if not any(fnmatchcase(each, name) for each in known):
            raise no_cluster(name, known)
    return client.status(tuple(names), refresh=refresh)


@contextmanager
def suggesting(client: Client, name: str) -> Iterator[None]:
    """Let a call that knows ended clusters, too, say which name was probably meant.

    Raises:
        NotFound: With the nearest name as its hint, where there is one.
    """
    try:
        yield
    except NotFound as error:
        known = client.names()
        if name in known:
            raise
        raise NotFound(error.message, hint=no_cluster(name, known).hint) from None


def no_cluster(name: str, known: Sequence[str]) -> NotFound:
    """The error for a name that no cluster has."""
    from styx.models.suggest import closest

    if is_glob(name):
        return NotFound(f'no cluster matches "{name}"', hint="`styx status` lists the clusters")
    near = closest(name, known)
    hint = f'did you mean "{near}"?' if near else "`styx status` lists the clusters"
    return NotFound(f'there is no cluster called "{name}"', hint=hint)
