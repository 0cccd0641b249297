"""Whether a cluster that exists is what a task asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from styx.driver import Place
from styx.errors import UnsupportedError, WrongState
from styx.provision import ledger, planning, zones
from styx.provision.world import World
from styx.state.rows import ClusterRow

if TYPE_CHECKING:
    from styx.models import Task
    from styx.optimizer.problem import Requirement


def check_fit(world: World, row: ClusterRow, task: Task, *, hint: str | None = None) -> None:
    """Refuse to re-use a cluster that is smaller than what the task asks for, or elsewhere.

    Args:
        world: Its cloud.
        row: The cluster.
        task: What to run there.
        hint: What to do about it; without one, that a launch may take another name.

    Raises:
        WrongState: With every reason.
    """
    from styx.optimizer.fit import reuse_reasons

    offer = ledger.offer_of(row)
    if offer is None or row.place is None:
        return
    place = _where(row)
    reasons = reuse_reasons(
        [_there(world, planning.requirement(each), place) for each in task.resources.alternatives()],
        need_nodes=task.num_nodes,
        have_nodes=row.num_nodes,
        offer=offer,
        place=place,
        features=offer.features or world.cloud(row.place.cloud).features,
    )
    if reasons:
        raise WrongState(
            f"cluster {row.name} does not fit: {'; '.join(reasons)}",
            hint=hint or f"choose another name with -c, or end it first: `styx down {row.name}`",
        )


def _where(row: ClusterRow) -> Place:
    """Where a cluster is, with the zone that all its machines came to be in."""
    assert row.place is not None
    seen = {node.place.zone for node in row.nodes}
    return row.place.model_copy(update={"zone": seen.pop()}) if len(seen) == 1 and not row.place.zone else row.place


def _there(world: World, wanted: Requirement, place: Place) -> Requirement:
    """A requirement of a cluster that exists: with its cloud's own name of the zone, which must be known to be that."""
    if not wanted.zone or wanted.cloud not in (None, place.cloud) or wanted.region not in (None, place.region):
        return wanted
    try:
        zone = zones.zone_named(world, place, wanted.zone)
    except UnsupportedError:
        zone = None
    return wanted.model_copy(update={"zone": zone or wanted.zone})
