"""Google's price list (Cloud Billing Catalog) as rates. Nothing here talks to a network.

A machine's price is the sum of its parts: each processor, GiB of memory, accelerator and local disk has a SKU for each
group of regions and each market, told apart only by its description.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from styx.plugin import Market
from styx_gcp.families import MODELS, OWN_DISKS

_SPOT: Final = r"(?P<spot>(?:Spot )?Preemptible )?"
_PART: Final = re.compile(_SPOT + r"(?P<family>.+?)(?: Instance)? (?P<part>Core|Ram|Local SSD) running in .+")
_GPU: Final = re.compile(
    _SPOT + r"(?:A4X? )?(?:Nvidia )?(?:Tesla )?(?P<model>.+?)(?: GPU)?"
    r"(?P<attached> attached to (?:Spot )?Preemptible VMs)? running in .+"
)
_DISK: Final = re.compile(r"SSD backed Local Storage(?P<attached> attached to (?:Spot )?Preemptible VMs?)?(?: .*)?")
_FAMILY: Final = re.compile(r"[a-z]\d[a-z]?|a3plus|a3ultra")
_NAMES: Final = {"compute optimized": "c2", "memory-optimized": "m1", "m1 memory-optimized": "m1"}
_HOURS: Final[Mapping[str, float]] = {"h": 1.0, "GiBy.h": 1.0, "GiBy.mo": 730.0}
"""Hours of each usage unit; Google counts 730 in a month."""
_UNITS: Final[Mapping[str, frozenset[str]]] = {
    "core": frozenset({"h"}),
    "ram": frozenset({"GiBy.h"}),
    "gpu": frozenset({"h"}),
    "disk": frozenset({"GiBy.h", "GiBy.mo"}),
}


@dataclass
class Rates:
    """Dollars per hour of parts, by region and market."""

    by_key: dict[tuple[str, Market, str, str], float] = field(default_factory=dict)

    def add(self, region: str, market: Market, part: str, what: str, usd: float) -> None:
        """Take a rate. Of several for one part the highest counts: the others are for special terms."""
        key = (region, market, part, what)
        self.by_key[key] = max(usd, self.by_key.get(key, 0.0))

    def usd(self, region: str, market: Market, part: str, what: str) -> float | None:
        """The rate of a part, such as ("core", "n2") or ("gpu", "L4"), or None."""
        return self.by_key.get((region, market, part, what))

    def disk(self, region: str, market: Market, family: str) -> float | None:
        """The rate of one GiB of local disk in machines of a family."""
        own = self.usd(region, market, "disk", family)
        return own if own is not None or family in OWN_DISKS else self.usd(region, market, "disk", "")


def rates(skus: Iterable[Mapping[str, Any]]) -> Rates:
    """Every rate that a machine's price is made of; SKUs of other things are passed over."""
    found = Rates()
    for sku in skus:
        if sku["category"].get("usageType") not in {"OnDemand", "Preemptible"}:
            continue
        meaning = meaning_of(sku["description"], sku["category"].get("resourceGroup", ""))
        if meaning is None:
            continue
        part, what, spot = meaning
        usd = hourly(sku, part)
        market = Market.SPOT if spot else Market.ON_DEMAND
        if usd is not None and (spot or sku["category"]["usageType"] == "OnDemand"):
            for region in sku["serviceRegions"]:
                found.add(region, market, part, what, usd)
    return found


def meaning_of(description: str, group: str) -> tuple[str, str, bool] | None:
    """Part, family or model, and whether it is spot: `("core", "n2", False)`. None for what no machine is made of."""
    if disk := _DISK.fullmatch(description):
        return "disk", "", disk["attached"] is not None
    if group == "GPU":
        gpu = _GPU.fullmatch(description)
        model = MODELS.get(gpu["model"]) if gpu else None
        return ("gpu", model, bool(gpu["spot"] or gpu["attached"])) if gpu and model else None
    found = _PART.fullmatch(description)
    if found is None:
        return None
    words = re.sub(r" (AMD|Arm|Predefined)$", "", found["family"]).lower()
    family = _NAMES.get(words, words)
    if _FAMILY.fullmatch(family) is None:
        return None
    part = {"Core": "core", "Ram": "ram", "Local SSD": "disk"}[found["part"]]
    return part, family, found["spot"] is not None


def hourly(sku: Mapping[str, Any], part: str) -> float | None:
    """Dollars per hour for one unit; None where it has no price, or one in another unit."""
    if not sku["pricingInfo"]:
        return None
    expression = sku["pricingInfo"][-1]["pricingExpression"]
    unit = expression["usageUnit"]
    if unit not in _UNITS[part]:
        return None
    for tier in expression["tieredRates"]:
        price = tier["unitPrice"]
        usd = float(price.get("units") or 0) + float(price.get("nanos") or 0) / 1e9
        if usd > 0 and math.isfinite(usd) and price.get("currencyCode", "USD") == "USD":
            return usd / _HOURS[unit]
    return None
