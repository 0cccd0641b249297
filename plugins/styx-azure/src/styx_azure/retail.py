"""Azure's public price list (Retail Prices) and its list of sizes, in rows. Nothing here talks to a network."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from styx.plugin import CatalogRow, FeatureSet, Market
from styx_azure.sizes import accelerators, has_fabric, is_arm, vcpus

_OTHER: Final = ("Windows", "Cloud Services", "CloudServices", "Low Priority", "Dedicated")
"""Words in the names of what is no plain Linux machine."""


@dataclass(frozen=True)
class Shape:
    """A size, as far as it is known."""

    vcpus: float | None = None
    memory_gib: float | None = None
    arm64: bool | None = None
    disk_gib: float | None = None


@dataclass(frozen=True)
class Asked:
    """Region, time and source of a reply, and what its rows can do."""

    region: str
    now: datetime
    source: str
    features: FeatureSet


def query(region: str) -> dict[str, str]:
    """What the price list is asked for one region."""
    wanted = f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '{region}'"
    return {"$filter": wanted}


def rows(items: Iterable[Mapping[str, Any]], shapes: Mapping[str, Shape], asked: Asked) -> Iterator[CatalogRow]:
    """A row for each size and market: the plain price per hour of a Linux machine, the newest that already holds."""
    best: dict[tuple[str, Market], tuple[tuple[bool, str], float]] = {}
    now = asked.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for item in items:
        market = market_of(item)
        usd = float(item["retailPrice"])
        started = str(item.get("effectiveStartDate") or "")
        if market is None or started > now or item["armRegionName"].lower() != asked.region:
            continue
        if not (usd > 0 and math.isfinite(usd)):
            continue
        rank = (bool(item.get("isPrimaryMeterRegion", True)), started)
        key = (item["armSkuName"], market)
        if key not in best or rank > best[key][0]:
            best[key] = (rank, usd)
    for (size, market), (_, usd) in sorted(best.items()):
        yield row(size, market, usd, shapes.get(size, Shape()), asked)


def market_of(item: Mapping[str, Any]) -> Market | None:
    """How an item is sold; None for what is no plain Linux machine by the hour."""
    names = f"{item['productName']} {item['skuName']} {item.get('meterName', '')}"
    plain = (
        item["type"] == "Consumption"
        and item["unitOfMeasure"] == "1 Hour"
        and item.get("currencyCode", "USD") == "USD"
        and item["armSkuName"].startswith("Standard_")
        and not any(word in names for word in _OTHER)
    )
    if not plain:
        return None
    return Market.SPOT if "Spot" in names else Market.ON_DEMAND


def row(size: str, market: Market, usd: float, shape: Shape, asked: Asked) -> CatalogRow:
    """One row. What neither the list of sizes nor the name tells is unknown."""
    found = accelerators(size)
    spot = market is Market.SPOT
    return CatalogRow(
        cloud="azure",
        instance_type=size,
        region=asked.region,
        market=market,
        vcpus=shape.vcpus or vcpus(size),
        memory_gib=shape.memory_gib,
        arch="arm64" if (is_arm(size) if shape.arm64 is None else shape.arm64) else "x86_64",
        accelerator_name=found[0].name if found else None,
        accelerator_count=found[1] if found else 0,
        accelerator_memory_gib=found[0].memory_gib if found else None,
        accelerator_vendor=found[0].vendor if found else None,
        local_disk_gib=shape.disk_gib,
        usd_per_hour=usd,
        network_tier="best" if has_fabric(size) else "standard",
        features=asked.features.model_copy(update={"spot": spot, "stop": asked.features.stop and not spot}),
        as_of=asked.now,
        source=asked.source,
    )


def shapes_of(skus: Iterable[Mapping[str, Any]]) -> dict[str, Shape]:
    """Shapes from the list of sizes (`Microsoft.Compute/skus`), for which one must be signed in."""
    found: dict[str, Shape] = {}
    for sku in skus:
        if sku["resourceType"] == "virtualMachines":
            given = {each["name"]: each["value"] for each in sku.get("capabilities") or ()}
            mebibytes = _number(given.get("MaxResourceVolumeMB"))
            found[sku["name"]] = Shape(
                vcpus=_number(given.get("vCPUsAvailable")) or _number(given.get("vCPUs")),
                memory_gib=_number(given.get("MemoryGB")),
                arm64=given["CpuArchitectureType"] == "Arm64" if "CpuArchitectureType" in given else None,
                disk_gib=mebibytes / 1024 if mebibytes else None,
            )
    return found


def shipped_shapes(path: Path) -> dict[str, Shape]:
    """Shapes of the shipped rows, for those who are not signed in."""
    with path.open(encoding="utf-8", newline="") as file:
        body = csv.DictReader(line for line in file if not line.startswith("#"))
        return {each["instance_type"]: Shape(_number(each["vcpus"]), _number(each["memory_gib"])) for each in body}


def _number(text: str | None) -> float | None:
    """A figure above 0, or None."""
    value = float(text) if text else 0.0
    return value if math.isfinite(value) and value > 0 else None
