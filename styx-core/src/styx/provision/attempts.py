"""Makes the nodes of a cluster: one attempt per place, in the plan's order, recorded before the cloud is called."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from styx.driver import Node, NodeRequest, NodeState
from styx.errors import (
    AmbiguousError,
    BalanceError,
    CapacityError,
    CloudError,
    CredentialsError,
    NoPlaceLeft,
    QuotaError,
    Scope,
    StyxError,
    TransientError,
    UnsupportedError,
)
from styx.optimizer.problem import Choice, Selector
from styx.provision import failover, gang, ledger, request
from styx.provision.claim import Claim
from styx.provision.guard import StillRunning
from styx.provision.removal import quietly, remove
from styx.provision.request import Wanted
from styx.provision.world import World
from styx.state.rows import Attempt, ClusterState, Refusal

CREATE_DEADLINE_S = 900.0
"""How long one gang may take to run, unless the cloud asks for more patience."""
CREATE_LIMIT_S = 6 * 3600.0
"""What no cloud's request for patience passes."""
RELEASE_DEADLINE_S = 300.0
"""How long a failed attempt's machines are watched going away before the next place is tried."""
SILENT_DEADLINE_S = 30.0
"""The same, of a cloud from which no call of the attempt had an answer."""
FIRST_NOTE_S = 3.0
NOTE_EVERY_S = 15.0
"""When the first line, and how often another, says what a cloud is waiting for."""

_TOLD_HINTS = 3
_REFUSALS = (CapacityError, QuotaError, BalanceError, CredentialsError, UnsupportedError)
"""A create that is answered so made nothing."""

Replan = Callable[[Sequence[Selector]], Sequence[Choice]]
"""Ranked choices outside of what is blocked; NoPlaceLeft when there are none."""


@dataclass(frozen=True)
class Refused:
    """One attempt that came to nothing.

    Attributes:
        choice: What was tried.
        error: Why it failed.
        scope: How far that reaches.
        silent: The cloud never answered.
    """

    choice: Choice
    error: StyxError
    scope: Scope
    silent: bool = False


def make_nodes(
    claim: Claim, choices: Sequence[Choice], wanted: Wanted, replan: Replan | None = None
) -> tuple[Choice, tuple[Node, ...]]:
    """Try the choices in order until one gives all nodes; what a failed attempt made is removed before the next.

    Args:
        claim: On the cluster.
        choices: The plan's, best first.
        wanted: What all attempts have in common.
        replan: Asked for a fresh ranking after each refusal; without it the rest of `choices` is gone through.

    Raises:
        NoPlaceLeft: All refused; the message is a table of the reasons.
        StyxError: What is wrong is not a place.
    """
    refused: list[Refused] = []
    left, unfit = _fitting(choices, wanted)
    while left:
        choice, doubt = left[0], Doubt()
        try:
            return choice, _attempt(claim, choice, wanted, doubt)
        except StyxError as error:
            scope = failover.scope_of(error)
            if scope is None:
                raise
            if doubt.silent and any(each.silent and each.choice.place.cloud == choice.place.cloud for each in refused):
                scope = Scope.CLOUD  # its other regions are hardly easier to reach
            refused.append(Refused(choice, error, scope, doubt.silent))
            _remember(claim.world, choice, error)
        left = _left_after(claim, left, refused, wanted, replan)
    if not refused and unfit:
        raise NoPlaceLeft("no place that fits can be tried: " + "; ".join(sorted(set(unfit))))
    raise all_refused(refused)


def all_refused(refused: Sequence[Refused]) -> NoPlaceLeft:
    """What to do about it: what the refusals say, and to wait, unless no place will take the request as things are."""
    hints = list(dict.fromkeys(each.error.hint for each in refused if each.error.hint))[:_TOLD_HINTS]
    lasting = all(isinstance(each.error, UnsupportedError | CredentialsError) for each in refused)
    if not (lasting and hints):
        hints.append("see `styx why` for the clouds' own words" + ("" if lasting else ", or use --retry-until-up"))
    return NoPlaceLeft(table(refused), hint="; ".join(hints), lasting=lasting)


def _left_after(
    claim: Claim, left: Sequence[Choice], refused: Sequence[Refused], wanted: Wanted, replan: Replan | None
) -> list[Choice]:
    """What to try next: planned anew, without anything that a refusal of this launch reaches."""
    if replan is not None:
        try:
            blocked = [failover.reach(each.choice, each.error, each.scope) for each in refused]
            left, _ = _fitting(replan(list(dict.fromkeys(blocked))), wanted)
        except NoPlaceLeft:
            return []
        except StyxError as error:  # such as a catalog that can't be read just now: the earlier ranking is still good
            claim.world.hub.report(f"planned with what was known before: {error.message}")
    rest: Sequence[Choice] = left
    for each in refused:
        rest = failover.left_after(rest, each.choice, each.error, each.scope)
    return list(rest)


def _fitting(choices: Sequence[Choice], wanted: Wanted) -> tuple[list[Choice], list[str]]:
    reasons = [(choice, request.unfit(choice, wanted.asked.get(choice.requirement))) for choice in choices]
    return [choice for choice, reason in reasons if reason is None], [reason for _, reason in reasons if reason]


def _attempt(claim: Claim, choice: Choice, wanted: Wanted, doubt: Doubt) -> tuple[Node, ...]:
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
    world.hub.ssh.renew(row.key)  # machines made anew show new host keys
    try:
        asked = request.node_request(world, row, token, choice, wanted)
        nodes = _drive(claim, choice, asked, wanted.operation, doubt)
    except (StyxError, KeyboardInterrupt) as error:
        _close_failed(claim, attempt_id, choice, wanted, error, doubt)
        raise
    offer = choice.offer.model_dump(mode="json")
    row = claim.update(
        place=choice.place,
        nodes=nodes,
        seen_at=world.now(),
        offer=offer,
        usd_per_hour=choice.usd_per_hour,
        resources=ledger.as_made(row, nodes, wanted.asked.get(choice.requirement)),
    )
    ledger.follow(world, row, nodes)
    world.store.update_attempt(attempt_id, {"state": "made", "ended_at": world.now()})
    world.tell(row.key, wanted.operation, "attempt", "done", what, attempt=attempt_id)
    return nodes


@dataclass
class Doubt:
    """What is not known of an attempt: whether machines exist that no listing shows yet, or are still being made."""

    exists: bool = False
    making: bool = False
    silent: bool = False
    """It was asked, and every call ended without a word of the cloud's."""
    _answered: bool = False

    def heed(self, seen: gang.Seen) -> None:
        """Learn from one answer. Only a plain refusal of the very first call proves that there is nothing."""
        if seen is not None:
            self._answered |= not isinstance(seen, gang.Raised) or _is_answer(seen.error)
            self.silent = not self._answered
        if isinstance(seen, gang.Raised):
            self.exists |= not isinstance(seen.error, _REFUSALS) or bool(getattr(seen.error, "created", ()))
        elif seen is not None:
            self.exists |= bool(seen.nodes)


def _is_answer(error: StyxError) -> bool:
    """Whether the cloud itself said something: what it says has a code."""
    return not isinstance(error, TransientError | AmbiguousError) or error.vendor.code is not None


def _drive(claim: Claim, choice: Choice, asked: NodeRequest, operation: str, doubt: Doubt) -> tuple[Node, ...]:
    """Perform what `gang.decide` asks for, until the gang is ready or has failed."""
    world = claim.world
    driver = world.provisioner(choice.place.cloud)
    now = world.timestamp()
    poll_s = min(driver.cloud.limits.min_poll_s, 5.0)
    state = gang.Gang(asked.count, now + CREATE_DEADLINE_S, now + CREATE_LIMIT_S, poll_s)
    seen: gang.Seen = None
    patience = Patience(world, claim.key, operation, choice)
    while True:
        state, action = gang.decide(state, seen, world.timestamp())
        if isinstance(action, gang.Ready):
            return action.nodes
        if isinstance(action, gang.Fail):
            raise action.error
        patience.tell(seen)
        world.sleep(action.after_s)
        claim.check()
        try:
            if isinstance(action, gang.Create):
                seen = gang.Made(tuple(driver.create(asked)))
            else:
                listed = driver.nodes(choice.place, asked.cluster)
                seen = gang.Listed(tuple(node for node in listed if _is_of(node, asked)))
        except StyxError as error:
            seen = gang.Raised(error)
        except KeyboardInterrupt as stop:
            doubt.exists = True
            doubt.making = isinstance(stop, StillRunning) and isinstance(action, gang.Create)
            raise
        doubt.heed(seen)


class Patience:
    """Says now and then what a cloud is waiting for."""

    def __init__(self, world: World, key: str, operation: str, choice: Choice) -> None:
        self._world, self._key, self._operation, self._choice = world, key, operation, choice
        self._next = world.timestamp() + FIRST_NOTE_S

    def tell(self, seen: gang.Seen) -> None:
        """Note what was seen, when it is time for a line."""
        words = waiting_for(seen)
        if words is None or self._world.timestamp() < self._next:
            return
        self._next = self._world.timestamp() + NOTE_EVERY_S
        self._world.tell(self._key, self._operation, "attempt", "note", f"{self._choice.place}: {words}")


def waiting_for(seen: gang.Seen) -> str | None:
    """Why an attempt goes on waiting, in words; None when there is nothing to say."""
    if isinstance(seen, gang.Raised):
        kind = "not now" if isinstance(seen.error, TransientError) else "its answer was lost, looking for the machines"
        return f"{kind}: {seen.error.message}"
    pending = [node for node in seen.nodes if node.state is NodeState.PENDING] if seen is not None else []
    if not pending:
        return None
    reasons = {node.waiting.reason or node.waiting.kind for node in pending if node.waiting is not None}
    why = f" ({', '.join(sorted(reasons))})" if reasons else ""
    return f"waiting for {len(pending)} of {len(seen.nodes) if seen else 0} machines{why}"


def _is_of(node: Node, asked: NodeRequest) -> bool:
    if node.token is not None:
        return node.token == asked.token
    return node.state is not NodeState.TERMINATED


def _close_failed(
    claim: Claim, attempt_id: int, choice: Choice, wanted: Wanted, error: BaseException, doubt: Doubt
) -> None:
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
    if doubt.making:  # whatever a listing shows now, it may be there in the next moment
        note = "may still exist: its launch was stopped while it was made"
        claim.update(state=ClusterState.INIT, place=choice.place, note=note)
        return
    known = error.created if isinstance(error, CloudError) else ()
    lag_s = world.cloud(choice.place.cloud).limits.listing_lag_s
    not_before = world.timestamp() + lag_s if doubt.exists else 0.0
    patience_s = SILENT_DEADLINE_S if doubt.silent else RELEASE_DEADLINE_S
    if doubt.exists:
        world.tell(key, wanted.operation, "release", "note", f"{choice.place}: making sure that nothing is left there")
    left = quietly(
        lambda: remove(
            world,
            choice.place,
            key,
            known=known,
            not_before=not_before,
            check=claim.check,
            deadline_s=patience_s + lag_s,
        )
    )
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


def table(refused: Sequence[Refused]) -> str:
    """All refusals of a launch: where, what, the vendor's code, and why in plain words."""
    rows = [
        (str(each.choice.place), each.choice.offer.instance_type, _code(each.error), each.error.message)
        for each in refused
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)] if rows else [0, 0, 0]
    lines = ["every place refused:"]
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=False))
        lines.append(f"  {'  '.join(cells)}  {row[3]}")
    return "\n".join(lines)


def _code(error: StyxError) -> str:
    return error.vendor.code if isinstance(error, CloudError) and error.vendor.code else type(error).__name__
