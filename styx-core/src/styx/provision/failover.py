"""Which places remain after one refused: pure functions over ranked choices."""

from __future__ import annotations

from collections.abc import Sequence

from styx.errors import CloudError, DeadlineExceeded, Scope, StyxError, UnsupportedError
from styx.optimizer.problem import Choice


def scope_of(error: StyxError) -> Scope | None:
    """How far a failure reaches; None when the whole launch must stop and report."""
    if isinstance(error, UnsupportedError):
        return None
    if isinstance(error, CloudError):
        return error.scope
    if isinstance(error, DeadlineExceeded):
        return Scope.ZONE
    return None


def survives(choice: Choice, refused: Choice, scope: Scope) -> bool:
    """Whether `choice` is outside the scope in which `refused` was refused."""
    mine, theirs = choice.place, refused.place
    if mine.cloud != theirs.cloud:
        return True
    if scope is Scope.CLOUD:
        return False
    if mine.account != theirs.account:
        return True
    if scope is Scope.ACCOUNT:
        return False
    if mine.region != theirs.region:
        return True
    if scope is Scope.REGION:
        return False
    if mine.zone != theirs.zone:
        return True
    if scope is Scope.ZONE:
        return False
    return (choice.offer.instance_type, choice.offer.market) != (refused.offer.instance_type, refused.offer.market)


def remaining(choices: Sequence[Choice], refused: Choice, scope: Scope) -> tuple[Choice, ...]:
    """The choices left, in their order."""
    return tuple(choice for choice in choices if choice != refused and survives(choice, refused, scope))
