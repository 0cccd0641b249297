"""The SSH config file of this installation, kept true whenever a cluster's nodes change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from styx.driver import Node, NodeState, Ssh
from styx.errors import StyxError
from styx.provision.request import pinned
from styx.provision.world import World
from styx.state.rows import ClusterRow

if TYPE_CHECKING:
    from styx.transport.ssh.configfile import Entry

_AWAY = (NodeState.STOPPED, NodeState.STOPPING, NodeState.TERMINATED, NodeState.FAILED)


@dataclass(frozen=True)
class SshSetup:
    """How plain `ssh CLUSTER` stands.

    Attributes:
        config: Our file.
        user_config: The user's.
        line: What has to be in the user's file, before its hosts.
        included: Whether it is.
    """

    config: Path
    user_config: Path
    line: str
    included: bool


def keep_true(world: World) -> None:
    """Write the file anew from the store. Costs a query where nothing is reached over SSH; never raises."""
    with contextlib.suppress(StyxError):
        _write(world, always=False)


def setup(world: World, *, apply: bool) -> SshSetup:
    """How `ssh CLUSTER` stands; with `apply`, the user's config file gets its line.

    Raises:
        LocalIOError: A file can't be read or written.
    """
    from styx.transport.ssh import configfile

    config = _write(world, always=True)
    user_config = world.hub.user_home / ".ssh" / "config"
    if apply:
        configfile.include(user_config, config)
    return SshSetup(config, user_config, configfile.include_line(config), configfile.is_included(user_config, config))


def _write(world: World, *, always: bool) -> Path:
    folder = world.store.home / "ssh"
    rows = [row for row in world.store.clusters(workspace=world.workspace) if any(_is_up(node) for node in row.nodes)]
    if not rows and not always and not (folder / "config").exists():
        return folder / "config"
    from styx.transport.ssh import configfile, keys

    entries = sorted(_entries(world, rows), key=lambda entry: len(entry.names) < 2)  # clusters before single nodes
    return configfile.write(folder, entries, keys.login_key(world.store.folders).path)


def _entries(world: World, rows: list[ClusterRow]) -> Iterator[Entry]:
    from styx.transport.ssh.configfile import Entry

    for row in rows:
        for node in row.nodes:
            reach = (pinned(world, node).reach or node.reach) if _is_up(node) else None
            if not isinstance(reach, Ssh):
                continue
            with contextlib.suppress(StyxError):
                route = world.hub.ssh.logins().route(reach)
                known = world.hub.ssh.logins().trust.expected(route[-1], f"{row.key}/{node.rank}")
                names = (row.name, f"{row.name}-0") if node.rank == 0 else (f"{row.name}-{node.rank}",)
                yield Entry(names, route, f"{row.key}-{node.rank}", known[0] if known else None)


def _is_up(node: Node) -> bool:
    return isinstance(node.reach, Ssh) and node.state not in _AWAY
