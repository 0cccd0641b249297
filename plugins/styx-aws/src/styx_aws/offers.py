"""AWS's price list and spot prices, in rows. Nothing here talks to a network.

The price list of one region is a CSV of hundreds of MB: it is read line by line, and all but the plain price of a
shared Linux machine is passed over.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from xml.etree.ElementTree import Element

from styx.plugin import CatalogRow, DriverError, FeatureSet, Market, canonical_accelerator
from styx_aws.families import accelerators, has_fabric

_NO_NVME: Final = frozenset({"c3", "g2", "hi1", "i2", "m3", "r3", "x1", "x1e"})
_NEEDED: Final = ("TermType", "PricePerUnit", "Instance Type", "vCPU", "Memory", "Operating System", "Tenancy")
_PLAIN: Final[Mapping[str, frozenset[str]]] = {
    "TermType": frozenset({"OnDemand"}),
    "Operating System": frozenset({"Linux"}),
    "Tenancy": frozenset({"Shared"}),
    "Pre Installed S/W": frozenset({"NA", ""}),
    "CapacityStatus": frozenset({"Used"}),
    "operation": frozenset({"RunInstances"}),
    "Unit": frozenset({"Hrs"}),
    "Currency": frozenset({"USD", ""}),
    "MarketOption": frozenset({"OnDemand", ""}),
}
"""Cells of the lines that are wanted; a column that a file does not have is not asked for."""
_DISKS: Final = re.compile(r"(?:(\d+)\s*x\s*)?([\d,]+(?:\.\d+)?)")


@dataclass(frozen=True)
class Shape:
    """A machine type, as the price list describes it."""

    name: str
    vcpus: float | None
    memory_gib: float | None
    arm64: bool
    gpus: float | None
    disk_gib: float | None
    disk_kind: Literal["nvme", "ssd", "hdd"] | None


@dataclass(frozen=True)
class Asked:
    """Region, time and source of a reply, and what its rows can do."""

    region: str
    now: datetime
    source: str
    features: FeatureSet


def priced(lines: Iterable[str]) -> Iterator[tuple[Shape, float]]:
    """Machine types of a price list with their price per hour.

    Raises:
        DriverError: The file is not the price list that AWS documents.
    """
    reader = csv.reader(_after_notes(lines))
    header = next(reader, [])
    column = {name: index for index, name in enumerate(header)}
    missing = [name for name in _NEEDED if name not in column]
    if missing:
        raise DriverError(f"AWS's price list has no column {', '.join(missing)}")
    wanted = [(column[name], allowed) for name, allowed in _PLAIN.items() if name in column]
    for cells in reader:
        if len(cells) != len(header) or any(cells[index] not in allowed for index, allowed in wanted):
            continue
        given = {name: cells[index] for name, index in column.items()}
        usd = number(given["PricePerUnit"])
        if given["Instance Type"] and usd:
            yield shape(given), usd


def shape(given: Mapping[str, str]) -> Shape:
    """One line's machine type."""
    processor = f"{given.get('Physical Processor', '')} {given.get('Processor Architecture', '')}"
    return Shape(
        name=given["Instance Type"],
        vcpus=number(given["vCPU"]),
        memory_gib=number(given["Memory"].removesuffix("GiB")),
        arm64="Graviton" in processor or "arm64" in processor.lower(),
        gpus=number(given.get("GPU", "")),
        disk_gib=disk_gib(given.get("Storage", "")),
        disk_kind=disk_kind(given["Instance Type"], given.get("Storage", "")),
    )


def disk_gib(text: str) -> float | None:
    """`2 x 1900 NVMe SSD` and `125 GB NVMe SSD`; None for EBS only."""
    found = _DISKS.match(text.strip())
    if found is None:
        return None
    return float(found[1] or 1) * float(found[2].replace(",", ""))


def disk_kind(instance_type: str, text: str) -> Literal["nvme", "ssd", "hdd"] | None:
    """The list says NVMe of some types only; all that came after those of `_NO_NVME` have it."""
    if disk_gib(text) is None:
        return None
    if "HDD" in text:
        return "hdd"
    return "ssd" if instance_type.partition(".")[0] in _NO_NVME else "nvme"


def number(text: str) -> float | None:
    """A figure above 0, or None: `NA`, an empty cell, a price of 0."""
    try:
        value = float(text.strip().replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def on_demand_rows(found: Iterable[tuple[Shape, float]], asked: Asked) -> Iterator[CatalogRow]:
    """A row for each machine type; the first price counts where a list has several."""
    seen: set[str] = set()
    for machine, usd in found:
        if machine.name not in seen:
            seen.add(machine.name)
            yield row(machine, Market.ON_DEMAND, None, usd, asked)


def row(machine: Shape, market: Market, zone: str | None, usd: float, asked: Asked) -> CatalogRow:
    """One row. A GPU that this version does not know is left without a name: the machine still counts as itself."""
    chip = accelerators(machine.name, machine.gpus)
    return CatalogRow(
        cloud="aws",
        instance_type=machine.name,
        region=asked.region,
        zone=zone,
        market=market,
        vcpus=machine.vcpus,
        memory_gib=machine.memory_gib,
        arch="arm64" if machine.arm64 else "x86_64",
        accelerator_name=canonical_accelerator(chip[0].name) if chip else None,
        accelerator_count=chip[1] if chip else 0,
        accelerator_memory_gib=chip[0].memory_gib if chip else None,
        accelerator_vendor=chip[0].vendor if chip else None,
        local_disk_gib=machine.disk_gib,
        local_disk_kind=machine.disk_kind,
        usd_per_hour=usd,
        network_tier="best" if has_fabric(machine.name) else "standard",
        features=asked.features,
        as_of=asked.now,
        source=asked.source,
    )


def zone_ids(reply: Element) -> dict[str, str]:
    """Of a `DescribeAvailabilityZones` reply: the name that this account uses, and the id that all accounts share."""
    return {
        item.findtext("zoneName", ""): item.findtext("zoneId", "")
        for item in reply.iterfind("availabilityZoneInfo/item")
    }


def spot_rows(
    pages: Iterable[Element], machines: Mapping[str, Shape], zones: Mapping[str, str], asked: Asked
) -> Iterator[CatalogRow]:
    """A row for the newest spot price of each machine type in each zone.

    Args:
        pages: Replies of `DescribeSpotPriceHistory`.
        machines: By name; a type that the price list does not have is passed over.
        zones: Name to id.
        asked: Region, time and source.
    """
    newest: dict[tuple[str, str], tuple[str, float]] = {}
    for page in pages:
        for item in page.iterfind("spotPriceHistorySet/item"):
            name, zone = item.findtext("instanceType", ""), zones.get(item.findtext("availabilityZone", ""))
            usd, when = number(item.findtext("spotPrice", "")), item.findtext("timestamp", "")
            if zone and usd and name in machines and when > newest.get((name, zone), ("", 0.0))[0]:
                newest[name, zone] = (when, usd)
    for (name, zone), (_, usd) in sorted(newest.items()):
        yield row(machines[name], Market.SPOT, zone, usd, asked)


def _after_notes(lines: Iterable[str]) -> Iterator[str]:
    """The file from its header on: a few lines of notes stand before it."""
    started = False
    for line in lines:
        started = started or line.startswith(('"SKU"', "SKU,"))
        if started:
            yield line


def identity(reply: Element) -> tuple[str, str]:
    """Account and ARN of a `GetCallerIdentity` reply."""
    found: Any = reply.find("GetCallerIdentityResult")
    return found.findtext("Account"), found.findtext("Arn")
