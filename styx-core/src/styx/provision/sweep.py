"""Finds machines and leftovers that carry this installation's key and that no live cluster remembers, and ends them.

Drivers never show machines without our key, so nothing foreign can be listed here, let alone touched. Places are looked
at in parallel, and nothing is waited for longer than its deadline: a cloud that does not answer keeps no other waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from styx.driver import Leftover, Node, Place
from styx.errors import DeadlineExceeded, NotExecutable, StyxError, WrongState
from styx.parallel import in_parallel
from styx.provision import leases, overdue, reconcile, teardown
from styx.provision.removal import living, patiently, quietly, remove
from styx.provision.world import World, holder_is_dead
from styx.state.rows import ClusterRow, ClusterState

ABANDONED = frozenset({ClusterState.INIT, ClusterState.TERMINATING})
"""Half-made or half-ended states: when their client is gone, nobody waits for these machines. STOPPING and STARTING are
not among them: their disks hold what the user wanted to keep."""
SETTLED = frozenset({ClusterState.UP, ClusterState.STOPPED})
"""States in which the record names every machine that there should be."""
LOOK_S: Final = 45.0
"""How long one place may take to be listed."""
END_S: Final = 180.0
"""How long a place may take to confirm that what was found there is gone."""
AT_ONCE: Final = 16


@dataclass(frozen=True)
class Found:
    """One thing that nobody remembers.

    Attributes:
        row: The cluster whose key it carries, when there is a record of it.
        stray: The cluster lives, but this is none of its machines: only this one is ended, never by the key.
        overdue: The cluster lives, and should not: why its lease has run out.
    """

    id: str
    kind: str
    place: Place
    key: str | None
    row: ClusterRow | None
    usd_per_hour: float | None
    created_at: datetime | None
    thing: Node | Leftover
    stray: bool = False
    overdue: str | None = None

    @property
    def why(self) -> str:
        """Why it is here."""
        if self.overdue is not None:
            return f"overdue: {self.overdue}"
        if self.stray:
            return "not a machine of the cluster that it names"
        if self.row is None:
            return "in no record of this installation"
        if self.row.state is ClusterState.TERMINATED:
            return "its cluster has ended"
        return "its client is gone"


@dataclass(frozen=True)
class Survey:
    """What a look at the clouds showed."""

    found: tuple[Found, ...]
    abandoned: tuple[ClusterRow, ...]
    """Clusters whose launch or down died with its client, with or without machines."""
    unreadable: tuple[tuple[Place, str], ...]


def is_abandoned(world: World, row: ClusterRow) -> bool:
    """Whether the client that was making or ending this cluster is gone."""
    return row.state in ABANDONED and not _is_held(world, row)


def _is_held(world: World, row: ClusterRow) -> bool:
    if row.holder is None or holder_is_dead(row.holder):
        return False
    return row.lease_until > world.timestamp()


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
    found: dict[tuple[str, str, str, str], Found] = {}
    unreadable: list[tuple[Place, str]] = []
    looks = in_parallel(lambda place: _look(world, place), places, at_once=AT_ONCE)
    for place, result in zip(places, looks, strict=True):
        if isinstance(result, StyxError):
            unreadable.append((place, result.message))
            continue
        for each in _unremembered(world, place, *result):
            # A region and its zone may both be looked at: each thing counts once.
            found.setdefault((each.place.cloud, each.place.account, each.kind, each.id), each)
    for each in _overdue(world, places):
        found.setdefault((each.place.cloud, each.place.account, each.kind, each.id), each)
    abandoned = tuple(row for row in world.store.clusters() if is_abandoned(world, row))
    return Survey(tuple(found.values()), abandoned, tuple(unreadable))


def _overdue(world: World, places: Sequence[Place]) -> Iterable[Found]:
    """Machines of clusters that should have ended by their lease, and that nothing but us ends."""
    looked = {(place.cloud, place.account, place.region) for place in places}
    rows = [
        row
        for row in world.store.clusters()
        if row.state is ClusterState.UP
        and row.place is not None
        and (row.place.cloud, row.place.account, row.place.region) in looked
        and leases.is_limited(row.lease)
    ]

    def judge(row: ClusterRow) -> tuple[ClusterRow, str | None]:
        row, answers = reconcile.look(world, row)
        return row, overdue.why(world, row, answers)

    for row, reason in in_parallel(judge, rows, at_once=AT_ONCE):
        for node in row.nodes if reason else ():
            price = node.usd_per_hour
            yield Found(node.id, "node", node.place, row.key, row, price, row.created_at, node, overdue=reason)


def _look(world: World, place: Place) -> tuple[Sequence[Node], Sequence[Leftover]] | StyxError:
    deadline = world.timestamp() + LOOK_S
    try:
        driver = world.provisioner(place.cloud)
        nodes = patiently(world, deadline, lambda: driver.nodes(place, None))
        return nodes, patiently(world, deadline, lambda: driver.leftovers(place))
    except StyxError as error:
        return error


def _unremembered(world: World, place: Place, nodes: Sequence[Node], leftovers: Sequence[Leftover]) -> Iterable[Found]:
    alive = living(nodes)
    ids = {node.id for node in alive}
    for node in alive:
        row = world.store.cluster_by_key(node.cluster)
        forgotten = _is_forgotten(world, row)
        if forgotten or (row is not None and is_stray(node, row, ids) and not _is_held(world, row)):
            price = node.usd_per_hour
            yield Found(node.id, "node", place, node.cluster, row, price, node.created_at, node, stray=not forgotten)
    for thing in leftovers:
        row = world.store.cluster_by_key(thing.cluster) if thing.cluster else None
        if _is_forgotten(world, row):
            price = thing.usd_per_hour
            yield Found(thing.id, thing.kind, place, thing.cluster, row, price, thing.created_at, thing)


def _is_forgotten(world: World, row: ClusterRow | None) -> bool:
    return row is None or row.state is ClusterState.TERMINATED or is_abandoned(world, row)


def is_stray(node: Node, row: ClusterRow, listed: Iterable[str]) -> bool:
    """Whether a machine carries the key of a settled cluster without being one of its machines.

    It is when it lies elsewhere, or when the cluster's own machine of that rank is listed, too. A machine that only has
    another id than we remember may have been started from outside, and is never called stray.

    Args:
        node: As the cloud lists it.
        row: The cluster that it names.
        listed: Ids of all living machines of the same listing.
    """
    if row.state not in SETTLED or row.place is None or node.id in {known.id for known in row.nodes}:
        return False
    if (node.place.cloud, node.place.account, node.place.region) != (
        row.place.cloud,
        row.place.account,
        row.place.region,
    ):
        return True
    own = {known.id for known in row.nodes if known.rank == node.rank}
    return bool(own & set(listed))


@dataclass(frozen=True)
class Outcome:
    """What could not be ended.

    Attributes:
        things: Errors by cloud and id.
        clusters: Those of half-made and half-ended clusters of which nothing was found, by name.
    """

    things: Mapping[tuple[str, str], StyxError]
    clusters: Mapping[str, StyxError]


def end(world: World, seen: Survey, quiesce: teardown.Quiesce) -> Outcome:
    """End all that the survey found, place by place in parallel.

    Args:
        world: What we act on.
        seen: The survey.
        quiesce: Keeps the logs of living clusters that are overdue.
    """
    dead = {(place.cloud, place.account, place.region) for place, _ in seen.unreadable}

    def close(row: ClusterRow) -> StyxError | None:
        if any((place.cloud, place.account, place.region) in dead for place in teardown.places_tried(world, row)):
            return DeadlineExceeded(f"{row.name} was left as it is: one of its places can't be listed")
        return quietly(lambda: teardown.down(world, row, lambda _: None, deadline_s=END_S, only=ABANDONED))

    def expire(each: Found) -> StyxError | None:
        row, reason = each.row, each.overdue or ""
        return quietly(lambda: overdue.end(world, row, reason, quiesce)) if row is not None else None

    late = {each.key: each for each in seen.found if each.overdue is not None}
    closed = in_parallel(close, seen.abandoned, at_once=AT_ONCE)
    expired = in_parallel(expire, list(late.values()), at_once=AT_ONCE)
    ended: dict[str | None, StyxError | None] = dict(zip(late, expired, strict=True))
    ended |= {row.key: error for row, error in zip(seen.abandoned, closed, strict=True)}

    errors: dict[tuple[str, str], StyxError] = {}
    groups: dict[tuple[Place, str | None], list[Found]] = {}
    for each in seen.found:
        if each.key in ended and not each.stray:
            if (failure := ended[each.key]) is not None:
                errors[each.place.cloud, each.id] = failure
            continue
        groups.setdefault((each.place, each.key), []).append(each)
    failed = in_parallel(lambda item: _end_group(world, *item), list(groups.items()), at_once=AT_ONCE)
    for things, failures in zip(groups.values(), failed, strict=True):
        errors.update({(each.place.cloud, each.id): failures[each.id] for each in things if each.id in failures})
    shown = {each.key for each in seen.found if not each.stray}
    hidden = {row.name: ended[row.key] for row in seen.abandoned if row.key not in shown}
    return Outcome(errors, {name: error for name, error in hidden.items() if error is not None})


def _end_group(world: World, where: tuple[Place, str | None], things: Sequence[Found]) -> dict[str, StyxError]:
    """End what carries one key in one place; the errors by id."""
    place, key = where
    errors: dict[str, StyxError] = {}
    strays = [each for each in things if each.stray]
    for each in strays:
        if error := quietly(lambda each=each: _end_stray(world, each)):  # type: ignore[misc] # bound at once
            errors[each.id] = error
    rest = [each for each in things if not each.stray]
    if not rest:
        return errors
    if key is not None:
        if error := quietly(lambda: remove(world, place, key, deadline_s=END_S)):
            return errors | {each.id: error for each in rest}
        _close(world, place, key)
    return errors | _discard(world, place, [each.thing for each in rest if isinstance(each.thing, Leftover)])


def _end_stray(world: World, each: Found) -> None:
    assert isinstance(each.thing, Node)
    node = each.thing
    row = world.store.cluster_by_key(node.cluster)
    if row is not None and node.id in {known.id for known in row.nodes}:
        raise WrongState(f"{node.id} was left as it is: {row.name} has taken it up meanwhile")
    driver = world.provisioner(each.place.cloud)
    deadline = world.timestamp() + END_S
    patiently(world, deadline, lambda: driver.terminate([node]))
    pause_s = 0.05
    while any(one.id == node.id for one in living(patiently(world, deadline, lambda: driver.nodes(each.place, None)))):
        if world.timestamp() > deadline:
            raise DeadlineExceeded(f"{each.place} has not confirmed the end of {node.id} in time")
        world.sleep(min(pause_s, driver.cloud.limits.min_poll_s))
        pause_s *= 2
    if each.row is not None:
        world.store.close_rates(each.row.key, world.now(), node=node.id)


def _discard(world: World, place: Place, things: Sequence[Leftover]) -> dict[str, StyxError]:
    """Remove leftovers that a release of the cluster has not, and see that they are gone."""
    errors: dict[str, StyxError] = {}
    if not things:
        return errors
    driver = world.provisioner(place.cloud)
    deadline = world.timestamp() + END_S

    def still() -> set[str]:
        return {one.id for one in patiently(world, deadline, lambda: driver.leftovers(place))}

    try:
        left = still()
        for thing in things:
            if thing.id in left:
                error = quietly(lambda thing=thing: patiently(world, deadline, lambda: driver.discard(thing)))  # type: ignore[misc] # bound at once
                if error is not None:
                    errors[thing.id] = error
        left = still()
    except StyxError as error:
        return {thing.id: error for thing in things}
    for thing in things:
        if thing.id in left:
            errors.setdefault(thing.id, DeadlineExceeded(f"{place} still lists {thing.kind} {thing.id}"))
    return errors


def _close(world: World, place: Place, key: str) -> None:
    world.store.close_rates(key, world.now())
    for attempt in world.store.attempts(key):
        if attempt.place == place and attempt.state != "released":
            world.store.update_attempt(attempt.id, {"state": "released"})
