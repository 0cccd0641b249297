"""One block of ports for each node: free, not promised to another node of this host, and out of everybody's way.

Below Linux's range for outgoing connections (32768 and up) and above the numbers that a user's own Ray takes by itself
(6379, 8265, 10001 to 19999, 52365).
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import socket
import time
from typing import Dict, Iterable, List, NamedTuple, Set

from .layout import CLAIM, Layout, NodeFailure, private_folder, read_json, short_folder, write_json

FIRST, LAST, SIZE = 20000, 32000, 64
NAMES = ("gcs", "node_manager", "object_manager", "runtime_env_agent", "metrics", "agent_http", "agent_grpc", "client")
OWN_S = 15.0
"""How long a node that shall keep its block waits for it: what was killed there may hold a port for a moment longer."""
WORKERS = SIZE - len(NAMES)
"""Worker ports of a node: one for each job that runs at the same time, and on rank 0 one more for its coordinator."""


class Claim(NamedTuple):
    """A node's claim on a block of ports; it lies in its short temporary folder `temp`."""

    temp: str
    root: str
    key: str
    base: int


def block(base: int) -> Dict[str, int]:
    """The meaning of each port of the block that begins at `base`."""
    named = {name: base + number for number, name in enumerate(NAMES)}
    return {"base": base, **named, "worker_min": base + len(NAMES), "worker_max": base + SIZE - 1}


def candidates(claimed: Iterable[int], first: int) -> List[int]:
    """Every block that nobody claimed, beginning with the one at or after `first`."""
    taken: Set[int] = set(claimed)
    every = list(range(FIRST, LAST - SIZE + 1, SIZE))
    start = next((number for number, base in enumerate(every) if base >= first), 0)
    return [base for base in every[start:] + every[:start] if base not in taken]


def reserve(layout: Layout, ip: str, key: str, keep: bool = True) -> Dict[str, int]:
    """Choose a block for this node of the cluster `key` and claim it. A node that has one keeps it while it is free.

    Args:
        layout: This node's.
        ip: Where the ports must be free.
        key: The cluster.
        keep: False: take another block than last time. The others may hold connections that never learnt of this
            node's end, and would use them again for the same address.

    Raises:
        NodeFailure: No block is free.
    """
    private_folder(layout.temp)
    if keep:
        _await_own(layout, ip)
    lock = os.open(short_folder(), os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mine = read_json(layout.ports).get("base")
        for claim in claims():
            if not os.path.isdir(claim.root):  # its node was removed without being asked to tidy up
                shutil.rmtree(claim.temp, ignore_errors=True)
        taken = [claim.base for claim in claims() if claim.root != layout.root]
        order = candidates(taken, random.randrange(FIRST, LAST))  # noqa: S311 - spreads, hides nothing
        if mine in order and keep:
            order.insert(0, mine)
        elif mine in order:
            order.append(order.pop(order.index(mine)))
        for base in order:
            chosen = block(base)
            # Coordinators of running jobs outlive a restart of Ray, and theirs are among the worker ports. Ray looks
            # for a free one by itself, and a head that moved would leave the other nodes behind.
            size = len(NAMES) if base == mine else SIZE
            if _all_free(ip, base, size):
                write_json(layout.claim, {**chosen, "root": layout.root, "key": key})
                write_json(layout.ports, chosen)
                return chosen
    finally:
        os.close(lock)
    raise NodeFailure("no %d ports in a row are free between %d and %d on this node" % (SIZE, FIRST, LAST))


def _await_own(layout: Layout, ip: str) -> None:
    """Until the node's own block can be had again. A head that moved would leave the other nodes at its old address."""
    mine = read_json(layout.ports).get("base")
    give_up = time.monotonic() + OWN_S
    while isinstance(mine, int) and not _all_free(ip, mine, len(NAMES)) and time.monotonic() < give_up:
        time.sleep(0.1)


def claims() -> List[Claim]:
    """What this user's nodes on this host have claimed."""
    folder = short_folder()
    try:
        temps = [os.path.join(folder, name) for name in os.listdir(folder) if name.startswith("r-")]
    except OSError:
        return []
    found = []
    for temp in temps:
        said = read_json(os.path.join(temp, CLAIM))
        if isinstance(said.get("base"), int):
            found.append(Claim(temp, str(said.get("root")), str(said.get("key")), said["base"]))
    return found


def _all_free(ip: str, base: int, size: int) -> bool:
    return all(_free(ip, port) for port in range(base, base + size))


def _free(ip: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError:
            return False
    return True
