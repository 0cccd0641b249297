"""Makes the nodes of a cluster: one attempt per place, in the plan's order, recorded before the cloud is called."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from styx.driver import Node, NodeRequest, NodeState
from styx.errors import CapacityError, CloudError, NoPlaceLeft, StyxError
from styx.optimizer.problem import Choice
from styx.provision import failover, gang, ledger
from styx.provision.claim import Claim
from styx.provision.removal import quietly, remove
from styx.provision.world import World
from styx.state.rows import Attempt, ClusterState, Refusal

CREATE_DEADLINE_S = 900.0
"""How long one gang may take to run, unless the cloud asks for more patience."""
CREATE_LIMIT_S = 6 * 3600.0
"""What no cloud's request for patience passes."""


@dataclass(frozen=True)
class Wanted:
    """What every attempt of a launch has in common."""

    operation: str
    count: int
    ssh_public_key: str | None = None
    ports: tuple[int, ...] = ()
    disk_gib: float | None = None
    disk_tier: str | None = None
    labels: dict[str, str] | None = None


def make_nodes(claim: Claim, choices: Sequence[Choice], wanted: Wanted) -> tuple[Choice, tuple[Node, ...]]:
    """Try the choices in order until one gives all nodes; what a failed attempt made is removed before the next.

    Raises:
        NoPlaceLeft: All refused; the message is a table of the reasons.
        UnsupportedError: A refusal that no other place can mend.
    """
    reasons: list[tuple[Choice, StyxError]] = []
    left = tuple(choices)
    while left:
        choice = left[0]
        try:
            return choice, _attempt(claim, choice, wanted)
        except StyxError as error:
            scope = failover.scope_of(error)
            reasons.append((choice, error))
            _remember(claim.world, choice, error)
            if scope is None:
                raise
            left = failover.remaining(left, choice, scope)
    raise NoPlaceLeft(_table(reasons), hint="see `styx why` for the clouds' own words, or use --retry-until-up")


def _attempt(claim: Claim, choice: Choice, wanted: Wanted) -> tuple[Node, ...]:
    world, row = claim.world, claim.row()
    token = uuid.uuid4().hex
    started = world.now()
    attempt = Attempt(
        cluster=row.key,
        operation=wanted.operation,
        token=token,
        place=choice.place,
        offer=choice.offer.model_dump(mode="json"),
        count=wanted.count,
        started_at=started,
    )
    attempt_id = world.store.add_attempt(attempt, epoch=claim.epoch)
    what = f"{wanted.count} x {choice.offer.instance_type} in {choice.place}"
    world.tell(row.key, wanted.operation, "attempt", "started", what, attempt=attempt_id)
    try:
        nodes = _drive(claim, choice, _request(world, row.key, token, choice, wanted))
    except (StyxError, KeyboardInterrupt) as error:
        _close_failed(claim, attempt_id, choice, wanted, error)
        raise
    offer = choice.offer.model_dump(mode="json")
    row = claim.update(
        place=choice.place, nodes=nodes, seen_at=world.now(), offer=offer, usd_per_hour=choice.usd_per_hour
    )
    ledger.follow(world, row, nodes)
    world.store.update_attempt(attempt_id, {"state": "made", "ended_at": world.now()})
    world.tell(row.key, wanted.operation, "attempt", "done", what, attempt=attempt_id)
    return nodes


def _request(world: World, key: str, token: str, choice: Choice, wanted: Wanted) -> NodeRequest:
    return NodeRequest(
        token=token,
        cluster=key,
        store=world.store.store_id,
        place=choice.place,
        offer=choice.offer,
        count=wanted.count,
        ssh_public_key=wanted.ssh_public_key,
        ports=wanted.ports,
        disk_gib=wanted.disk_gib,
        disk_tier=wanted.disk_tier,
        labels=wanted.labels or {},
    )


def _drive(claim: Claim, choice: Choice, request: NodeRequest) -> tuple[Node, ...]:
    """Perform what `gang.decide` asks for, until the gang is ready or has failed."""
    world = claim.world
    driver = world.provisioner(choice.place.cloud)
    now = world.timestamp()
    poll_s = min(driver.cloud.limits.min_poll_s, 5.0)
    state = gang.Gang(request.count, now + CREATE_DEADLINE_S, now + CREATE_LIMIT_S, poll_s)
    seen: gang.Seen = None
    while True:
        state, action = gang.decide(state, seen, world.timestamp())
        if isinstance(action, gang.Ready):
            return action.nodes
        if isinstance(action, gang.Fail):
            raise action.error
        world.sleep(action.after_s)
        claim.check()
        try:
            if isinstance(action, gang.Create):
                seen = gang.Made(tuple(driver.create(request)))
            else:
                listed = driver.nodes(choice.place, request.cluster)
                seen = gang.Listed(tuple(node for node in listed if _is_of(node, request)))
        except StyxError as error:
            seen = gang.Raised(error)


def _is_of(node: Node, request: NodeRequest) -> bool:
    if node.token is not None:
        return node.token == request.token
    return node.state is not NodeState.TERMINATED


def _close_failed(claim: Claim, attempt_id: int, choice: Choice, wanted: Wanted, error: BaseException) -> None:
    """Write the reason down first, then remove what the attempt made; what can't be removed stays on record."""
    world, key = claim.world, claim.key
    vendor = error.vendor if isinstance(error, CloudError) else None
    message = str(error) or "stopped by the user"
    world.store.update_attempt(
        attempt_id,
        {
            "state": "failed",
            "ended_at": world.now(),
            "error": type(error).__name__,
            "scope": error.scope.value if isinstance(error, CloudError) else None,
            "message": message,
            "vendor_code": vendor.code if vendor else None,
            "vendor_message": vendor.message if vendor else None,
            "request_id": vendor.request_id if vendor else None,
        },
    )
    world.tell(key, wanted.operation, "attempt", "failed", f"{choice.place}: {message}", attempt=attempt_id)
    known = error.created if isinstance(error, CloudError) else ()
    lag_s = world.cloud(choice.place.cloud).limits.listing_lag_s
    not_before = world.timestamp() + lag_s
    left = quietly(lambda: remove(world, choice.place, key, known=known, not_before=not_before, check=claim.check))
    if left is None:
        world.store.update_attempt(attempt_id, {"state": "released"})
        return
    claim.update(state=ClusterState.INIT, place=choice.place, note=f"may still exist: {left.message}")
    world.tell(key, wanted.operation, "release", "failed", left.message)


def _remember(world: World, choice: Choice, error: StyxError) -> None:
    if isinstance(error, CapacityError):
        world.store.remember_refusal(
            Refusal(
                place=choice.place,
                instance_type=choice.offer.instance_type,
                market=choice.offer.market.value,
                error=type(error).__name__,
                at=world.now(),
            )
        )


def _table(reasons: Sequence[tuple[Choice, StyxError]]) -> str:
    lines = ["every place refused:"]
    for choice, error in reasons:
        code = error.vendor.code if isinstance(error, CloudError) and error.vendor.code else type(error).__name__
        lines.append(f"  {choice.place}  {choice.offer.instance_type}  {code}  {error.message}")
    return "\n".join(lines)
