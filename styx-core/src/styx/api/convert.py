"""From what the store and the agents say to what callers see."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from styx.api.views import CheckView, ClusterView, JobView, Orphan, PermissionsView, PlannedOffer
from styx.driver import CatalogRow, Endpoint, NodeState, Permissions
from styx.errors import StyxError
from styx.state.ledger import Cost
from styx.state.rows import CheckRow, ClusterRow, ClusterState, JobRow

if TYPE_CHECKING:
    from styx.optimizer.problem import Choice
    from styx.provision.sweep import Found


def accelerators_of(offer: CatalogRow) -> str | None:
    """`H100:8`, or None."""
    if not offer.accelerator_name:
        return None
    return f"{offer.accelerator_name}:{offer.accelerator_count:g}"


def shape_of(offer: CatalogRow) -> str:
    """A machine in a few words: type, processors, memory, accelerators."""
    parts = [
        offer.instance_type,
        f"{offer.vcpus:g} cpus" if offer.vcpus is not None else None,
        f"{offer.memory_gib:g} GiB" if offer.memory_gib is not None else None,
        accelerators_of(offer),
        None if offer.market.value == "on_demand" else offer.market.value,
    ]
    return ", ".join(part for part in parts if part)


def cluster_view(row: ClusterRow, cost: Cost | None) -> ClusterView:
    """One cluster for `status`."""
    offer = CatalogRow.model_validate(row.offer) if row.offer else None
    endpoints = {port: _url(each) for node in row.nodes for port, each in node.endpoints.items()}
    return ClusterView(
        name=row.name,
        key=row.key,
        state=_shown(row),
        infra=str(row.place) if row.place else "-",
        nodes=row.num_nodes,
        resources=shape_of(offer) if offer else "-",
        usd_per_hour=row.usd_per_hour,
        usd_so_far=cost.usd if cost else None,
        lease={name: value for name, value in row.lease.items() if value is not None},
        user=row.owner,
        workspace=row.workspace,
        created_at=row.created_at,
        last_use_at=row.last_use_at,
        seen_at=row.seen_at,
        note=row.note,
        endpoints=endpoints,
        ips=tuple(node.public_ip or node.private_ip or "" for node in row.nodes),
    )


def _shown(row: ClusterRow) -> ClusterState:
    silent = any(node.state is NodeState.UNREACHABLE for node in row.nodes)
    return ClusterState.UNREACHABLE if silent and row.state is ClusterState.UP else row.state


def _url(endpoint: Endpoint) -> str:
    return endpoint.url or f"{endpoint.host}:{endpoint.port}"


def job_view(name: str, row: JobRow) -> JobView:
    """One job for `queue`."""
    fields = row.model_dump(exclude={"cluster", "task_id"})
    return JobView(cluster=name, **fields)


def planned(choice: Choice, *, free: bool) -> PlannedOffer:
    """One row of the plan."""
    offer = choice.offer
    return PlannedOffer(
        place=choice.place,
        instance_type=offer.instance_type,
        vcpus=offer.vcpus,
        memory_gib=offer.memory_gib,
        accelerators=accelerators_of(offer),
        market=offer.market.value,
        usd_per_hour=choice.usd_per_hour,
        free=free,
        as_of=offer.as_of,
        source=offer.source or "",
    )


def check_view(row: CheckRow) -> CheckView:
    """One checked cloud."""
    return CheckView(
        cloud=row.cloud,
        ok=row.ok,
        account=row.account,
        message=row.message,
        hint=row.hint,
        places=tuple(str(place) for place in row.places),
        checked_at=row.checked_at,
    )


def permissions_view(cloud: str, found: Permissions | None) -> PermissionsView:
    """What one cloud's credentials may do."""
    if found is None:
        return PermissionsView(cloud=cloud, checked=False, message="its driver has no such check")
    return PermissionsView(
        cloud=cloud,
        checked=True,
        missing=found.missing,
        unknown=found.unknown,
        granted=len(found.granted),
        policy=found.policy,
    )


def orphan(found: Found, *, free: bool, now: datetime, deleted: bool, error: StyxError | None) -> Orphan:
    """One thing that nobody remembers, with its age and what it cost so far."""
    spent = None
    if found.usd_per_hour is not None and found.created_at is not None:
        spent = found.usd_per_hour * (now - found.created_at).total_seconds() / 3600
    return Orphan(
        id=found.id,
        kind=found.kind,
        place=found.place,
        cluster_key=found.key,
        cluster=found.row.name if found.row else None,
        usd_per_hour=found.usd_per_hour,
        usd_so_far=spent,
        created_at=found.created_at,
        free=free,
        why=found.why,
        deleted=deleted and error is None,
        error=error.message if error else None,
    )
