"""The engine's side of the contract, in small: repeat, wait on the vendor's clock, give up in the end."""

from __future__ import annotations

from collections.abc import Sequence

from styx.driver import Node, NodeRequest, NodeState, Place
from styx.errors import TransientError
from styx.testing.conformance.harness import AnyDriver, Harness

STEPS = 60
STEP_S = 10.0
ENDED = frozenset({NodeState.TERMINATED, NodeState.FAILED})


def launch(harness: Harness, driver: AnyDriver, request: NodeRequest) -> list[Node]:
    """Repeat `create` until no node is pending, as the engine does, and return the nodes."""
    for _ in range(STEPS):
        try:
            nodes = list(driver.create(request))
        except TransientError as error:
            harness.advance(error.retry_after_s)
            continue
        if nodes and not any(node.state is NodeState.PENDING for node in nodes):
            return nodes
        harness.advance(max(STEP_S, driver.limits.min_poll_s))
    raise AssertionError(f"create still reports pending nodes after {STEPS} repeats over {STEPS * STEP_S:.0f} s")


def accepted(harness: Harness, driver: AnyDriver, request: NodeRequest) -> list[Node]:
    """Repeat `create` only until the vendor has accepted the nodes, whatever their state."""
    for _ in range(STEPS):
        try:
            nodes = list(driver.create(request))
        except TransientError as error:
            harness.advance(error.retry_after_s)
            continue
        if len(nodes) == request.count:
            return nodes
        harness.advance(driver.limits.min_poll_s)
    raise AssertionError(f"create does not name {request.count} nodes after {STEPS} repeats")


def up(harness: Harness, driver: AnyDriver, request: NodeRequest) -> list[Node]:
    """Running nodes that every listing shows."""
    nodes = launch(harness, driver, request)
    states = [node.state.value for node in nodes]
    assert all(node.state is NodeState.RUNNING for node in nodes), f"nodes should run by now, but are {states}"
    harness.advance(driver.limits.listing_lag_s)
    return nodes


def release(harness: Harness, driver: AnyDriver, place: Place, cluster: str) -> None:
    """Repeat `release` while it asks for patience."""
    for _ in range(STEPS):
        try:
            return driver.release(place, cluster)
        except TransientError as error:
            harness.advance(max(error.retry_after_s, 1.0))
    raise AssertionError(f"release still asks for patience after {STEPS} repeats")


def down(harness: Harness, driver: AnyDriver, nodes: Sequence[Node]) -> None:
    """Terminate, wait until the vendor shows none of them, and release."""
    driver.terminate(nodes)
    gone = {node.id for node in nodes}
    for _ in range(STEPS):
        if not gone & truth(harness):
            break
        harness.advance(STEP_S)
    left = gone & truth(harness)
    assert not left, f"terminate left machines behind: {sorted(left)}"
    for place, cluster in {(node.place, node.cluster) for node in nodes}:
        release(harness, driver, place, cluster)


def truth(harness: Harness) -> set[str]:
    """Ids of all machines in the account, by the vendor's word."""
    return {machine.id for machine in harness.machines()}


def ids(nodes: Sequence[Node]) -> list[str]:
    """Ids in order, repeats kept."""
    return sorted(node.id for node in nodes)


def living(nodes: Sequence[Node]) -> list[Node]:
    """Nodes that have not ended."""
    return [node for node in nodes if node.state not in ENDED]


def several(driver: AnyDriver) -> int:
    """How many nodes a gang of the suite has: three where the cloud can."""
    return min(3, driver.limits.max_nodes)
