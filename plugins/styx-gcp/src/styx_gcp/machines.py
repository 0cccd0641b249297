"""Machine types and rates, put together to rows. Nothing here talks to a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from styx.plugin import CatalogRow, FeatureSet, Market
from styx_gcp.families import (
    CHIPS,
    DISK_GIB,
    FRACTIONS,
    GUESTS,
    NO_CORE_PRICE,
    SHARED,
    Chip,
    family,
    has_fabric,
    is_arm,
    takes_guests,
)
from styx_gcp.skus import Rates


@dataclass(frozen=True)
class Machine:
    """A machine type, with its accelerators."""

    name: str
    vcpus: float
    memory_gib: float
    arm64: bool
    disks: int
    chip: Chip | None = None
    count: float = 0.0
    guest: str | None = None
    """Accelerators that are not its own and must be asked for, such as `nvidia-tesla-t4:2`."""


@dataclass(frozen=True)
class Asked:
    """Time and source of the replies, and what the rows can do."""

    now: datetime
    source: str
    features: FeatureSet


def region_of(scope: str) -> str:
    """`us-central1` of `zones/us-central1-a`."""
    return scope.removeprefix("zones/").rpartition("-")[0]


def listed(pages: Iterable[Mapping[str, Any]], what: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Zone and entry of an aggregated list; a zone without any has a warning in their place."""
    for page in pages:
        for scope, entries in page.get("items", {}).items():
            for entry in entries.get(what, ()):
                yield scope.removeprefix("zones/"), entry


def machines(
    types: Iterable[tuple[str, Mapping[str, Any]]],
    accelerators: Iterable[tuple[str, Mapping[str, Any]]],
    regions: Iterable[str],
) -> dict[str, list[Machine]]:
    """The machines that each region offers in at least one zone, N1 ones also with the accelerators that they take.

    Args:
        types: Zone and entry of `aggregated/machineTypes`.
        accelerators: Zone and entry of `aggregated/acceleratorTypes`.
        regions: Those that are asked for.
    """
    guests: dict[str, set[str]] = {}
    for zone, entry in accelerators:
        if entry["name"] in GUESTS:
            guests.setdefault(zone, set()).add(entry["name"])
    found: dict[str, dict[tuple[str, str | None, float], Machine]] = {region: {} for region in regions}
    for zone, entry in types:
        region = found.get(region_of(zone))
        if region is None or entry.get("deprecated", {}).get("state") in {"DELETED", "OBSOLETE"}:
            continue
        one = _machine(entry)
        for each in (one, *_with_guests(one, guests.get(zone, set()))):
            region.setdefault((each.name, each.chip.name if each.chip else None, each.count), each)
    return {region: list(each.values()) for region, each in found.items()}


def price(machine: Machine, region: str, market: Market, rates: Rates) -> float | None:
    """The sum of the parts' rates; None where one is not known."""
    kind = family(machine.name)
    parts: list[tuple[float, float | None]] = []
    if kind not in NO_CORE_PRICE:
        parts += [
            (SHARED.get(machine.name, machine.vcpus), rates.usd(region, market, "core", kind)),
            (machine.memory_gib, rates.usd(region, market, "ram", kind)),
        ]
        if machine.disks:
            parts.append((machine.disks * DISK_GIB, _disk_rate(rates, region, market, kind)))
    if machine.chip is not None:
        parts.append((machine.count, rates.usd(region, market, "gpu", machine.chip.name)))
    total = 0.0
    for amount, usd in parts:
        if usd is None:
            return None
        total += amount * usd
    return round(total, 6) or None


def rows(machine: Machine, region: str, rates: Rates, asked: Asked) -> Iterator[CatalogRow]:
    """A row on demand, and one as spot where there is such a price.

    A machine without accelerators whose price is not known is left out; one with accelerators says that it is there.
    """
    on_demand, spot = (price(machine, region, market, rates) for market in (Market.ON_DEMAND, Market.SPOT))
    if on_demand is not None or machine.chip is not None:
        yield _row(machine, region, Market.ON_DEMAND, on_demand, asked)
    if spot is not None:
        yield _row(machine, region, Market.SPOT, spot, asked)


# ------------------------------------------------------------------------------------------------------------ workings


def _machine(entry: Mapping[str, Any]) -> Machine:
    name = entry["name"]
    chip, count = None, 0.0
    for each in entry.get("accelerators", ()):
        kind = each["guestAcceleratorType"].removesuffix("-vws")
        chip = CHIPS.get(kind, Chip(kind, 0.0))
        count = FRACTIONS.get(name, float(each["guestAcceleratorCount"]))
    return Machine(
        name=name,
        vcpus=float(entry["guestCpus"]),
        memory_gib=entry["memoryMb"] / 1024,
        arm64=entry.get("architecture") == "ARM64" or is_arm(name),
        disks=int(entry.get("bundledLocalSsds", {}).get("partitionCount", 0)),
        chip=chip,
        count=count,
    )


def _with_guests(host: Machine, kinds: Iterable[str]) -> Iterator[Machine]:
    if takes_guests(host.name):
        for kind in sorted(kinds):
            for count, vcpus, gib in GUESTS[kind]:
                if host.vcpus <= vcpus and host.memory_gib <= gib:
                    yield replace(host, chip=CHIPS[kind], count=float(count), guest=f"{kind}:{count}")


def _disk_rate(rates: Rates, region: str, market: Market, kind: str) -> float | None:
    """None for Z3, whose disks have another size."""
    base = "a3" if kind in {"a3plus", "a3ultra"} else kind
    return None if base == "z3" else rates.disk(region, market, base)


def _row(machine: Machine, region: str, market: Market, usd: float | None, asked: Asked) -> CatalogRow:
    chip, part = machine.chip, min(machine.count, 1.0)
    spot = market is Market.SPOT
    keeps = asked.features.stop and not spot and not machine.disks  # stopping loses the local disks
    return CatalogRow(
        cloud="gcp",
        instance_type=machine.name,
        region=region,
        market=market,
        vcpus=machine.vcpus,
        memory_gib=machine.memory_gib,
        arch="arm64" if machine.arm64 else "x86_64",
        accelerator_name=chip.name if chip else None,
        accelerator_count=machine.count,
        accelerator_memory_gib=(chip.memory_gib * part or None) if chip else None,
        accelerator_vendor="nvidia" if chip else None,
        local_disk_gib=machine.disks * DISK_GIB if machine.disks and family(machine.name) != "z3" else None,
        local_disk_kind="ssd" if machine.disks and family(machine.name) != "z3" else None,
        usd_per_hour=usd,
        network_tier="best" if has_fabric(machine.name) else "standard",
        features=asked.features.model_copy(update={"spot": spot, "stop": keeps}),
        ref=machine.guest,
        as_of=asked.now,
        source=asked.source,
    )
