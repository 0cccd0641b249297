"""How one gang of nodes comes up in one place: a pure state machine. No I/O; the caller performs the actions.

`decide(gang, seen, now)` is told what was last observed and answers with the next action. All or nothing: it ends in
`Ready` with exactly `count` running nodes, or in `Fail`, after which the caller removes whatever exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from styx import errors
from styx.driver import Node, NodeState, Problem
from styx.errors import (
    AmbiguousError,
    CapacityError,
    CloudError,
    DeadlineExceeded,
    DriverError,
    StyxError,
    TransientError,
)

TROUBLE_S = 300.0
"""How long a cloud may answer with nothing but transient errors, or lose the reply to every create, before the next
place is tried."""
LONGEST_BACKOFF_S = 20.0
"""Longest pause that we choose ourselves between two such answers; the cloud may ask for more."""


@dataclass(frozen=True)
class Gang:
    """Where one attempt stands.

    Attributes:
        count: How many nodes are wanted.
        deadline: Unix time at which patience ends, unless the cloud asks for more.
        limit: Unix time that no patience passes.
        poll_s: Pause between two looks.
        settle_until: Set after a lost reply: until then the listing is asked, before anything is made again.
        trouble_since: Unix time of the first of an unbroken row of transient errors.
        troubles: How many there were.
        lost: The first of an unbroken row of lost replies after which no machine was seen, and its Unix time.
    """

    count: int
    deadline: float
    limit: float
    poll_s: float = 1.0
    settle_until: float | None = None
    trouble_since: float | None = None
    troubles: int = 0
    lost: tuple[AmbiguousError, float] | None = None


@dataclass(frozen=True)
class Made:
    """A create answered with these nodes."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Listed:
    """A listing answered with these nodes of the request."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Raised:
    """A call raised."""

    error: StyxError


Seen = Made | Listed | Raised | None
"""None before the first call."""


@dataclass(frozen=True)
class Create:
    """Call create, after a pause."""

    after_s: float = 0.0


@dataclass(frozen=True)
class List:
    """List the nodes of the request, after a pause."""

    after_s: float = 0.0


@dataclass(frozen=True)
class Ready:
    """All nodes run and can be reached."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Fail:
    """The attempt is over."""

    error: StyxError


Action = Create | List | Ready | Fail


def decide(gang: Gang, seen: Seen, now: float) -> tuple[Gang, Action]:
    """The next action of an attempt."""
    if seen is None:
        return gang, Create()
    if isinstance(seen, Raised):
        return _after_error(gang, seen.error, now)
    gang = replace(gang, trouble_since=None, troubles=0, lost=None if seen.nodes else gang.lost)
    if isinstance(seen, Listed) and len(seen.nodes) < gang.count:
        if gang.settle_until is not None and now < gang.settle_until:
            return gang, List(gang.poll_s)
        return _again(replace(gang, settle_until=None), now, gang.poll_s if seen.nodes else 0.0)
    return _after_nodes(replace(gang, settle_until=None), seen.nodes, now)


def _after_error(gang: Gang, error: StyxError, now: float) -> tuple[Gang, Action]:
    if isinstance(error, AmbiguousError):
        return _after_lost_reply(gang, error, now)
    if isinstance(error, TransientError):
        return _after_trouble(gang, error, now)
    return gang, Fail(error)


def _after_lost_reply(gang: Gang, error: AmbiguousError, now: float) -> tuple[Gang, Action]:
    """Look for the machines first; a cloud that loses every reply and shows no machine is left."""
    first, since = gang.lost or (error, now)
    if now - since > TROUBLE_S:
        words = f"for {now - since:.0f} s the cloud's every answer to a create was lost, and no machine appeared"
        return gang, Fail(DriverError(f"{words}: {first.message}", vendor=first.vendor))
    settled = now + error.settle_s
    deadline = max(gang.deadline, settled + gang.poll_s)
    return replace(gang, settle_until=settled, deadline=deadline, lost=(first, since)), List()


def _after_trouble(gang: Gang, error: TransientError, now: float) -> tuple[Gang, Action]:
    """The same call again, with growing pauses, as long as the cloud's trouble does not last too long."""
    since = gang.trouble_since if gang.trouble_since is not None else now
    if now - since > TROUBLE_S:
        words = f"{gang.troubles + 1} times in {now - since:.0f} s the cloud said that it can't now: {error.message}"
        return gang, Fail(DriverError(words, vendor=error.vendor, created=error.created))
    backoff_s = min(0.1 * 2 ** min(gang.troubles, 10), LONGEST_BACKOFF_S)
    gang = replace(gang, trouble_since=since, troubles=gang.troubles + 1)
    if gang.settle_until is not None:
        return _within(gang, now, List(max(error.retry_after_s, backoff_s, gang.poll_s)), error)
    return _within(gang, now, Create(max(error.retry_after_s, backoff_s)), error)


def _after_nodes(gang: Gang, nodes: tuple[Node, ...], now: float) -> tuple[Gang, Action]:
    for node in nodes:
        if node.state in (NodeState.FAILED, NodeState.TERMINATED, NodeState.STOPPED, NodeState.STOPPING):
            return gang, Fail(why_ended(node))
    if ready := whole(nodes, gang.count):
        return gang, Ready(ready)
    asked = [now + node.waiting.patience_s for node in nodes if node.waiting is not None]
    patient = replace(gang, deadline=min(max([gang.deadline, *asked]), gang.limit))
    return _again(patient, now, gang.poll_s)


def whole(nodes: Sequence[Node], count: int) -> tuple[Node, ...] | None:
    """One node for each rank, in order, that runs and can be reached; None while a rank has none.

    Of two of a rank, which a create that ran twice leaves, the first is taken: the other is a stray for `sweep`.
    """
    up = {node.rank: node for node in reversed(nodes) if node.state is NodeState.RUNNING and node.reach is not None}
    return tuple(up[rank] for rank in range(count)) if up.keys() >= set(range(count)) else None


def _again(gang: Gang, now: float, after_s: float) -> tuple[Gang, Action]:
    return _within(gang, now, Create(after_s), None)


def _within(gang: Gang, now: float, action: Create | List, cause: StyxError | None) -> tuple[Gang, Action]:
    if now + action.after_s <= min(gang.deadline, gang.limit):
        return gang, action
    reason = f": {cause.message}" if cause else ""
    return gang, Fail(DeadlineExceeded(f"the machines were not running before the deadline{reason}"))


def why_ended(node: Node) -> CloudError:
    """The typed error of a node that ended or failed after the cloud had accepted it."""
    if node.problem is not None:
        return as_error(node.problem)
    cause = f" ({node.ended.cause})" if node.ended else ""
    return CapacityError(f"node {node.rank} was {node.state.value}{cause} before it could be used")


def as_error(problem: Problem) -> CloudError:
    """The exception that a stored problem names."""
    kind: type[CloudError] = getattr(errors, problem.error)
    return kind(problem.message, vendor=errors.VendorDetail(code=problem.code))
