"""Zones that a task names: what each cloud calls them, asked once before anything is planned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from styx.driver import HasZones, Place
from styx.errors import CloudError, NoPlaceLeft, PluginError, StyxError, UnsupportedError
from styx.provision.guard import call

if TYPE_CHECKING:
    from styx.optimizer.problem import Requirement
    from styx.provision.world import World

_DEADLINE_S: Final = 30.0


def named(
    world: World, alternatives: Iterable[Requirement], places: Sequence[Place], *, ask: bool = True
) -> tuple[Requirement, ...]:
    """The alternatives, each with what the clouds that may answer it call its zone.

    Clouds whose machines can't be held to a zone keep what their rows say.

    Args:
        world: Plugins.
        alternatives: Of a task.
        places: Where machines may be made.
        ask: Whether clouds may be asked.

    Raises:
        NoPlaceLeft: There is no such zone, whichever alternative is taken.
        CloudError: A cloud that had to be asked gave no answer, and no alternative does without.
    """
    found: list[Requirement] = []
    wrong: list[StyxError] = []
    for wanted in alternatives:
        zones, failures = _zones(world, wanted, places, ask=ask) if wanted.zone else ({}, [])
        if failures and not zones:
            wrong.append(failures[0])
        found.append(wanted.model_copy(update={"zones": tuple((*where, zone) for where, zone in zones.items())}))
    if wrong and len(wrong) == len(found):
        unknown = [error for error in wrong if isinstance(error, UnsupportedError)]
        if not unknown:
            raise wrong[0]
        raise NoPlaceLeft("; ".join(dict.fromkeys(error.message for error in unknown)), hint=unknown[0].hint)
    for error in wrong:
        world.hub.report(error.message)
    return tuple(found)


def _zones(
    world: World, wanted: Requirement, places: Sequence[Place], *, ask: bool
) -> tuple[dict[tuple[str, str], str], list[StyxError]]:
    """By cloud and region that the requirement allows: its name for the zone, or why it has none."""
    zones: dict[tuple[str, str], str] = {}
    failures: list[StyxError] = []
    for place in places:
        where = (place.cloud, place.region)
        if wanted.cloud not in (None, place.cloud) or wanted.region not in (None, place.region) or where in zones:
            continue
        try:
            zone = zone_named(world, place, str(wanted.zone), ask=ask)
        except CloudError as error:
            failures.append(error)
            continue
        if zone is not None:
            zones[where] = zone
    return zones, failures


def zone_named(world: World, place: Place, name: str, *, ask: bool = True) -> str | None:
    """What a place's cloud calls a zone; None where machines can't be held to one.

    Raises:
        UnsupportedError: Its region has no such zone.
        CloudError: The cloud gave no answer.
    """
    try:
        cloud = world.cloud(place.cloud)
    except PluginError:  # assumed to be enabled, and no plugin is there to ask
        return None
    if not isinstance(cloud, HasZones):
        return None
    region = place.model_copy(update={"zone": None})
    asked = partial(cloud.zone_named, region, name, ask=ask)
    return call(f"{place.cloud}.zone_named", asked, _DEADLINE_S, world.observe)
