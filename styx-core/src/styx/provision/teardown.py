"""Stop, start and down: each committed as an intent first, resumable by the same command after any death."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from functools import partial

from styx.driver import Node, NodeState, Place
from styx.errors import DeadlineExceeded, StyxError, UnsupportedError, WrongState
from styx.provision import budgets, ledger
from styx.provision.claim import Claim, claimed
from styx.provision.removal import REMOVAL_DEADLINE_S, hidden_until, patiently, quietly, remove
from styx.provision.request import forget_keys
from styx.provision.steps import step
from styx.provision.world import World
from styx.state.rows import ClusterRow, ClusterState

PURGE_DEADLINE_S = 60.0
"""How long a cloud is asked before what may exist there is forgotten."""
WAIT_S = 900.0
"""Longest time that we watch machines stop or start."""

Quiesce = Callable[[ClusterRow], None]
"""Keeps the logs and ends what backends made, on nodes that still answer; never raises, has its own deadline."""


def operation(kind: str) -> str:
    """A fresh operation name."""
    return f"{kind}-{uuid.uuid4().hex[:12]}"


def places_tried(world: World, row: ClusterRow) -> list[Place]:
    """Every place where something of this cluster may exist."""
    places = [attempt.place for attempt in world.store.attempts(row.key) if attempt.state != "released"]
    if row.place is not None:
        places.append(row.place)
    return list(dict.fromkeys(places))


def down(
    world: World,
    row: ClusterRow,
    quiesce: Quiesce,
    *,
    purge: bool = False,
    deadline_s: float = REMOVAL_DEADLINE_S,
    only: Collection[ClusterState] | None = None,
) -> None:
    """End a cluster for good, in every place that was ever tried. Resumable; safe to repeat.

    Args:
        world: What we act on.
        row: The cluster.
        quiesce: Keeps the logs of nodes that still answer.
        purge: Forget the record even when something could not be removed; waits less for clouds that do not answer.
        deadline_s: How long each place may take.
        only: States in which it may be ended: another client may have taken it up since `row` was read.

    Raises:
        WrongState: It is in another state than those.
        StyxError: Something could not be removed; the record stays and says what remains.
    """
    with claimed(world, row) as claim:
        found = claim.row().state
        if found is ClusterState.TERMINATED:
            return
        if only is not None and found not in only:
            raise WrongState(f"{row.name} was left as it is: another client took it up, and it is {found} now")
        op = operation("down")
        row = claim.update(state=ClusterState.TERMINATING, note=None)
        world.tell(row.key, op, "intend", "done", f"end {row.name}")
        with step(world, row.key, op, "quiesce"):
            quiesce(row)
        try:
            with step(world, row.key, op, "remove"):
                _remove_everywhere(claim, row, min(deadline_s, PURGE_DEADLINE_S) if purge else deadline_s)
        except StyxError as error:
            claim.update(note=f"could not be removed: {error.message}")
            if not purge:
                raise
            world.tell(row.key, op, "forget", "note", f"forgotten, but it may still exist and bill: {error.message}")
        _forget(claim, op)


def _remove_everywhere(claim: Claim, row: ClusterRow, deadline_s: float) -> None:
    """Every place is tried, whatever the others say; the first error is raised at the end, naming all that remains."""
    world = claim.world
    failures: list[tuple[Place, StyxError]] = []
    open_attempts = [each for each in world.store.attempts(row.key) if each.state != "released"]
    for place in places_tried(world, row):
        try:
            lag_s = world.cloud(place.cloud).limits.listing_lag_s
            known = row.nodes if place == row.place else ()
            not_before = hidden_until(world, (each for each in open_attempts if each.place == place), lag_s)
            remove(world, place, row.key, known=known, not_before=not_before, check=claim.check, deadline_s=deadline_s)
        except StyxError as error:
            claim.check()
            failures.append((place, error))
            continue
        for attempt in world.store.attempts(row.key):
            if attempt.place == place and attempt.state != "released":
                world.store.update_attempt(attempt.id, {"state": "released"})

    if failures:
        _, first = failures[0]
        if len(failures) > 1:
            raise first.retold("; ".join(f"{place}: {error.message}" for place, error in failures))
        raise first


def _forget(claim: Claim, op: str) -> None:
    world = claim.world
    world.store.close_rates(claim.key, world.now())
    world.tell(claim.key, op, "forget", "done", f"{claim.row().name} is gone")
    claim.update(state=ClusterState.TERMINATED, ended_at=world.now(), nodes=(), usd_per_hour=None)
    quietly(lambda: forget_keys(world, claim.key))


def stop(world: World, row: ClusterRow, quiesce: Quiesce) -> None:
    """Stop a cluster's machines, disks kept.

    Raises:
        UnsupportedError: Its machines cannot be stopped.
        WrongState: It is not up, or half-made.
    """
    with claimed(world, row) as claim:
        row = claim.row()
        if row.state is ClusterState.STOPPED:
            return
        if row.state not in (ClusterState.UP, ClusterState.STOPPING, ClusterState.STARTING) or row.place is None:
            raise WrongState(f"{row.name} is {row.state} and cannot be stopped", hint=f"`styx down {row.name}` ends it")
        place = row.place
        driver = world.provisioner(place.cloud)
        offer = ledger.offer_of(row)
        features = (offer.features if offer else None) or driver.cloud.features
        if not (driver.can_stop and features.stop):
            raise UnsupportedError(
                f"{driver.cloud.display_name} cannot stop {row.name}'s machines", hint=f"`styx down {row.name}` ends it"
            )
        op = operation("stop")
        row = claim.update(state=ClusterState.STOPPING, note=None)
        world.tell(row.key, op, "intend", "done", f"stop {row.name}")
        with step(world, row.key, op, "quiesce"):
            quiesce(row)
        with step(world, row.key, op, "stop"):
            nodes = _await(claim, place, NodeState.STOPPED, driver.stop)
            claim.update(nodes=nodes, seen_at=world.now(), state=ClusterState.STOPPED)
            ledger.follow(world, row, nodes)


def start_nodes(claim: Claim, op: str) -> tuple[Node, ...]:
    """Start the machines of a stopped cluster and wait until they run; the caller brings the agents up.

    Raises:
        BudgetExceeded: A budget of the config refuses; nothing was started.
    """
    world, row = claim.world, claim.row()
    if row.place is None:
        raise WrongState(f"{row.name} was never made", hint=f"`styx down {row.name}`, then launch it again")
    place, driver = row.place, world.provisioner(row.place.cloud)
    if row.state is ClusterState.STOPPED:
        budgets.check(world, place.cloud, ledger.offered_usd_per_hour(row))
    row = claim.update(state=ClusterState.STARTING, note=None)
    world.tell(row.key, op, "intend", "done", f"start {row.name}")
    with step(world, row.key, op, "start"):
        nodes = _await(claim, place, NodeState.RUNNING, driver.start)
        claim.update(nodes=nodes, seen_at=world.now())
        ledger.follow(world, row, nodes)
    return nodes


def _await(claim: Claim, place: Place, goal: NodeState, act: Callable[[Sequence[Node]], object]) -> tuple[Node, ...]:
    """Act on those nodes that are not yet as wanted, until the cloud shows them all so."""
    world = claim.world
    driver = world.provisioner(place.cloud)
    deadline = world.timestamp() + WAIT_S
    asked: set[str] = set()
    pause_s = 0.05
    moving = NodeState.STOPPING if goal is NodeState.STOPPED else NodeState.PENDING
    while True:
        claim.check()
        row = claim.row()
        listed = patiently(world, deadline, partial(driver.nodes, place, row.key, row.nodes))
        nodes = [node for node in listed if node.state is not NodeState.TERMINATED]
        if len(nodes) < row.num_nodes:
            raise WrongState(
                f"{row.num_nodes - len(nodes)} of {row.name}'s {row.num_nodes} machines no longer exist",
                hint=f"`styx down {row.name}` ends the rest",
            )
        todo = [node for node in nodes if node.state not in (goal, moving) and node.id not in asked]
        if todo:
            claim.check()
            patiently(world, deadline, partial(act, todo))
            asked.update(node.id for node in todo)
        elif all(node.state is goal and (goal is NodeState.STOPPED or node.reach) for node in nodes):
            return tuple(sorted(nodes, key=lambda node: node.rank))
        if world.timestamp() > deadline:
            states = ", ".join(f"node {node.rank} is {node.state.value}" for node in nodes)
            raise DeadlineExceeded(f"{row.name}'s machines were not {goal.value} within {WAIT_S:g} s: {states}")
        world.sleep(min(pause_s, driver.cloud.limits.min_poll_s))
        pause_s *= 2
