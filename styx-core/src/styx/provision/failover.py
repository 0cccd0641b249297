"""How far a failure of a launch reaches. What remains after it is decided in `styx.optimizer.failover`."""

from __future__ import annotations

from collections.abc import Sequence

from styx.errors import CapacityError, CloudError, DeadlineExceeded, QuotaError, Scope, StyxError
from styx.optimizer.failover import block_of, remaining, survives
from styx.optimizer.problem import Choice, Selector

__all__ = ["left_after", "reach", "remaining", "scope_of", "survives"]


def scope_of(error: StyxError) -> Scope | None:
    """How far a failure reaches; None when the whole launch must stop and report."""
    if isinstance(error, CloudError):
        return error.scope
    if isinstance(error, DeadlineExceeded):
        return Scope.ZONE
    return None


def reach(refused: Choice, error: StyxError, scope: Scope) -> Selector:
    """What a failure blocks.

    Quotas, and what is free, are of machines of a kind: other accelerators there, and the other market, have their own.
    """
    block = block_of(refused, scope)
    if not _is_of_a_kind(error, scope):
        return block
    offer = refused.offer
    return block.model_copy(update={"accelerator": offer.accelerator_name, "market": offer.market.value})


def left_after(choices: Sequence[Choice], refused: Choice, error: StyxError, scope: Scope) -> tuple[Choice, ...]:
    """The choices that a failure does not reach, in their order."""
    if not _is_of_a_kind(error, scope):
        return remaining(choices, refused, scope)
    block = reach(refused, error, scope)
    return tuple(one for one in choices if one != refused and not block.covers(one.place, one.offer))


def _is_of_a_kind(error: StyxError, scope: Scope) -> bool:
    return isinstance(error, CapacityError | QuotaError) and scope in (Scope.ZONE, Scope.REGION)
