"""Clusters that have outlived their lease because nothing ended them: machines that can't, or that failed to.

A node judges its own lease. Where its end stops no charge (`SelfEnd`), the lease holds only while somebody looks:
commands such as `status` and `launch` name the clusters that are overdue, and `styx status --refresh` and
`styx sweep --delete` do what the lease says.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from styx.driver import SelfEnd
from styx.errors import StyxError
from styx.provision import leases, ledger, teardown
from styx.provision.hearing import Answer
from styx.provision.world import World
from styx.state.ledger import cost_of
from styx.state.rows import ClusterRow, ClusterState
from styx.units import format_duration

GRACE_S: Final = 900.0
"""How long after its lease a node that can end itself is left to do so."""
END_S: Final = 120.0
"""How long a cloud may take to confirm the end of an overdue cluster."""


def by_record(row: ClusterRow, usd_spent: float, now: datetime, *, grace_s: float = 0.0) -> str | None:
    """Why a running cluster is overdue, as far as its record tells; None when it is not.

    Idleness, and how long no client was seen, only the nodes know.

    Args:
        row: The cluster.
        usd_spent: What is known of its cost.
        now: The time.
        grace_s: How long ago its lease must have ended.
    """
    if row.state is not ClusterState.UP:
        return None
    age_s, limit_s = (now - row.created_at).total_seconds(), row.lease.get("max_age_s")
    if limit_s is not None and age_s >= limit_s + grace_s:
        return f"it is older than {format_duration(limit_s)}"
    limit_usd = row.lease.get("max_usd")
    grace_usd = (row.usd_per_hour or 0.0) * grace_s / 3600
    if limit_usd is not None and usd_spent >= limit_usd + grace_usd:
        return f"it has cost ${limit_usd:g}"
    return None


def by_nodes(answers: Iterable[Answer]) -> str | None:
    """Why a cluster is overdue, as a node says that can't end itself."""
    over = (answer.lease.get("reason") for answer in answers if answer.lease.get("ending"))
    return next((f"a node says: {reason}" for reason in over if reason), None)


def why(world: World, row: ClusterRow, answers: Iterable[Answer] = ()) -> str | None:
    """Why it falls to us to end a cluster; None within its lease, and while its nodes are left to end themselves."""
    if row.state is not ClusterState.UP or row.place is None or not leases.is_limited(row.lease):
        return None
    spent = cost_of(world.store.rates(cluster=row.key), world.now()).usd_known if row.lease.get("max_usd") else 0.0
    said = by_nodes(answers)
    reason = by_record(row, spent, world.now())
    if said is None and reason is None:
        return None
    if not _ends_itself(world, row):
        return reason or said
    return by_record(row, spent, world.now(), grace_s=GRACE_S)


def _ends_itself(world: World, row: ClusterRow) -> bool:
    """Whether the nodes can end their own charge; not known counts as yes, for then they get their time."""
    try:
        driver = world.provisioner(row.place.cloud) if row.place else None
        if driver is None or driver.cloud.free or not row.nodes:
            return True
        end: SelfEnd = driver.self_action(row.nodes[0], action_of(world, row))
    except StyxError:
        return True
    return end.kind != "none" and end.stops_billing


def action_of(world: World, row: ClusterRow) -> str:
    """What the end of its lease means for a cluster: `stop` or `down`."""
    assert row.place is not None
    driver = world.provisioner(row.place.cloud)
    offer = ledger.offer_of(row)
    features = (offer.features if offer else None) or driver.cloud.features
    return leases.action_of(row.lease, features, can_stop=driver.can_stop)


def end(world: World, row: ClusterRow, reason: str, quiesce: teardown.Quiesce) -> None:
    """Do what the lease of an overdue cluster says.

    Raises:
        WrongState: Another client took it up meanwhile.
        StyxError: It could not be done; the record says what remains.
    """
    world.tell(row.key, teardown.operation("lease"), "lease", "note", f"{row.name} is overdue: {reason}")
    if action_of(world, row) == "stop":
        teardown.stop(world, row, quiesce)
    else:
        teardown.down(world, row, quiesce, deadline_s=END_S, only={ClusterState.UP})


def told(row: ClusterRow, reason: str) -> str:
    """What commands say of an overdue cluster that they leave alone."""
    return (
        f"overdue: {reason}, and its machines have not ended themselves; `styx status --refresh`, "
        f"`styx sweep --delete` or `styx down {row.name}` ends them"
    )


def remind(world: World) -> list[str]:
    """A line for each overdue cluster of the workspace, from the record alone: asks nobody."""
    found = [(row, why(world, row)) for row in world.store.clusters(workspace=world.workspace)]
    return [f"{row.name} is {told(row, reason)}" for row, reason in found if reason]
