"""What a cluster's record should say, given what the cloud shows: a pure decision, and the runner that asks the cloud.

A listing that failed is never read as empty, and a machine that is merely late in a listing is not called lost.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from styx.driver import Node, NodeState
from styx.errors import DeadlineExceeded, StyxError
from styx.provision import hearing, ledger
from styx.provision.claim import Claim, claimed
from styx.provision.hearing import Answer
from styx.provision.removal import patiently, quietly, remove
from styx.provision.request import forget_keys
from styx.provision.world import World, holder_is_dead
from styx.state.rows import ClusterRow, ClusterState

LOOK_DEADLINE_S = 10.0
"""How long a cloud may put off a look at one cluster."""
SETTLED = frozenset({ClusterState.UP, ClusterState.STOPPED, ClusterState.LOST})
"""States in which nobody is at work on the cluster."""


@dataclass(frozen=True)
class Verdict:
    """What the record should say.

    Attributes:
        state: The state.
        note: Why, when that needs saying.
        finish: True when every machine is gone by its own lease: the rest of the cluster can be released.
    """

    state: ClusterState
    note: str | None = None
    finish: bool = False


def judge(row: ClusterRow, nodes: Sequence[Node], *, abandoned: bool) -> Verdict:
    """The verdict on one cluster.

    Args:
        row: What we remember.
        nodes: What the cloud shows of it now.
        abandoned: True when the client that was at work on it is gone.
    """
    by_rank = {node.rank: node for node in nodes}
    seen = Counter(by_rank[rank].state if rank in by_rank else NodeState.TERMINATED for rank in range(row.num_nodes))
    if row.state in SETTLED:
        return _settled(row, by_rank, seen)
    if not abandoned:
        return Verdict(row.state, row.note)
    if row.state is ClusterState.STOPPING and seen[NodeState.STOPPED] == row.num_nodes:
        return Verdict(ClusterState.STOPPED, "the stop was finished after its client had gone")
    return Verdict(row.state, _interrupted(row, seen))


def _settled(row: ClusterRow, by_rank: dict[int, Node], seen: Counter[NodeState]) -> Verdict:
    total = row.num_nodes
    if seen[NodeState.RUNNING] + seen[NodeState.UNREACHABLE] == total:
        if row.state is ClusterState.UP:
            return Verdict(ClusterState.UP, row.note)
        return Verdict(ClusterState.UP, "started from outside")
    if seen[NodeState.STOPPED] + seen[NodeState.STOPPING] == total:
        if row.state is ClusterState.STOPPED:
            return Verdict(ClusterState.STOPPED, row.note)
        return Verdict(ClusterState.STOPPED, _cause(by_rank, "stopped by its lease or from outside"))
    gone = seen[NodeState.TERMINATED] + seen[NodeState.FAILED]
    if gone == total:
        wanted = all(
            rank in by_rank and by_rank[rank].ended is not None and by_rank[rank].ended.cause == "requested"  # type: ignore[union-attr] # tested on the left
            for rank in range(total)
        )
        if wanted:
            return Verdict(ClusterState.LOST, "ended by its lease", finish=True)
        if not by_rank and row.lease.get("action") == "down" and may_have_ended(row):
            # Some clouds keep no word of machines that are gone: this is what the lease was to bring about.
            return Verdict(ClusterState.LOST, "gone, as its lease allowed", finish=True)
        return Verdict(ClusterState.LOST, _cause(by_rank, "its machines are gone"))
    counts = ", ".join(f"{count} {state.value}" for state, count in sorted(seen.items()))
    return Verdict(ClusterState.LOST, _cause(by_rank, f"of its {total} nodes: {counts}"))


def _cause(by_rank: dict[int, Node], otherwise: str) -> str:
    for rank, node in sorted(by_rank.items()):
        if node.ended is not None and node.ended.cause not in ("unknown", "requested"):
            words = f": {node.ended.message}" if node.ended.message else ""
            return f"node {rank} was {node.ended.cause}{words}"
        if node.problem is not None:
            return f"node {rank} failed: {node.problem.message}"
    return otherwise


def _interrupted(row: ClusterRow, seen: Counter[NodeState]) -> str:
    words = {
        ClusterState.INIT: "launch",
        ClusterState.STOPPING: "stop",
        ClusterState.STARTING: "start",
        ClusterState.TERMINATING: "down",
    }
    counts = ", ".join(
        f"{count} {state.value}" for state, count in sorted(seen.items()) if state is not NodeState.TERMINATED
    )
    return f"the {words[row.state]} was interrupted ({counts or 'no machine exists'}); run it again, or `styx down`"


def may_have_ended(row: ClusterRow) -> bool:
    """Whether its machines may have stopped or ended by themselves since they were last seen."""
    limits = ("idle_s", "max_age_s", "max_usd", "dead_man_s")
    return row.state is ClusterState.UP and any(row.lease.get(name) is not None for name in limits)


def refresh(world: World, row: ClusterRow) -> ClusterRow:
    """Ask the cloud and write down what it says; a cluster that somebody works on is left alone.

    Returns the row as it is stored afterwards. A cloud that can't be read leaves the row, with a note.
    """
    return look(world, row, hear=False)[0]


def look(world: World, row: ClusterRow, *, hear: bool = True) -> tuple[ClusterRow, tuple[Answer, ...]]:
    """The same, and with `hear` what the nodes say themselves; a running node that does not answer is UNREACHABLE."""
    if row.state is ClusterState.TERMINATED or row.place is None:
        return row, ()
    if row.holder and not holder_is_dead(row.holder) and row.lease_until > world.timestamp():
        return row, ()
    try:
        driver = world.provisioner(row.place.cloud)
        listing = partial(driver.nodes, row.place, row.key, row.nodes)
        nodes = tuple(patiently(world, world.timestamp() + LOOK_DEADLINE_S, listing))
    except StyxError as error:
        return row.model_copy(update={"note": f"could not be read: {error.message}"}), ()
    lag_s = driver.cloud.limits.listing_lag_s
    if len(nodes) < row.num_nodes and (world.now() - row.created_at).total_seconds() < lag_s:
        return row, ()
    verdict = judge(row, nodes, abandoned=True)
    ledger.follow(world, row, nodes)
    nodes = _with_memory(row, nodes)
    is_up = verdict.state is ClusterState.UP
    answers = hearing.hear(world, nodes) if hear and is_up else ()
    silent = hearing.silent_of(world.store.events(row.key))
    heard = hearing.merged(nodes, answers, silent if is_up else {}, world.timestamp())
    if is_up and (silent or heard.note):
        verdict = replace(verdict, note=heard.note if answers else row.note)
    try:
        with claimed(world, row, wait_s=5.0) as claim:
            if claim.row().state is not row.state:
                return claim.row(), ()
            written = _write_down(claim, verdict, heard.nodes)
            hearing.put_on_record(world, row, heard, silent)
            return written, answers
    except DeadlineExceeded:
        return world.store.cluster_by_key(row.key) or row, ()  # somebody began to work on it just now


def _write_down(claim: Claim, verdict: Verdict, nodes: tuple[Node, ...]) -> ClusterRow:
    world, before = claim.world, claim.row().state
    row = claim.update(state=verdict.state, note=verdict.note, nodes=nodes, seen_at=world.now())
    if verdict.state is not before and not verdict.finish:
        world.tell(row.key, f"look-{uuid.uuid4().hex[:12]}", "seen", "note", f"{verdict.state}: {verdict.note}")
    if verdict.finish and row.place is not None:
        if error := quietly(lambda: _release(claim, row, verdict.note)):
            return claim.update(note=f"{verdict.note}, but what is left could not be released: {error.message}")
        row = claim.update(state=ClusterState.TERMINATED, ended_at=world.now(), nodes=())
        quietly(lambda: forget_keys(world, row.key))
    return row


def _release(claim: Claim, row: ClusterRow, note: str | None) -> None:
    """Give back what the cloud keeps of a cluster whose machines have ended themselves."""
    world, place = claim.world, row.place
    assert place is not None
    remove(world, place, row.key, known=row.nodes, check=claim.check)
    world.store.close_rates(row.key, world.now())
    for attempt in world.store.attempts(row.key):
        if attempt.place == place and attempt.state != "released":
            world.store.update_attempt(attempt.id, {"state": "released"})
    world.tell(row.key, f"lease-{uuid.uuid4().hex[:12]}", "forget", "done", f"{row.name} {note}")


def _with_memory(row: ClusterRow, nodes: Sequence[Node]) -> tuple[Node, ...]:
    """What is listed; a stopped or running node keeps our way to it when the listing names none."""
    reach = {node.id: node.reach for node in row.nodes}
    return tuple(
        node if node.reach is not None else node.model_copy(update={"reach": reach.get(node.id)})
        for node in sorted(nodes, key=lambda node: node.rank)
    )
