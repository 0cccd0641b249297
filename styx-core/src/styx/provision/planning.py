"""What a task asks for, and where machines may be made: the planner's terms, and the clouds that are enabled."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from styx.driver import Cloud, Identity, Permissions, Place
from styx.errors import NoPlaceLeft, StyxError, TransientError
from styx.optimizer.problem import Requirement
from styx.parallel import in_parallel
from styx.provision import offers
from styx.provision.guard import call
from styx.provision.world import World
from styx.state.rows import CheckRow

if TYPE_CHECKING:
    from styx.models import Resources

EMBEDDED: Final = offers.EMBEDDED
"""The embedded cloud: chosen when asked for, or when no other cloud is enabled."""
RECHECK_S: Final = 3600.0
"""After so long a cloud that was found unusable is asked again when something is planned for any cloud."""

CHECK_S: Final = 30.0
"""How long a cloud may take to say who we are."""
RETRY_S: Final = 5.0
"""The longest pause after which a check is tried once more."""


def requirement(wanted: Resources, *, volumes: bool = False) -> Requirement:
    """One alternative in the planner's terms; `volumes`: of a task that mounts some."""
    from styx.models.executed import EVERYWHERE

    accelerator, infra = wanted.accelerator, wanted.infra
    cpus, memory, disk, image = wanted.cpus, wanted.memory, wanted.local_disk, wanted.image_id
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
        volumes=volumes,
        disk_tier=wanted.disk_tier not in (None, *EVERYWHERE["resources.disk_tier"]),
        local_disk_gib=disk.size_gib if disk else None,
        local_disk_exact=bool(disk and not disk.at_least),
        local_disk_kind=disk.mode if disk else None,
        use_spot=bool(wanted.use_spot),
        max_usd_per_hour=wanted.max_hourly_cost,
        ports=bool(wanted.ports),
        image=bool(image and (image.machine or image.machine_by_region)),
        image_regions=tuple(image.machine_by_region) if image and not image.machine else (),
        docker=bool(image and image.docker),
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
        f"local_disk={wanted.local_disk}" if wanted.local_disk else None,
        "spot" if wanted.use_spot else None,
    ]
    return " ".join(part for part in parts if part) or "any machine"


def candidate_places(world: World, alternatives: Sequence[Requirement]) -> tuple[Place, ...]:
    """Where machines may be made: clouds that a check enabled, and the embedded one by its own rule.

    What a check found wrong is not believed for ever: a cloud that is asked for by name is asked again at once, the
    others after `RECHECK_S`.
    """
    asked = {each.cloud for each in alternatives if each.cloud}
    anywhere = any(each.cloud is None for each in alternatives)
    allowed = world.config.allowed_clouds
    checks = _checks(world, asked, allowed, anywhere=anywhere)
    enabled = {
        name: check
        for name, check in checks.items()
        if check.ok and name != EMBEDDED and (allowed is None or name in allowed)
    }
    places = [place for check in enabled.values() for place in check.places]
    if EMBEDDED in asked or (anywhere and not enabled):
        places.extend(_embedded_places(world))
    if not anywhere:
        places = [place for place in places if place.cloud in asked]
    if not places:
        hints = [check.hint for name, check in checks.items() if name in asked and not check.ok and check.hint]
        hint = hints[0] if len(hints) == 1 else "run `styx check` to see what is missing"
        raise NoPlaceLeft(_not_enabled(sorted(asked), checks), hint=hint)
    return tuple(dict.fromkeys(places))


_NEAR: Final = 5
"""So many names of enabled regions are shown."""


def few_enabled(places: Sequence[Place]) -> str | None:
    """What to do about a plan that had nothing but the embedded cloud to choose from."""
    if any(place.cloud != EMBEDDED for place in places):
        return None
    return "only this machine is enabled: `styx check` enables clouds, `styx optimize --assume-enabled` plans without"


def not_enabled(places: Sequence[Place], wanted: Iterable[tuple[str | None, str | None]]) -> str | None:
    """What to do where a cloud and region were named, and the region is none of those that are enabled there."""
    for cloud, region in wanted:
        there = list(dict.fromkeys(place.region for place in places if place.cloud == cloud))
        if region is not None and there and region not in there:
            near = difflib.get_close_matches(region, there, n=_NEAR) or there[:_NEAR]
            more = f" and {len(there) - len(near)} more" if len(there) > len(near) else ""
            return f"{cloud} has {', '.join(near)}{more} enabled, not {region}: `styx check {cloud}` looks again"
    return None


def _checks(
    world: World, asked: Collection[str], allowed: Collection[str] | None, *, anywhere: bool
) -> dict[str, CheckRow]:
    """What is remembered of each cloud, after asking those again that were not usable."""
    checks = {check.cloud: check for check in world.store.checks()}
    since = world.now() - timedelta(seconds=RECHECK_S)
    again = [name for name in sorted(asked) if not (name in checks and checks[name].ok)]
    if anywhere:
        again += [name for name, check in checks.items() if not check.ok and check.checked_at < since]
    again = [name for name in dict.fromkeys(again) if name != EMBEDDED and (allowed is None or name in allowed)]
    for name in again:
        if name in asked:
            world.cloud(name)  # says how to install a missing plugin
    again = [name for name in again if name in world.hub.installed_clouds()]
    if again:
        fresh = in_parallel(lambda name: check_cloud(world, name), again)
        world.store.save_checks(fresh)
        checks |= {check.cloud: check for check in fresh}
    return checks


def _embedded_places(world: World) -> tuple[Place, ...]:
    check = check_cloud(world, EMBEDDED)
    if not check.ok:
        raise NoPlaceLeft(f"the embedded cloud cannot be used: {check.message}", hint=check.hint)
    return check.places


def _not_enabled(asked: Sequence[str], checks: dict[str, CheckRow]) -> str:
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
            lines.append(f"{name} is not among allowed_clouds of the config")
    return "\n".join(lines)


def permissions(world: World, name: str) -> Permissions | None:
    """Which permissions one cloud's credentials have and lack; None where the driver has no such check."""
    cloud = world.cloud(name)
    return call(f"{name}.missing_permissions", cloud.missing_permissions, 60.0, world.observe)


def _identity(world: World, name: str, cloud: Cloud) -> Identity:
    """Who we are; asked a second time when the cloud says that it was too soon."""
    try:
        return call(f"{name}.check", cloud.check, CHECK_S, world.observe)
    except TransientError as error:
        if error.retry_after_s > RETRY_S:
            raise
        world.sleep(error.retry_after_s)
        return call(f"{name}.check", cloud.check, CHECK_S, world.observe)


def check_cloud(world: World, name: str) -> CheckRow:
    """Ask one cloud who we are. Never raises: a failure is the answer."""
    now = world.now()
    try:
        cloud = world.cloud(name)
        identity = _identity(world, name, cloud)
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
