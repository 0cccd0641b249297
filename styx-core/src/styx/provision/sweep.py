"""Finds machines and leftovers that carry this installation's key and that no live cluster remembers, and ends them.

Drivers never show machines without our key, so nothing foreign can be listed here, let alone touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from styx.driver import Leftover, Node, Place
from styx.errors import NotExecutable, StyxError
from styx.provision import teardown
from styx.provision.removal import living, remove
from styx.provision.world import World, holder_is_dead
from styx.state.rows import ClusterRow, ClusterState

ABANDONED = frozenset({ClusterState.INIT, ClusterState.TERMINATING})
"""Half-made or half-ended states: when their client is gone, nobody waits for these machines. STOPPING and STARTING are
not among them: their disks hold what the user wanted to keep."""


@dataclass(frozen=True)
class Found:
    """One thing that nobody remembers."""

    id: str
    kind: str
    place: Place
    key: str | None
    row: ClusterRow | None
    usd_per_hour: float | None
    created_at: datetime | None


@dataclass(frozen=True)
class Survey:
    """What a look at the clouds showed."""

    found: tuple[Found, ...]
    abandoned: tuple[ClusterRow, ...]
    """Clusters whose launch or down died with its client, with or without machines."""
    unreadable: tuple[tuple[Place, str], ...]


def is_abandoned(world: World, row: ClusterRow) -> bool:
    """Whether the client that was making or ending this cluster is gone."""
    if row.state not in ABANDONED:
        return False
    return row.holder is None or holder_is_dead(row.holder) or row.lease_until <= world.timestamp()


def places_to_look(world: World, enabled: Iterable[Place]) -> tuple[Place, ...]:
    """Enabled places, and every place where something of ours was ever tried and not seen to be gone."""
    enabled = tuple(enabled)
    makers = {cloud: _makes_machines(world, cloud) for cloud in {place.cloud for place in enabled}}
    places = [place for place in enabled if makers[place.cloud]]
    for row in world.store.clusters(ended=True):
        places.extend(each.place for each in world.store.attempts(row.key) if each.state != "released")
        if row.state is not ClusterState.TERMINATED and row.place is not None:
            places.append(row.place)
    return tuple(dict.fromkeys(places))


def _makes_machines(world: World, cloud: str) -> bool:
    """Whether anything of ours can be there: a plugin that only knows what a cloud sells never made a machine."""
    try:
        world.hub.provisioner(cloud)
    except NotExecutable:
        return False
    except StyxError:
        return True  # broken: said when the place is looked at
    return True


def survey(world: World, places: Sequence[Place]) -> Survey:
    """Look at all places in parallel. A place that can't be read is reported, never called empty."""
    found: list[Found] = []
    unreadable: list[tuple[Place, str]] = []
    with ThreadPoolExecutor(max_workers=min(16, max(1, len(places)))) as pool:
        for place, result in zip(places, pool.map(lambda place: _look(world, place), places), strict=True):
            if isinstance(result, StyxError):
                unreadable.append((place, result.message))
            else:
                found.extend(_unremembered(world, place, *result))
    abandoned = tuple(row for row in world.store.clusters() if is_abandoned(world, row))
    return Survey(tuple(found), abandoned, tuple(unreadable))


def _look(world: World, place: Place) -> tuple[Sequence[Node], Sequence[Leftover]] | StyxError:
    try:
        driver = world.provisioner(place.cloud)
        return driver.nodes(place, None), driver.leftovers(place)
    except StyxError as error:
        return error


def _unremembered(world: World, place: Place, nodes: Sequence[Node], leftovers: Sequence[Leftover]) -> Iterable[Found]:
    for node in living(nodes):
        row = world.store.cluster_by_key(node.cluster)
        if row is None or row.state is ClusterState.TERMINATED or is_abandoned(world, row):
            yield Found(node.id, "node", place, node.cluster, row, node.usd_per_hour, node.created_at)
    for thing in leftovers:
        row = world.store.cluster_by_key(thing.cluster) if thing.cluster else None
        if row is None or row.state is ClusterState.TERMINATED or is_abandoned(world, row):
            yield Found(thing.id, thing.kind, place, thing.cluster, row, thing.usd_per_hour, thing.created_at)


def end(world: World, seen: Survey) -> dict[tuple[Place, str | None], StyxError]:
    """End all that the survey found. Returns the errors by place and cluster key; what failed is still there."""
    errors: dict[tuple[Place, str | None], StyxError] = {}
    for row in seen.abandoned:
        try:
            teardown.down(world, row, lambda _: None)
        except StyxError as error:
            errors.update({(place, row.key): error for place in teardown.places_tried(world, row)})
    ended = {row.key for row in seen.abandoned}
    for place, key in dict.fromkeys((each.place, each.key) for each in seen.found):
        if key is None or key in ended:
            continue
        try:
            remove(world, place, key)
            _close(world, place, key)
        except StyxError as error:
            errors[place, key] = error
    return errors


def _close(world: World, place: Place, key: str) -> None:
    world.store.close_rates(key, world.now())
    for attempt in world.store.attempts(key):
        if attempt.place == place and attempt.state != "released":
            world.store.update_attempt(attempt.id, {"state": "released"})
