"""What a planner is asked, and what it answers."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

from pydantic import Field

from styx.driver import CatalogRow, Place, Value
from styx.models.accelerators import answering
from styx.units import number_text

_ANY: Final = (None, "*", "")


class Selector(Value):
    """Some offers: each field that is set must match; `*` and None match all."""

    cloud: str | None = None
    account: str | None = None
    region: str | None = None
    zone: str | None = None
    instance_type: str | None = None
    accelerator: str | None = None
    market: str | None = None

    def covers(self, place: Place, row: CatalogRow) -> bool:
        """Whether the offer in that place is one of them."""
        return (
            (self.cloud in _ANY or self.cloud == place.cloud)
            and (self.region in _ANY or self.region == place.region)
            and (self.zone in _ANY or self.zone == (place.zone or row.zone))
            and (self.account in _ANY or self.account == place.account)
            and (self.instance_type in _ANY or self.instance_type == row.instance_type)
            and (self.market in _ANY or self.market == row.market)
            and (self.accelerator in _ANY or (row.accelerator_name or "").lower() in _names(str(self.accelerator)))
        )

    def __str__(self) -> str:
        where = "/".join(part or "*" for part in (self.cloud, self.region, self.zone)).rstrip("/*")
        what = (self.instance_type, self.accelerator, self.market and self.market.replace("_", "-"))
        return " ".join(part for part in (where, *what) if part) or "everything"


@lru_cache(maxsize=256)
def _names(accelerator: str) -> frozenset[str]:
    """Names of what goes by this one, in lower case: an `H100-SXM` is an `H100` as well."""
    return frozenset(name.lower() for name in (accelerator, *answering(accelerator)))


class Preference(Value):
    """A wish with a price: offers it covers count as dearer (or, below zero, cheaper) than they are.

    It steers the choice and is part of no total.
    """

    where: Selector
    usd_per_hour: float = 0.0
    """For each node."""
    fraction: float = Field(default=0.0, ge=-1.0)
    """Of what is paid for the offer, on top: nothing for what is reserved. Below -1 the dearest would win."""
    why: str = ""
    """For explanations."""

    def penalty(self, usd_per_hour: float | None, num_nodes: int) -> float:
        """US dollars per hour for all nodes of an offer for which so much is paid."""
        return self.usd_per_hour * num_nodes + self.fraction * (usd_per_hour or 0.0)


class Limit(Value):
    """What all tasks that may run at the same time can use together."""

    label: str
    """As the user would name it."""
    of: Literal["vcpus", "accelerators", "nodes"] = "vcpus"
    most: float = Field(ge=0)
    where: Selector = Selector()


class Reservation(Value):
    """Nodes that are paid for already: using them costs nothing more."""

    where: Selector
    nodes: int = Field(ge=0)


class Least(Value):
    """The size below which no machine is chosen for a task that asks for none. What is not known may be enough."""

    vcpus: float | None = None
    memory_gib: float | None = None
    spared: tuple[str, ...] = ()
    """Clouds whose machines exist already, or are made to the task's measure: whatever they offer will do."""

    def __str__(self) -> str:
        vcpus = f"{number_text(self.vcpus)} vCPUs" if self.vcpus else None
        memory = f"{number_text(self.memory_gib)} GiB of memory" if self.memory_gib else None
        return " and ".join(part for part in (vcpus, memory) if part)


class Requirement(Value):
    """One alternative of a task's resources, in the planner's terms. Numbers are minima unless `exact`."""

    label: str
    """As the user wrote it, for messages."""
    cloud: str | None = None
    region: str | None = None
    zone: str | None = None
    """As the user wrote it."""
    zones: tuple[tuple[str, str, str], ...] = ()
    """Cloud, region and its own name of `zone`, where machines can be held to one: rows without a zone sell it, too."""
    instance_type: str | None = None
    accelerator_name: str | None = None
    accelerator_count: float = 0
    accelerator_memory_gib: float | None = None
    """Of one accelerator."""
    accelerator_memory_exact: bool = False
    accelerator_vendor: str | None = None
    vcpus: float | None = None
    vcpus_exact: bool = False
    memory_gib: float | None = None
    memory_exact: bool = False
    memory_per_vcpu: float | None = None
    disk_gib: float | None = None
    disk_tier: bool = False
    """A root disk of a tier that the user chose."""
    volumes: bool = False
    """Named volumes."""
    local_disk_gib: float | None = None
    """Of all disks inside the machine."""
    local_disk_exact: bool = False
    local_disk_kind: Literal["nvme", "ssd"] | None = None
    """An `nvme` disk is an `ssd` as well."""
    use_spot: bool = False
    max_usd_per_hour: float | None = None
    ports: bool = False
    image: bool = False
    image_regions: tuple[str, ...] = ()
    """The only regions that the image is named for; empty: any."""
    docker: bool = False
    network_tier: str | None = None
    arch: str | None = None
    least: Least | None = None
    """Of a task that asks for no size."""

    def zone_in(self, cloud: str, region: str) -> str | None:
        """What a region calls the zone that is asked for, if its machines can be held to one."""
        return next((zone for *where, zone in self.zones if where == [cloud, region]), None)

    def in_zone(self, row: CatalogRow) -> bool:
        """Whether a row sells the zone that is asked for, if one is."""
        if not self.zones:
            return self.zone in (None, row.zone)
        zone = self.zone_in(row.cloud, row.region)
        return zone is not None and row.zone in (None, zone)


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
    preferences: tuple[Preference, ...] = ()
    """Wishes and remembered refusals: offers are ranked by their price with these added."""


class Choice(Value):
    """One offer in one place."""

    place: Place
    offer: CatalogRow
    usd_per_hour: float | None
    """For all nodes together; None is unknown."""
    requirement: str
    """Label of the alternative it answers."""
    more_usd: float | None = None
    """In a graph's plan: how much more the whole plan would cost with it; None is unknown or not asked."""
    usd: float | None = None
    """In a graph's plan: machines, and transfers from and to outside the graph."""
    seconds: float | None = None
    """In a graph's plan: run time, with those transfers."""


class Loser(Value):
    """Why something was not chosen."""

    what: str
    reason: str


class Plan(Value):
    """Ranked choices, best first; empty when nothing fits, and then `losers` says why."""

    task: str
    choices: tuple[Choice, ...]
    losers: tuple[Loser, ...] = ()
