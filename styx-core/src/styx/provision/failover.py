"""How far a failure of a launch reaches. What remains after it is decided in `styx.optimizer.failover`."""

from __future__ import annotations

from styx.errors import CloudError, DeadlineExceeded, Scope, StyxError
from styx.optimizer.failover import block_of, remaining, survives

__all__ = ["block_of", "remaining", "scope_of", "survives"]


def scope_of(error: StyxError) -> Scope | None:
    """How far a failure reaches; None when the whole launch must stop and report."""
    if isinstance(error, CloudError):
        return error.scope
    if isinstance(error, DeadlineExceeded):
        return Scope.ZONE
    return None
