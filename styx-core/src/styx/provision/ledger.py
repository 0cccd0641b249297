"""Writes down what nodes are charged, as their states change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from styx.driver import CatalogRow, Node, NodeState
from styx.provision.world import World
from styx.state.rows import ClusterRow, Rate

if TYPE_CHECKING:
    from styx.models import Resources

CHARGED = frozenset({NodeState.PENDING, NodeState.RUNNING, NodeState.UNREACHABLE, NodeState.STOPPING})
"""States in which a cloud may charge for a machine; a doubt counts as charged."""


def offer_of(row: ClusterRow) -> CatalogRow | None:
    """The offer that the cluster was made from."""
    return CatalogRow.model_validate(row.offer) if row.offer else None


def offered_usd_per_hour(row: ClusterRow) -> float | None:
    """What all of the cluster's nodes cost together, as offered; None is unknown."""
    price = (row.offer or {}).get("usd_per_hour")
    return float(price) * row.num_nodes if price is not None else None


def as_made(row: ClusterRow, nodes: Sequence[Node], asked: Resources | None = None) -> dict[str, Any]:
    """The resources of record, with the disk that the machines really have: its size is charged, whatever was asked."""
    made: dict[str, Any] = {} if asked is None else {"disk_size": asked.disk_size, "disk_tier": asked.disk_tier}
    sizes = {node.disk_gib for node in nodes} - {None}
    if len(sizes) == 1:
        made["disk_size"] = sizes.pop()
    return row.resources | made


def rate_of(node: Node, offer: dict[str, Any] | None) -> float | None:
    """What one node is charged per hour: as the cloud reports it, else as it was offered; None is unknown."""
    if node.usd_per_hour is not None:
        return node.usd_per_hour
    price = (offer or {}).get("usd_per_hour")
    return float(price) if price is not None else None


def follow(world: World, row: ClusterRow, nodes: Sequence[Node]) -> None:
    """Open and close intervals so that the ledger agrees with the nodes as they are seen now. Idempotent."""
    now = world.now()
    known = world.store.rates(cluster=row.key)
    running = {rate.node: rate for rate in known if rate.end is None}
    ended = sorted((rate.end, rate.rank) for rate in known if rate.end is not None)
    paused = {rank: end for end, rank in ended}  # by rank: a started machine may have another id
    for node in nodes:
        open_rate = running.pop(node.id, None)
        if node.state not in CHARGED:
            if open_rate is not None:
                world.store.close_rates(row.key, now, node=node.id)
            continue
        price = rate_of(node, row.offer)
        if open_rate is None or open_rate.usd_per_hour != price:
            world.store.open_rate(
                Rate(
                    cluster=row.key,
                    node=node.id,
                    rank=node.rank,
                    place=node.place,
                    usd_per_hour=price,
                    start=now if open_rate else _since(node, paused.get(node.rank), now),
                    reported=node.usd_per_hour is not None,
                )
            )
    for gone in running:
        world.store.close_rates(row.key, now, node=gone)


def _since(node: Node, paused_at: datetime | None, now: datetime) -> datetime:
    """Since when a node without an open interval is charged; after a stop that is not its birth once more."""
    began = node.created_at or now
    return began if paused_at is None or began >= paused_at else now
