"""Which offers the planner sees: live quotes, the embedded cloud's own rows, the catalog's candidates for the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Final

from styx.driver import CatalogRow, Cloud, FeatureSet, OfferQuery, Place, QuotesLive
from styx.errors import StyxError
from styx.provision.guard import call

if TYPE_CHECKING:
    from styx.optimizer.problem import Requirement
    from styx.provision.world import World

EMBEDDED: Final = "local"
QUOTE_DEADLINE_S: Final = 10.0
ROWS_DEADLINE_S: Final = 60.0
"""For the embedded cloud's rows."""
ALL: Final = 100_000
"""Offers per place when a plugin amends them: it may make any of them the cheapest, or forbid all others."""


def gather(
    world: World,
    places: Sequence[Place],
    alternatives: Sequence[Requirement],
    node_counts: Collection[int],
    *,
    keep: Collection[str] = (),
    apart: Collection[str] = (),
    more: int = 0,
) -> tuple[list[CatalogRow], dict[str, FeatureSet]]:
    """Offers in these places that answer an alternative, and what each cloud's machines can do.

    For an alternative that nothing answers, the offers that come nearest are there too, so that the reason can be told.
    A cloud whose offers can't be had is left out with a report, unless it is the only one.

    Args:
        world: Plugins and the catalog.
        places: Where machines may be made.
        alternatives: Of the task.
        node_counts: Of the clusters that ask for them; offers are there for each.
        keep: See `styx.catalog.query.Catalog.candidates`.
        apart: The same.
        more: How many offers to look for in each place beside the cheapest few: as many as were refused.
    """
    clouds = {name: world.cloud(name) for name in dict.fromkeys(place.cloud for place in places)}
    rows: list[CatalogRow] = []
    kept: list[Place] = []
    failure: StyxError | None = None
    for name, cloud in clouds.items():
        try:
            if isinstance(cloud, QuotesLive):
                rows += _quotes(world, cloud, alternatives)
            elif name == EMBEDDED:
                rows += _embedded(world)
            else:
                kept += [place for place in places if place.cloud == name]
        except StyxError as error:
            failure = failure or error
            world.hub.report(f"{cloud.display_name} gave no offers: {error.message}")
    if kept:
        try:
            rows += from_catalog(world, kept, alternatives, node_counts, keep, apart, more=more)
        except StyxError as error:
            failure = failure or error
            world.hub.report(f"no catalog could be read: {error.message}")
    if failure is not None and not rows:
        raise failure
    return rows, {name: cloud.features for name, cloud in clouds.items()}


def query(alternatives: Sequence[Requirement]) -> OfferQuery:
    """What all alternatives have in common; one alternative is asked for exactly."""
    if len(alternatives) > 1:
        return OfferQuery()
    only = alternatives[0]
    return OfferQuery(
        region=only.region,
        zone=only.zone,
        accelerator_name=only.accelerator_name,
        accelerator_count=only.accelerator_count,
        vcpus=only.vcpus,
        memory_gib=only.memory_gib,
    )


def from_catalog(
    world: World,
    places: Sequence[Place],
    alternatives: Sequence[Requirement],
    node_counts: Collection[int],
    keep: Collection[str],
    apart: Collection[str],
    *,
    more: int = 0,
) -> list[CatalogRow]:
    """The catalog's part of `gather`, for places of any cloud that has one."""
    from styx.catalog.query import PER_PLACE

    catalog = world.catalog()
    per_place = ALL if world.hub.amends_offers() else PER_PLACE + more
    found: dict[int, CatalogRow] = {}
    for wanted, nodes in product(alternatives, node_counts):
        rows = catalog.candidates(wanted, places, num_nodes=nodes, per_place=per_place, keep=keep, apart=apart)
        rows = rows or catalog.near_misses(wanted, places, num_nodes=nodes)
        found.update((id(row), row) for row in rows)  # the catalog hands out one object for one offer
    return list(found.values())


def _embedded(world: World) -> list[CatalogRow]:
    from styx.catalog.rows import rows_for

    return call(f"{EMBEDDED}.fetch", partial(rows_for, EMBEDDED, world.hub), ROWS_DEADLINE_S, world.observe)


def _quoted(world: World, cloud: Cloud, asked: OfferQuery) -> Sequence[CatalogRow]:
    assert isinstance(cloud, QuotesLive)
    ask = partial(cloud.offers, asked, QUOTE_DEADLINE_S)
    return call(f"{cloud.name}.offers", ask, QUOTE_DEADLINE_S, world.observe)


def _quotes(world: World, cloud: Cloud, alternatives: Sequence[Requirement]) -> list[CatalogRow]:
    """Live quotes, one question for each alternative."""
    assert isinstance(cloud, QuotesLive)
    rows: dict[str, CatalogRow] = {}
    failure: StyxError | None = None
    for each in alternatives:
        if each.cloud not in (None, cloud.name):
            continue
        try:
            offers = _quoted(world, cloud, query([each]))
            if not offers:  # what comes nearest, so that the planner can tell what is lacking
                offers = _quoted(world, cloud, OfferQuery(region=each.region, zone=each.zone))
        except StyxError as error:
            failure = error
            world.hub.report(f"{cloud.display_name} gave no offers: {error.message}")
            continue
        rows.update({row.model_dump_json(): row for row in offers})
    if failure is not None and not rows:
        raise failure
    return list(rows.values())
