"""What a task asks for, and where machines may be made: the planner's terms, and the clouds that are enabled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from styx.driver import Permissions, Place
from styx.errors import NoPlaceLeft, StyxError
from styx.optimizer.problem import Requirement
from styx.provision import offers
from styx.provision.guard import call
from styx.provision.world import World
from styx.state.rows import CheckRow

if TYPE_CHECKING:
    from styx.models import Resources

EMBEDDED: Final = offers.EMBEDDED
"""The embedded cloud: chosen when asked for, or when no other cloud is enabled."""


def requirement(wanted: Resources) -> Requirement:
    """One alternative in the planner's terms."""
    accelerator, infra = wanted.accelerator, wanted.infra
    cpus, memory = wanted.cpus, wanted.memory
    return Requirement(
        label=label(wanted),
        cloud=infra.cloud if infra else None,
        region=infra.region if infra else None,
        zone=infra.zone if infra else None,
        instance_type=wanted.instance_type,
        accelerator_name=accelerator.name if accelerator else None,
        accelerator_count=accelerator.count if accelerator else 0,
        accelerator_memory_gib=accelerator.memory_gib if accelerator else None,
        accelerator_memory_exact=bool(accelerator and accelerator.memory_gib and not accelerator.memory_at_least),
        accelerator_vendor=accelerator.vendor if accelerator else None,
        vcpus=cpus.count if cpus else None,
        vcpus_exact=bool(cpus and not cpus.at_least),
        memory_gib=memory.gib if memory else None,
        memory_exact=bool(memory and memory.gib is not None and not memory.at_least),
        memory_per_vcpu=memory.per_cpu_gib if memory else None,
        disk_gib=wanted.disk_size,
        use_spot=bool(wanted.use_spot),
        max_usd_per_hour=wanted.max_hourly_cost,
        ports=bool(wanted.ports),
        image=bool(wanted.image_id and (wanted.image_id.machine or wanted.image_id.machine_by_region)),
        docker=bool(wanted.image_id and wanted.image_id.docker),
        network_tier=wanted.network_tier,
    )


def label(wanted: Resources) -> str:
    """An alternative as the user would name it."""
    parts = [
        str(wanted.infra) if wanted.infra else None,
        str(wanted.accelerator) if wanted.accelerator else None,
        wanted.instance_type,
        f"cpus={wanted.cpus}" if wanted.cpus else None,
        f"mem={wanted.memory}" if wanted.memory else None,
        "spot" if wanted.use_spot else None,
    ]
    return " ".join(part for part in parts if part) or "any machine"


def candidate_places(world: World, alternatives: Sequence[Requirement]) -> tuple[Place, ...]:
    """Where machines may be made: clouds that a check enabled, and the embedded one by its own rule."""
    checks = {check.cloud: check for check in world.store.checks()}
    asked = {each.cloud for each in alternatives if each.cloud}
    allowed = world.config.allowed_clouds
    enabled = {
        name: check
        for name, check in checks.items()
        if check.ok and name != EMBEDDED and (allowed is None or name in allowed)
    }
    places = [place for check in enabled.values() for place in check.places]
    anywhere = any(each.cloud is None for each in alternatives)
    if EMBEDDED in asked or (anywhere and not enabled):
        places.extend(_embedded_places(world))
    if not anywhere:
        places = [place for place in places if place.cloud in asked]
    if not places:
        raise NoPlaceLeft(_not_enabled(world, sorted(asked), checks), hint="run `styx check` to see what is missing")
    return tuple(dict.fromkeys(places))


def _embedded_places(world: World) -> tuple[Place, ...]:
    check = check_cloud(world, EMBEDDED)
    if not check.ok:
        raise NoPlaceLeft(f"the embedded cloud cannot be used: {check.message}", hint=check.hint)
    return check.places


def _not_enabled(world: World, asked: Sequence[str], checks: dict[str, CheckRow]) -> str:
    if not asked:
        return "no cloud is enabled"
    lines = []
    for name in asked:
        check = checks.get(name)
        if check is not None and check.ok:
            lines.append(f"{name} is not among allowed_clouds of the config")
        elif check is not None:
            lines.append(f"{name} is not enabled: {check.message}")
        else:
            world.cloud(name)  # says how to install a missing plugin
            lines.append(f"{name} is not enabled yet: run `styx check {name}`")
    return "\n".join(lines)


def permissions(world: World, name: str) -> Permissions | None:
    """Which permissions one cloud's credentials have and lack; None where the driver has no such check."""
    cloud = world.cloud(name)
    return call(f"{name}.missing_permissions", cloud.missing_permissions, 60.0, world.observe)


def check_cloud(world: World, name: str) -> CheckRow:
    """Ask one cloud who we are. Never raises: a failure is the answer."""
    now = world.now()
    try:
        cloud = world.cloud(name)
        identity = call(f"{name}.check", cloud.check, 30.0, world.observe)
    except StyxError as error:
        return CheckRow(cloud=name, account=None, ok=False, message=error.message, hint=error.hint, checked_at=now)
    usable = tuple(place for place, problem in identity.places.items() if problem is None)
    try:
        world.hub.provisioner(name)
    except StyxError as error:  # it only sells, or what makes its machines is broken: a launch must not choose it
        message = f"the credentials are good, but {error.message}"
        hint = f"its prices are there for `styx gpus list` and `styx optimize --assume-enabled {name}`"
        return CheckRow(
            cloud=name, account=identity.account, ok=False, message=message, hint=hint, places=usable, checked_at=now
        )
    problems = [f"{place}: {problem}" for place, problem in identity.places.items() if problem is not None]
    return CheckRow(
        cloud=name,
        account=identity.account,
        ok=bool(usable),
        message="; ".join([*problems, *identity.notes]),
        places=usable,
        checked_at=now,
    )
