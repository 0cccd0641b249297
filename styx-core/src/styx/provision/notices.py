"""What nodes heard from their cloud: that they will be taken away soon."""

from __future__ import annotations

import uuid
from typing import Final

from styx.provision.world import World
from styx.state.rows import ClusterRow

STEP: Final = "notice"


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
