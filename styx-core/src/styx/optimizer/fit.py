"""Does a machine answer a requirement? Pure checks, shared by the planner and by the re-use of clusters.

A figure that is unknown never satisfies a minimum, a maximum or an exact wish that a task names; the least size of
tasks that name none refuses only what is known to be smaller. `disk_gib` is not checked: the root disk is made to that
size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from styx.driver import CatalogRow, FeatureSet, Market, Place
from styx.models.accelerators import GPU_MAKERS, answering
from styx.models.requests import DISK_KINDS, EXACT_WITHIN_GIB
from styx.optimizer.problem import Least, Requirement
from styx.units import number_text

SPOT_MARKETS: Final = frozenset({Market.SPOT, Market.BID})
"""Markets whose machines may be taken away."""


@dataclass(frozen=True)
class Check:
    """One thing that a requirement asks of a machine.

    Attributes:
        need: In words that follow "needs".
        passes: Whether a row will do.
        has: What a row has instead, in words that follow "has".
        rank: How near a row comes, for naming the nearest one; None when rows are not nearer or farther.
    """

    need: str
    passes: Callable[[CatalogRow], bool]
    has: Callable[[CatalogRow], str]
    rank: Callable[[CatalogRow], float] | None = None

    def reason(self, rows: Sequence[CatalogRow]) -> str:
        """`needs 8 x H100; the largest here has 4`, over rows that fail this check."""
        if self.rank is not None:
            return f"needs {self.need}; the nearest has {self.has(max(rows, key=self.rank))}"
        seen = sorted(dict.fromkeys(map(self.has, rows)), key=lambda text: text.startswith("no "))  # as they came
        shown = ", ".join(seen[:3]) + (", ..." if len(seen) > 3 else "")
        return f"needs {self.need}; there is {shown}"


def place_checks(wanted: Requirement) -> list[Check]:
    """Where: cloud, region and zone."""
    pairs = (("cloud", wanted.cloud), ("region", wanted.region))
    checks = [
        Check(
            f"{field} {value}",
            lambda row, field=field, value=value: getattr(row, field) == value,  # type: ignore[misc]
            lambda row, field=field: _where(field, row),  # type: ignore[misc]
        )
        for field, value in pairs
        if value is not None
    ]
    if wanted.image_regions:
        regions = ", ".join(wanted.image_regions)
        checks.append(
            Check(
                f"a region that image_id names an image for ({regions})",
                lambda row: row.region in wanted.image_regions,
                lambda row: _where("region", row),
            )
        )
    if wanted.zone is not None:
        checks.append(Check(f"zone {zone_text(wanted)}", wanted.in_zone, lambda row: _where("zone", row)))
    return checks


def zone_text(wanted: Requirement) -> str:
    """The zone that is asked for, with the cloud's own name in brackets where that is another one."""
    own = dict.fromkeys(zone for *_, zone in wanted.zones if zone != wanted.zone)
    return f"{wanted.zone} ({', '.join(own)})" if own else str(wanted.zone)


def _where(field: str, row: CatalogRow) -> str:
    value = getattr(row, field)
    return f"{field} {value}" if value else f"region {row.region} as a whole, which has no zones to choose from here"


def machine_checks(wanted: Requirement) -> list[Check]:
    """What: instance type, accelerators, processors, memory, network and architecture."""
    checks: list[Check] = []
    if wanted.instance_type is not None:
        kind = wanted.instance_type
        checks.append(
            Check(f"instance type {kind}", lambda row: row.instance_type == kind, lambda row: row.instance_type)
        )
    checks += _accelerator_checks(wanted)
    if wanted.vcpus is not None:
        checks.append(_amount("vCPUs", wanted.vcpus, wanted.vcpus_exact, lambda row: row.vcpus))
    if wanted.memory_gib is not None:
        checks.append(_amount("GiB of memory", wanted.memory_gib, wanted.memory_exact, lambda row: row.memory_gib))
    if wanted.memory_per_vcpu is not None:
        checks.append(_amount("GiB of memory per vCPU", wanted.memory_per_vcpu, False, _memory_per_vcpu))
    if wanted.least is not None:
        checks += _least_checks(wanted.least)
    if wanted.local_disk_gib is not None:
        checks.append(_local_disk_check(wanted, wanted.local_disk_gib))
    if wanted.network_tier == "best":
        checks.append(
            Check("the best network tier", lambda row: row.network_tier == "best", lambda row: row.network_tier)
        )
    if wanted.arch is not None:
        arch = wanted.arch
        checks.append(Check(f"architecture {arch}", lambda row: row.arch == arch, lambda row: row.arch))
    return checks


def market_checks(wanted: Requirement) -> list[Check]:
    """How it is sold, and the price ceiling (per machine, as the task format has it)."""
    spot = wanted.use_spot
    checks = [
        Check(
            "spot" if spot else "on-demand",
            lambda row: (row.market in SPOT_MARKETS) == spot,
            lambda row: row.market.value.replace("_", "-"),
        )
    ]
    ceiling = wanted.max_usd_per_hour
    if ceiling is not None:
        checks.append(
            Check(
                f"at most ${number_text(ceiling)} per hour and machine",
                lambda row: row.usd_per_hour is not None and row.usd_per_hour <= ceiling,
                lambda row: "an unknown price" if row.usd_per_hour is None else f"${number_text(row.usd_per_hour)}",
                lambda row: float("-inf") if row.usd_per_hour is None else -row.usd_per_hour,
            )
        )
    return checks


def feature_checks(wanted: Requirement, num_nodes: int, features_of: Callable[[CatalogRow], FeatureSet]) -> list[Check]:
    """What the place must be able to do: several nodes, ports, images, disks."""
    asked: tuple[tuple[bool, str, str, Callable[[FeatureSet], bool]], ...] = (
        (num_nodes > 1, f"{num_nodes} nodes in one cluster", "single nodes only", lambda can: can.multi_node),
        (wanted.ports, "open ports", "no way to open ports", lambda can: can.ports != "never"),
        (wanted.image, "the machine image named", "its own images only", lambda can: can.custom_image),
        (wanted.disk_tier, "a disk of the tier named", "one kind of disk", lambda can: can.disk_tiers),
        (wanted.volumes, "named volumes", "no way to mount them", lambda can: can.volumes),
        (wanted.docker, "a docker image", "no way to run one", lambda can: can.container != "none"),
    )
    return [
        Check(
            need,
            lambda row, able=able: able(features_of(row)),  # type: ignore[misc]
            lambda _row, lack=lack: lack,  # type: ignore[misc]
        )
        for wants, need, lack, able in asked
        if wants
    ]


def all_checks(
    wanted: Requirement, num_nodes: int, features_of: Callable[[CatalogRow], FeatureSet]
) -> tuple[Check, ...]:
    """Everything that a new machine must pass, hardest to change first."""
    return (
        *place_checks(wanted),
        *machine_checks(wanted),
        *market_checks(wanted),
        *feature_checks(wanted, num_nodes, features_of),
    )


def reuse_reasons(
    alternatives: Iterable[Requirement],
    *,
    need_nodes: int,
    have_nodes: int,
    offer: CatalogRow,
    place: Place | None,
    features: FeatureSet,
) -> list[str]:
    """Why an existing cluster can't run a task; empty when it can.

    One alternative that fits is enough. Price and market are not looked at: the cluster is there and paid for, and
    spot or not was decided when it was made.

    Args:
        alternatives: Of the task.
        need_nodes: Of the task; a cluster may have more.
        have_nodes: Of the cluster.
        offer: The row that the cluster was made from.
        place: Where it is, when known: it has the zone that was really used.
        features: Of the offer.
    """
    reasons: list[str] = []
    if need_nodes > have_nodes:
        reasons.append(f"needs {need_nodes} nodes; the cluster has {have_nodes}")
    if place is not None:
        zone = place.zone or offer.zone
        offer = offer.model_copy(update={"cloud": place.cloud, "region": place.region, "zone": zone})
    failed: list[list[str]] = []
    for wanted in alternatives:
        checks = (*place_checks(wanted), *machine_checks(wanted), *feature_checks(wanted, 1, lambda _row: features))
        lacks = [check for check in checks if not check.passes(offer)]
        if not lacks:
            return reasons
        failed.append([f"needs {need}; the cluster has {has}" for has, need in needs(lacks, offer).items()])
    return reasons + min(failed, key=len, default=[])


def needs(lacks: Iterable[Check], row: CatalogRow) -> dict[str, str]:
    """What a row has, and what is needed instead. Of kind and number of accelerators only the number is told."""
    return {check.has(row): check.need for check in lacks}


def accelerators_text(row: CatalogRow) -> str:
    """`4 x H100`, or `no accelerator`."""
    if not row.accelerator_count or row.accelerator_name is None:
        return "no accelerator"
    return f"{number_text(row.accelerator_count)} x {row.accelerator_name}"


def _accelerator_checks(wanted: Requirement) -> list[Check]:
    name, memory, count = wanted.accelerator_name, wanted.accelerator_memory_gib, wanted.accelerator_count
    vendor = wanted.accelerator_vendor
    if name is None and memory is None and not count:
        return []

    names = {each.lower() for each in answering(name)} if name else None

    def of_the_kind(row: CatalogRow) -> bool:
        if row.accelerator_name is None or row.accelerator_count < min(count, 1) or not row.accelerator_count:
            return False  # a part of one is less than one
        if names is not None and row.accelerator_name.lower() not in names:
            return False
        if vendor is not None and row.accelerator_vendor != vendor:
            return False
        if memory is not None and vendor is None and row.accelerator_vendor not in (None, *GPU_MAKERS):
            return False
        return memory is None or _has_memory(row, memory, wanted.accelerator_memory_exact)

    what = name or _accelerator_words(vendor, memory, wanted.accelerator_memory_exact)
    has = accelerators_text if memory is None else _with_memory
    checks = [
        Check(f"{what}{_misspelt(name)}" if name else f"{'an' if what[0] == 'a' else 'a'} {what}", of_the_kind, has)
    ]
    if count > 1:
        checks.append(
            Check(
                f"{number_text(count)} x {what}",
                lambda row: row.accelerator_count >= count,  # of whatever kind: that is the other check
                accelerators_text,
                lambda row: row.accelerator_count,
            )
        )
    return checks


def _with_memory(row: CatalogRow) -> str:
    size = row.accelerator_memory_gib
    return accelerators_text(row) + (f" of {number_text(size)} GiB" if size is not None else "")


def _misspelt(name: str) -> str:
    """A near name in brackets, for one that nobody knows."""
    from styx.models.accelerators import accelerator_facts, accelerator_suggestion

    near = None if accelerator_facts(name) else accelerator_suggestion(name)
    return f" ({near})" if near else ""


def _has_memory(row: CatalogRow, memory_gib: float, exact: bool) -> bool:
    has = row.accelerator_memory_gib
    if has is None:
        return False
    return abs(has - memory_gib) < EXACT_WITHIN_GIB if exact else has >= memory_gib


def _accelerator_words(vendor: str | None, memory_gib: float | None, exact: bool) -> str:
    size = "" if memory_gib is None else f" of {number_text(memory_gib)} GiB{'' if exact else ' or more'}"
    return f"accelerator{size} by {vendor}" if vendor else f"{'GPU' if size else 'accelerator'}{size}"


def _amount(what: str, wanted: float, exact: bool, of: Callable[[CatalogRow], float | None]) -> Check:
    def passes(row: CatalogRow) -> bool:
        amount = of(row)
        if amount is None:
            return False
        return amount == wanted if exact else amount >= wanted

    def has(row: CatalogRow) -> str:
        amount = of(row)
        return f"unknown {what}" if amount is None else f"{number_text(round(amount, 2))} {what}"

    def rank(row: CatalogRow) -> float:
        amount = of(row)
        return float("-inf") if amount is None else -abs(amount - wanted)

    return Check(f"{'exactly ' if exact else ''}{number_text(wanted)} {what}", passes, has, rank)


def _least_checks(least: Least) -> Iterator[Check]:
    """The size of a task that asks for none: what is known to be smaller will not do."""
    amounts: tuple[tuple[str, float | None, str, Callable[[CatalogRow], float | None]], ...] = (
        ("vCPUs", least.vcpus, "placement.default_cpus", lambda row: row.vcpus),
        ("GiB of memory", least.memory_gib, "placement.default_memory", lambda row: row.memory_gib),
    )
    for what, amount, key, of in amounts:
        if not amount:
            continue
        check = _amount(what, amount, False, of)
        yield replace(
            check,
            need=f"{check.need} (by {key}, as the task names no size)",
            passes=lambda row, of=of, check=check: (  # type: ignore[misc]
                row.cloud in least.spared or of(row) is None or check.passes(row)
            ),
        )


def _local_disk_check(wanted: Requirement, gib: float) -> Check:
    exact, kind = wanted.local_disk_exact, wanted.local_disk_kind
    size = f"{'exactly ' if exact else ''}{number_text(gib)} GiB of local {'NVMe' if kind == 'nvme' else ''}"

    def passes(row: CatalogRow) -> bool:
        has = row.local_disk_gib
        if has is None or (kind is not None and row.local_disk_kind not in DISK_KINDS[kind]):
            return False
        return abs(has - gib) < EXACT_WITHIN_GIB if exact else has >= gib

    def has(row: CatalogRow) -> str:
        if row.local_disk_gib is None:
            return "no local disk that is known of"
        return f"{number_text(row.local_disk_gib)} GiB of {row.local_disk_kind or 'unknown kind'}"

    def rank(row: CatalogRow) -> float:
        return float("-inf") if row.local_disk_gib is None else -abs(row.local_disk_gib - gib)

    return Check(f"{size}{' ' if kind == 'nvme' else ''}{'SSD' if kind == 'ssd' else 'disk'}", passes, has, rank)


def _memory_per_vcpu(row: CatalogRow) -> float | None:
    return row.memory_gib / row.vcpus if row.memory_gib is not None and row.vcpus else None
