"""What a lease comes to on a given cloud: what its nodes do when it runs out, and what that leaves billing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from styx.driver import FeatureSet, Node, NodeState, SelfEnd
from styx.errors import StyxError
from styx.optimizer.problem import Choice
from styx.provision.request import features_of
from styx.provision.world import World

LIMITS: Final = ("idle_s", "max_age_s", "max_usd", "dead_man_s")
"""The limits by which a lease ends."""

UNTIL: Final = "until a command of yours ends them: `styx status --refresh`, `styx sweep --delete` or `styx down`"
"""How long the machines of a lease that can't be kept without a client go on."""


def is_limited(lease: Mapping[str, Any]) -> bool:
    """Whether the lease ends at all."""
    return any(lease.get(name) is not None for name in LIMITS)


def action_of(lease: Mapping[str, Any], features: FeatureSet, *, can_stop: bool) -> Literal["stop", "down"]:
    """What ending means there: machines that can't be stopped, or cost the same when they are, are removed."""
    wanted = lease.get("action") or "stop"
    able = can_stop and features.stop and features.stop_saves_money
    return "stop" if wanted == "stop" and able else "down"


def foreseen(world: World, choice: Choice, lease: Mapping[str, Any]) -> tuple[str, ...]:
    """What the user should know of a lease before anything is made in the chosen place."""
    driver = world.provisioner(choice.place.cloud)
    action = action_of(lease, features_of(world, choice), can_stop=driver.can_stop)
    node = Node(id="planned", cluster="planned", rank=0, place=choice.place, state=NodeState.PENDING)
    end: SelfEnd | None
    try:
        end = driver.self_action(node, action)
    except StyxError:
        end = None
    if end is not None and end.kind == "none" and action == "stop" and driver.ends_itself:
        end = None  # it can only tell for a machine that exists
    return notes(lease, driver.cloud.display_name, action, end, free=driver.cloud.free)


def notes(
    lease: Mapping[str, Any], cloud: str, action: Literal["stop", "down"], end: SelfEnd | None, *, free: bool
) -> tuple[str, ...]:
    """What the user should know of a lease before anything is made.

    Args:
        lease: As it will be set.
        cloud: For people.
        action: What ending comes to there.
        end: What a node would do to end itself; None is unknown.
        free: The machines cost nothing.
    """
    if free:
        ends_all = is_limited(lease) and action == "down" and (lease.get("action") or "stop") == "stop"
        given_back = "these machines cannot be stopped: at its end the lease gives them back, as `styx down` does"
        return (given_back,) if ends_all else ()
    if not is_limited(lease):
        return (f"no lease: machines at {cloud} run, and cost money, until `styx down`",)
    told = []
    if action == "down" and (lease.get("action") or "stop") == "stop":
        told.append(
            f"{cloud} cannot stop these machines in a way that saves money: at its end the lease removes them, "
            "with their disks"
        )
    if end is not None and end.kind != "none" and action == "stop" and not end.stops_billing:
        told.append(f"a machine that has stopped itself goes on costing something at {cloud}, such as its disk")
    elif end is not None and end.kind == "none":
        told.append(
            f"nothing at {cloud} ends the billing by itself: when the lease runs out, jobs and machines go on, and "
            f"cost money, {UNTIL}"
        )
    elif end is not None and not end.stops_billing:
        told.append(
            f"nothing at {cloud} ends the billing by itself: when the lease runs out the jobs are ended, but the "
            f"machines cost money {UNTIL}"
        )
    return tuple(told)
