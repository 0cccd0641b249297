"""What a planner is asked, and what it answers."""

from __future__ import annotations

from styx.driver import CatalogRow, Place, Value


class Requirement(Value):
    """One alternative of a task's resources, in the planner's terms. Numbers are minima unless `exact`."""

    label: str
    """As the user wrote it, for messages."""
    cloud: str | None = None
    region: str | None = None
    zone: str | None = None
    instance_type: str | None = None
    accelerator_name: str | None = None
    accelerator_count: float = 0
    accelerator_memory_gib: float | None = None
    vcpus: float | None = None
    vcpus_exact: bool = False
    memory_gib: float | None = None
    memory_exact: bool = False
    memory_per_vcpu: float | None = None
    disk_gib: float | None = None
    use_spot: bool = False
    max_usd_per_hour: float | None = None
    ports: bool = False
    image: bool = False
    docker: bool = False
    network_tier: str | None = None
    arch: str | None = None


class Problem(Value):
    """One task to place."""

    task: str
    """Its name."""
    num_nodes: int = 1
    alternatives: tuple[Requirement, ...]
    ordered: bool = False
    """Alternatives in order of preference; otherwise the cheapest wins."""
    enabled: tuple[Place, ...]
    """Where machines may be made."""
    blocked: tuple[Place, ...] = ()
    """Places that refused in this launch."""


class Choice(Value):
    """One offer in one place."""

    place: Place
    offer: CatalogRow
    usd_per_hour: float | None
    """For all nodes together; None is unknown."""
    requirement: str
    """Label of the alternative it answers."""


class Loser(Value):
    """Why something was not chosen."""

    what: str
    reason: str


class Plan(Value):
    """Ranked choices, best first; empty when nothing fits, and then `losers` says why."""

    task: str
    choices: tuple[Choice, ...]
    losers: tuple[Loser, ...] = ()
