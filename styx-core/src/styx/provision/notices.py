"""What nodes heard from their cloud: that they will be taken away soon."""

from __future__ import annotations

import uuid
from typing import Final

from styx.errors import StyxError
from styx.provision import nodeup
from styx.provision.world import World
from styx.state.rows import ClusterRow, ClusterState

STEP: Final = "notice"
ASK_S: Final = 5.0
"""How long a node may take to say what it heard."""


def note(world: World, row: ClusterRow, rank: int, notice_at: float | None) -> str | None:
    """The news of one node in words, put on record when it is new; None when there is none."""
    if notice_at is None:
        return None
    words = f"the cloud will take node {rank} away"
    known = {
        (event.data.get("rank"), event.data.get("notice_at"))
        for event in world.store.events(row.key)
        if event.step == STEP
    }
    if (rank, notice_at) not in known:
        operation = f"notice-{uuid.uuid4().hex[:12]}"
        world.tell(row.key, operation, STEP, "note", words, rank=rank, notice_at=notice_at)
    return words


def ask(world: World, row: ClusterRow) -> ClusterRow:
    """The row, with a note when a node has heard that it will be taken away. Asks nodes only of clouds that warn."""
    if row.state is not ClusterState.UP or row.place is None or not row.nodes:
        return row
    try:
        if not world.provisioner(row.place.cloud).warns:
            return row
    except StyxError:
        return row
    ups = nodeup.answering(world, row, ASK_S)
    try:
        told = [words for up in ups if (words := note(world, row, up.node.rank, _heard(up)))]
    finally:
        nodeup.close_all(ups)
    return row.model_copy(update={"note": "; ".join(told)}) if told else row


def _heard(up: nodeup.Up) -> float | None:
    try:
        heard: float | None = up.agent.call("node.info", {}, timeout_s=ASK_S).get("notice_at")
    except StyxError:
        return None
    return heard
