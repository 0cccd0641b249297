"""What to try after a refusal: a pure function from a plan, what was refused and how far that reaches, to the next."""

from __future__ import annotations

from collections.abc import Sequence

from styx.errors import Scope
from styx.optimizer.problem import Choice, Loser, Plan, Selector


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
    if (mine.zone or choice.offer.zone) != (theirs.zone or refused.offer.zone):
        return True
    if scope is Scope.ZONE:
        return False
    return (choice.offer.instance_type, choice.offer.market) != (refused.offer.instance_type, refused.offer.market)


def remaining(choices: Sequence[Choice], refused: Choice, scope: Scope) -> tuple[Choice, ...]:
    """The choices left, in their order."""
    return tuple(choice for choice in choices if choice != refused and survives(choice, refused, scope))


def next_plan(plan: Plan, refused: Choice, scope: Scope) -> Plan:
    """One task's plan without what the refusal reaches; empty when nothing is left."""
    lost = Loser(what=str(refused.place), reason=f"it refused {refused.offer.instance_type} ({scope.value})")
    return plan.model_copy(update={"choices": remaining(plan.choices, refused, scope), "losers": (*plan.losers, lost)})


def block_of(refused: Choice, scope: Scope) -> Selector:
    """What a refusal blocks, for planning the whole graph again with `GraphProblem.blocked`."""
    place, offer = refused.place, refused.offer
    fields = {"cloud": place.cloud}
    if scope is not Scope.CLOUD:
        fields["account"] = place.account
    if scope in (Scope.REGION, Scope.ZONE, Scope.OFFER):
        fields["region"] = place.region
    zone = place.zone or offer.zone
    if scope in (Scope.ZONE, Scope.OFFER) and zone is not None:
        fields["zone"] = zone
    if scope is Scope.OFFER:
        fields |= {"instance_type": offer.instance_type, "market": offer.market.value}
    return Selector(**fields)
