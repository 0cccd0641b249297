"""Takes machines away and proves that they are gone. Used by down, by failed attempts and by sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from styx.driver import Node, NodeState, Place
from styx.errors import DeadlineExceeded, StyxError, TransientError
from styx.provision.world import World
from styx.state.rows import Attempt

T = TypeVar("T")

REMOVAL_DEADLINE_S = 600.0
"""Longest time that we watch a cloud take machines away."""

RELEASE_TRIES = 4
"""How often a release is repeated at the cloud's word before the listing is asked again, which would use up the one
request that some clouds allow in a second."""

ASK_AGAIN_S = 60.0
"""After this a machine that should be ending, and shows no sign of it, is asked to again: it may have been too new for
the cloud to know it, and one that is absent is no error."""

GONE = frozenset({NodeState.TERMINATED})


def living(nodes: Sequence[Node]) -> list[Node]:
    """Those that still exist, failed ones included: a failed machine may bill, unless its cloud says that it ended."""
    return [node for node in nodes if node.state not in GONE and not is_over(node)]


def is_over(node: Node) -> bool:
    """Whether a machine failed and its cloud has ended it."""
    return node.state is NodeState.FAILED and node.ended is not None


def hidden_until(world: World, attempts: Iterable[Attempt], lag_s: float) -> float:
    """Unix time until which a listing may not show what these attempts made.

    One that has not ended may have asked its cloud in the very moment in which its client died, which was just now.
    """
    return max(((each.ended_at or world.now()).timestamp() for each in attempts), default=0.0) + lag_s


def remove(
    world: World,
    place: Place,
    key: str,
    *,
    known: Sequence[Node] = (),
    not_before: float = 0.0,
    check: Callable[[], None] = lambda: None,
    deadline_s: float = REMOVAL_DEADLINE_S,
) -> None:
    """Terminate every node of a cluster in one place, wait until the cloud confirms it, then release what is left.

    Idempotent and resumable: it asks the cloud, not the memory, what exists.

    Args:
        world: What we act on.
        place: Where.
        key: The cluster key.
        known: Nodes that we remember, for clouds whose listings are late. One whose end the cloud has accepted is
            remembered no longer: a driver could not tell "not listed yet" from "not listed any more".
        not_before: Unix time before which an empty listing proves nothing (a create may still show up).
        check: Asked before each cloud call; raises when we may not act any more.
        deadline_s: Longest wait.

    Raises:
        StyxError: The cloud refuses; the message names what remains.
    """
    driver = world.provisioner(place.cloud)
    limits = driver.cloud.limits
    deadline = world.timestamp() + deadline_s
    asked: dict[str, float] = {}
    pause_s = 0.05
    while True:
        check()
        remembered = [node for node in known if node.id not in asked]
        alive = living(patiently(world, deadline, partial(driver.nodes, place, key, remembered)))
        todo = [node for node in alive if _is_due(node, asked, world.timestamp())]
        if todo:
            check()
            try:
                patiently(world, deadline, partial(driver.terminate, todo))
            except StyxError as error:
                left = _left(partial(driver.nodes, place, key, todo), todo)
                raise error.retold(f"{error.message}; still there: {_names(left)}") from None
            asked.update((node.id, world.timestamp()) for node in todo)
        elif not alive and world.timestamp() >= not_before:
            check()
            if _released(world, place, key, deadline):
                return
        if world.timestamp() > deadline:
            names = _names(alive) or "nothing listed yet"
            raise DeadlineExceeded(f"{place} has not confirmed the end of {key} in time; still there: {names}")
        world.sleep(min(pause_s, limits.min_poll_s))
        pause_s *= 2


def _is_due(node: Node, asked: Mapping[str, float], now: float) -> bool:
    if node.id not in asked:
        return True
    return node.state is not NodeState.STOPPING and now - asked[node.id] >= ASK_AGAIN_S


def _left(listing: Callable[[], Sequence[Node]], asked: Sequence[Node]) -> Sequence[Node]:
    """What is there after a removal that failed, perhaps for a part of the nodes only."""
    try:
        return living(listing()) or asked
    except StyxError:
        return asked


def _names(nodes: Sequence[Node]) -> str:
    return ", ".join(f"{node.id} ({node.state.value})" for node in nodes)


def _released(world: World, place: Place, key: str, deadline: float) -> bool:
    """Whether the release was carried out; else something may be in use by a machine that showed up late."""
    driver = world.provisioner(place.cloud)
    for _ in range(RELEASE_TRIES):
        try:
            driver.release(place, key)
        except TransientError as error:
            if world.timestamp() + error.retry_after_s > deadline:
                raise
            world.sleep(error.retry_after_s)
        else:
            return True
    return False


def patiently(world: World, deadline: float, action: Callable[[], T]) -> T:
    """Repeat a call while the cloud asks for patience."""
    pause_s = 0.5
    while True:
        try:
            return action()
        except TransientError as error:
            pause_s = max(error.retry_after_s, min(pause_s * 2, 20.0))
            if world.timestamp() + pause_s > deadline:
                raise
        world.sleep(pause_s)


def quietly(action: Callable[[], object]) -> StyxError | None:
    """The error of an action, instead of raising it; for clean-up that must not hide the first error."""
    try:
        action()
    except StyxError as error:
        return error
    return None
