"""What the configuration says of places, in the planner's terms; what live clusters use is taken off. Asks no cloud."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from styx.driver import CatalogRow, Place
from styx.models.infra import KNOWN_CLOUDS
from styx.models.suggest import did_you_mean
from styx.optimizer.problem import Limit, Preference, Reservation, Selector
from styx.provision import ledger
from styx.state.rows import ClusterState
from styx.units import number_text

if TYPE_CHECKING:
    from styx.models.placement import Where
    from styx.provision.world import World

_AT_WORK = (ClusterState.INIT, ClusterState.UP, ClusterState.STARTING, ClusterState.STOPPING)


@dataclass(frozen=True)
class Used:
    """What one live cluster has."""

    place: Place
    offer: CatalogRow
    nodes: int


@dataclass(frozen=True)
class Configured:
    """Everything that the configuration says of places."""

    preferences: tuple[Preference, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    limits: tuple[Limit, ...] = ()
    exclude: tuple[Selector, ...] = ()
    allow: tuple[Selector, ...] = ()


def configured(world: World) -> Configured:
    """The section `placement` of the configuration."""
    placement = world.config.placement
    _tell_of_unknown_clouds(world)
    used = _used(world) if placement.reserved or placement.quotas else ()
    return Configured(
        preferences=tuple(
            Preference(where=selector(each), usd_per_hour=each.usd_per_hour, fraction=each.percent / 100, why=each.why)
            for each in placement.prefer or ()
        ),
        reservations=tuple(
            reservation_left(Reservation(where=selector(each), nodes=each.nodes), used)
            for each in placement.reserved or ()
        ),
        limits=tuple(
            limit_left(Limit(label=each.name, of=each.of, most=each.most, where=selector(each)), used)
            for each in placement.quotas or ()
        ),
        exclude=tuple(selector(each) for each in placement.exclude or ()),
        allow=tuple(selector(each) for each in placement.only or ()),
    )


def _tell_of_unknown_clouds(world: World) -> None:
    """A misspelt cloud would be passed over in silence: an exclusion that excludes nothing."""
    for setting, cloud in _clouds_named(world):
        if cloud not in KNOWN_CLOUDS and cloud not in (known := _known_clouds(world)):
            near = did_you_mean(cloud, KNOWN_CLOUDS | known)
            told = f"{setting} names {cloud}, a cloud of which there is neither a plugin nor a catalog"
            world.hub.report(f"{told}; {near}" if near else told)


def _clouds_named(world: World) -> Iterator[tuple[str, str]]:
    for section in ("prefer", "reserved", "quotas", "exclude", "only"):
        for each in getattr(world.config.placement, section) or ():
            if each.infra and each.infra.cloud:
                yield f"placement.{section}", each.infra.cloud
    for budget in world.config.budgets:
        if cloud := budget.scope.partition(":")[2]:
            yield f'the budget "{budget.name}"', cloud


def _known_clouds(world: World) -> set[str]:
    from styx.catalog.cache import cached_clouds

    return {*world.hub.installed_clouds(), *cached_clouds(world.hub.folders.catalog_dir())}


def selector(where: Where) -> Selector:
    """The offers that an entry is about."""
    infra = where.infra
    fields: dict[str, Any] = {
        "cloud": infra.cloud if infra else None,
        "region": infra.region if infra else None,
        "zone": infra.zone if infra else None,
        "instance_type": where.instance_type,
        "accelerator": where.accelerator,
        "market": where.market,
    }
    return Selector(**fields)


def reservation_left(reservation: Reservation, used: Sequence[Used]) -> Reservation:
    """The reservation without the nodes that live clusters have. Pure."""
    taken = sum(each.nodes for each in used if reservation.where.covers(each.place, each.offer))
    return reservation.model_copy(update={"nodes": max(0, reservation.nodes - taken)})


def limit_left(limit: Limit, used: Sequence[Used]) -> Limit:
    """The limit without what live clusters use. Pure."""
    taken = sum(_amount(limit, each) for each in used if limit.where.covers(each.place, each.offer))
    if not taken:
        return limit
    label = f"{limit.label} of {number_text(limit.most)}, of which {number_text(taken)} are in use"
    return limit.model_copy(update={"most": max(0.0, limit.most - taken), "label": label})


def _amount(limit: Limit, used: Used) -> float:
    if limit.of == "nodes":
        return float(used.nodes)
    each = used.offer.accelerator_count if limit.of == "accelerators" else used.offer.vcpus
    return (each or 0.0) * used.nodes


def _used(world: World) -> tuple[Used, ...]:
    return tuple(_of(world))


def _of(world: World) -> Iterable[Used]:
    for row in world.store.clusters():
        offer = ledger.offer_of(row)
        if offer is not None and row.place is not None and row.state in _AT_WORK:
            yield Used(row.place, offer, row.num_nodes)
