"""Named volumes: made, listed and deleted apart from clusters, and found again by name when a task mounts them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from styx.driver import HasVolumes, Leftover, Place, Value
from styx.errors import NotFound, StyxError, UnsupportedError, UsageError
from styx.provision.guard import CALL_DEADLINE_S, call
from styx.provision.world import World

if TYPE_CHECKING:
    from styx.models import VolumeSpec

T = TypeVar("T")


class VolumeView(Value):
    """One named volume, as `styx volumes ls` shows it."""

    name: str
    """As it was named; the cloud's id where the cloud keeps no name."""
    id: str
    """The cloud's own name for it."""
    place: Place
    """Where it is."""
    size_gib: float | None = None
    """Its size in GiB, if the cloud tells."""
    usd_per_hour: float | None = None
    """What it costs; None is unknown."""
    created_at: str | None = None
    """When it was made, as ISO 8601."""


def apply(world: World, spec: VolumeSpec) -> VolumeView:
    """Make the volume if there is none of that name in its place. Idempotent.

    Raises:
        UsageError: The file does not say where, or the size is missing.
        UnsupportedError: The cloud has no volumes.
    """
    if spec.infra is None or spec.infra.cloud is None:
        raise UsageError(
            f"the volume {spec.name} does not say where it shall be", hint="give `infra`, such as k8s/NAME"
        )
    place = _place(world, spec.infra.cloud, spec.infra.region)
    existing = next((each for each in _listed(world, place) if each.name == spec.name), None)
    if existing is not None:
        return _view(existing)
    if spec.use_existing:
        raise NotFound(f"there is no volume called {spec.name} in {place}", hint="leave out `use_existing` to make it")
    if spec.size is None:
        raise UsageError(f"the volume {spec.name} has no size", hint="give `size`, such as 100Gi")
    size_gib = float(spec.size)
    config = spec.config
    options = {"storage_class": config.storage_class_name, "access_mode": config.access_mode} if config else {}
    given = {name: value for name, value in options.items() if value}
    driver = _driver(world, place.cloud)
    made = _call(world, place, "create_volume", partial(driver.create_volume, place, spec.name, size_gib, given))
    return VolumeView(name=spec.name, id=made, place=place, size_gib=size_gib)


def listing(world: World, clouds: Sequence[str] = ()) -> tuple[list[VolumeView], list[tuple[Place, str]]]:
    """Every volume of this installation, and the places that could not be read with the reasons."""
    found: list[VolumeView] = []
    unreadable: list[tuple[Place, str]] = []
    for place in _places(world, clouds):
        try:
            found += [_view(each) for each in _listed(world, place)]
        except StyxError as error:
            unreadable.append((place, error.message))
    return found, unreadable


def delete(world: World, names: Sequence[str]) -> list[str]:
    """Delete volumes, with what is on them.

    Raises:
        NotFound: There is none of one of the names; nothing was deleted.
    """
    found, unreadable = listing(world)
    missing = [name for name in names if not any(name in (each.name, each.id) for each in found)]
    if missing:
        away = f"; {unreadable[0][0]} could not be read: {unreadable[0][1]}" if unreadable else ""
        raise NotFound(f"there is no volume called {', '.join(missing)}{away}", hint="`styx volumes ls` lists them")
    for each in [each for each in found if each.name in names or each.id in names]:
        driver = _driver(world, each.place.cloud)
        _call(world, each.place, "delete_volume", partial(driver.delete_volume, each.place, each.id))
    return list(names)


def mounts(world: World, place: Place, wanted: Mapping[str, str]) -> dict[str, str]:
    """What to mount in one place, by path: `ID` or `ID:FOLDER` for each `NAME` or `NAME:FOLDER`.

    Raises:
        NotFound: A volume is not there.
    """
    if not wanted:
        return {}
    ids = {each.name: each.id for each in _listed(world, place)}
    found: dict[str, str] = {}
    for path, given in wanted.items():
        name, colon, folder = given.partition(":")
        if name not in ids:
            raise NotFound(f"there is no volume called {name} in {place}", hint="make it first: `styx volumes apply`")
        found[path] = f"{ids[name]}{colon}{folder}"
    return found


def _driver(world: World, cloud: str) -> HasVolumes:
    driver = world.hub.provisioner(cloud)
    if not isinstance(driver, HasVolumes):
        raise UnsupportedError(f"{world.cloud(cloud).display_name} has no named volumes")
    return driver


def _listed(world: World, place: Place) -> Sequence[Leftover]:
    driver = _driver(world, place.cloud)
    return _call(world, place, "volumes", partial(driver.volumes, place))


def _call(world: World, place: Place, verb: str, action: Callable[[], T]) -> T:
    world.provisioner(place.cloud).require_account(place)
    return call(f"{place.cloud}.{verb}", action, CALL_DEADLINE_S, world.observe)


def _places(world: World, clouds: Sequence[str]) -> list[Place]:
    checks = [check for check in world.store.checks() if check.ok and (not clouds or check.cloud in clouds)]
    return [place for check in checks if _has_volumes(world, check.cloud) for place in check.places]


def _has_volumes(world: World, cloud: str) -> bool:
    try:
        return isinstance(world.hub.provisioner(cloud), HasVolumes)
    except StyxError:
        return False  # it makes no machines, so no volumes either


def _place(world: World, cloud: str, region: str | None) -> Place:
    _driver(world, cloud)
    places = [place for place in _places(world, [cloud]) if region in (None, place.region)]
    if not places:
        where = f"{cloud}/{region}" if region else cloud
        raise NotFound(f"{where} is not enabled", hint=f"run `styx check {cloud}` to see what is missing")
    if len(places) > 1:
        names = ", ".join(str(place) for place in places)
        raise UsageError(f"the volume could be in several places: {names}", hint="name one of them in `infra`")
    return places[0]


def _view(each: Leftover) -> VolumeView:
    made = each.created_at.isoformat() if each.created_at else None
    return VolumeView(
        name=each.name or each.id, id=each.id, place=each.place, size_gib=each.size_gib, usd_per_hour=each.usd_per_hour,
        created_at=made,
    )  # fmt: skip
