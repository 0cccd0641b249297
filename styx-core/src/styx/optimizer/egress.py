"""What it costs, and how long it takes, to move data between two places. A documented, dated table; pure.

Tariffs are hierarchical: the price of a gigabyte depends on who sends it and on the smallest thing that both ends
share (`Level`): a zone, a region, an area or a bloc of regions that the vendor prices alike, the cloud, or nothing but
the internet. That is what lets the planner use one variable per shared thing instead of one per pair of places.

The figures are list prices in US dollars per GB as read on `AS_OF`, from the vendors' own pages named beside each
table. Three choices keep them on the safe side: free monthly allowances are not counted (other work may have used
them), tiers start anew with each transfer, and a nearer place never costs more than a farther one does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date
from enum import IntEnum
from functools import lru_cache
from typing import Final

from pydantic import field_validator

from styx.driver import Value

AS_OF: Final = date(2026, 11, 23)
"""When the figures below were compiled."""


class Level(IntEnum):
    """The smallest thing that both ends of a transfer share."""

    ZONE = 0
    REGION = 1
    AREA = 2
    """Regions that the vendor prices as near each other."""
    BLOC = 3
    """Areas that the vendor prices as nearer than the rest."""
    CLOUD = 4
    CLOUDS = 5
    """Both are public clouds."""
    INTERNET = 6


Rates = tuple[tuple[float, float], ...]
"""Tiers: up to how many GB (`inf` for the last), and US dollars per GB within the tier."""

FREE: Final[Rates] = ((math.inf, 0.0),)


def flat(usd_per_gb: float) -> Rates:
    """One price for any amount."""
    return ((math.inf, usd_per_gb),)


def tiered(first: float, second: float, third: float, rest: float) -> Rates:
    """The tiers that AWS and Azure share: 10 TB, the next 40, the next 100, and what is beyond."""
    return ((10_240.0, first), (51_200.0, second), (153_600.0, third), (math.inf, rest))


def price(rates: Rates, gb: float) -> float:
    """US dollars for one transfer of `gb`."""
    usd, below = 0.0, 0.0
    for up_to, usd_per_gb in rates:
        usd += max(0.0, min(gb, up_to) - below) * usd_per_gb
        if gb <= up_to:
            break
        below = up_to
    return usd


class Tariff(Value):
    """What one cloud charges for data that leaves a place, by how far it goes."""

    cloud: str
    regions: tuple[str, ...] = ()
    """Beginnings of region names it is for; empty is all that no other tariff of the cloud names."""
    areas: tuple[str, ...] = ()
    """Names of areas it is for."""
    zone: Rates = FREE
    region: Rates = FREE
    """Another zone of the same region, or a zone that is not known."""
    area: Rates | None = None
    """None: as `cloud_wide`."""
    bloc: Rates | None = None
    """None: as `cloud_wide`."""
    cloud_wide: Rates = FREE
    clouds: Rates | None = None
    """To another public cloud; None: as `internet`."""
    internet: Rates = FREE
    assumed: bool = False
    """The vendor's figures are not known; these are a guess, and a plan that uses them says so."""

    @field_validator("zone", "region", "area", "bloc", "cloud_wide", "clouds", "internet")
    @classmethod
    def _whole_tiers(cls, rates: Rates | None) -> Rates | None:
        if rates is None:
            return None
        bounds = [up_to for up_to, _ in rates]
        if not rates or bounds != sorted(bounds) or bounds[-1] != math.inf:
            raise ValueError("tiers must rise and end with an unbounded one")
        if any(not usd_per_gb >= 0 for _, usd_per_gb in rates):
            raise ValueError("a price per GB can't be negative or unknown")
        return rates

    def usd(self, gb: float) -> tuple[float, ...]:
        """US dollars for `gb` by `Level`; never less for a farther one."""
        cloud = self.cloud_wide
        by_level = (
            self.zone, self.region, self.area or cloud, self.bloc or cloud, cloud,
            self.clouds or self.internet, self.internet,
        )  # fmt: skip
        costs: list[float] = []
        for rates in by_level:
            costs.append(max(price(rates, gb), costs[-1] if costs else 0.0))
        return tuple(costs)


GBPS: Final[tuple[float, ...]] = (10.0, 10.0, 5.0, 5.0, 5.0, 1.0, 1.0)
"""Transfer speed by `Level` in Gbit/s: planning figures of our own for one machine copying in parallel streams, not
promises. Vendors cap what one machine sends out of its region at about 5 Gbit/s (AWS, for machines of fewer than 32
processors) or 7 (Google Cloud, to the internet)."""


def seconds(gb: float, level: Level) -> float:
    """How long a transfer takes."""
    return gb * 8.0 / GBPS[level]


# ------------------------------------------------------------------------------------------------------- the tables

_AWS = "aws"  # https://aws.amazon.com/ec2/pricing/on-demand/ (Data Transfer): by source region only; crossing a zone
_AWS_ZONES = flat(0.02)  # costs 0.01 on each side. (Virginia <-> Ohio is 0.01, less than that; it counts as 0.02.)


def _aws(regions: Sequence[str], between: float, internet: Rates) -> Tariff:
    return Tariff(cloud=_AWS, regions=tuple(regions), region=_AWS_ZONES, cloud_wide=flat(between), internet=internet)


_WEST = tiered(0.09, 0.085, 0.07, 0.05)
_AWS_TARIFFS = (
    _aws((), 0.02, _WEST),
    _aws(("ap-northeast-1", "ap-northeast-3"), 0.09, tiered(0.114, 0.089, 0.086, 0.084)),
    _aws(("ap-northeast-2",), 0.08, tiered(0.126, 0.122, 0.117, 0.108)),
    _aws(("ap-southeast-2", "ap-southeast-4"), 0.098, tiered(0.114, 0.098, 0.094, 0.092)),
    _aws(("ap-south-",), 0.086, tiered(0.1093, 0.085, 0.082, 0.08)),
    _aws(("ap-",), 0.09, tiered(0.12, 0.085, 0.082, 0.08)),
    _aws(("sa-",), 0.138, tiered(0.15, 0.138, 0.126, 0.114)),
    _aws(("me-", "il-"), 0.1105, flat(0.117)),
    _aws(("af-",), 0.147, flat(0.154)),
)

_GCP = "gcp"  # https://cloud.google.com/vpc/network-pricing: VM to VM by continents, Premium Tier to the internet
_GCP_OUT = ((1_024.0, 0.12), (10_240.0, 0.11), (math.inf, 0.08))


def _gcp(areas: Sequence[str], near: float, far: float, bloc: float | None = None, out: Rates = _GCP_OUT) -> Tariff:
    return Tariff(
        cloud=_GCP, areas=tuple(areas), region=flat(0.01), area=flat(near), bloc=None if bloc is None else flat(bloc),
        cloud_wide=flat(far), internet=out,
    )  # fmt: skip


_GCP_TARIFFS = (
    _gcp((), 0.08, 0.08),
    _gcp(("north-america", "europe"), 0.02, 0.08, bloc=0.05),
    _gcp(("asia",), 0.08, 0.08),
    _gcp(("oceania",), 0.08, 0.10, out=((1_024.0, 0.19), (10_240.0, 0.18), (math.inf, 0.15))),
    _gcp(("south-america",), 0.08, 0.14),
    _gcp(("middle-east", "africa"), 0.08, 0.11),
)

_AZURE = "azure"  # https://azure.microsoft.com/pricing/details/bandwidth/: zones of a region are free of charge


def _azure(areas: Sequence[str], near: float, far: float, internet: Rates) -> Tariff:
    return Tariff(cloud=_AZURE, areas=tuple(areas), area=flat(near), cloud_wide=flat(far), internet=internet)


_AZURE_TARIFFS = (
    _azure((), 0.08, 0.08, tiered(0.12, 0.085, 0.082, 0.08)),
    _azure(("north-america", "europe"), 0.02, 0.05, tiered(0.087, 0.083, 0.07, 0.05)),
    _azure(("south-america",), 0.16, 0.16, tiered(0.181, 0.175, 0.17, 0.16)),
)

_OTHER_TARIFFS = (
    # https://www.oracle.com/cloud/networking/pricing/ (outbound data transfer, by the region's group of countries)
    Tariff(cloud="oci", cloud_wide=flat(0.025), internet=flat(0.025)),
    Tariff(cloud="oci", regions=("us-", "ca-", "eu-", "uk-"), cloud_wide=flat(0.0085), internet=flat(0.0085)),
    Tariff(cloud="oci", regions=("me-", "af-", "il-"), cloud_wide=flat(0.05), internet=flat(0.05)),
    # https://docs.digitalocean.com/platform/billing/bandwidth/ (beyond the machine's own allowance)
    Tariff(cloud="do", cloud_wide=flat(0.01), internet=flat(0.01)),
    # https://lambda.ai/pricing, https://www.runpod.io/pricing: neither charges for data in or out
    Tariff(cloud="lambda"),
    Tariff(cloud="runpod"),
    # Object stores that charge nothing for reading: https://developers.cloudflare.com/r2/pricing/
    Tariff(cloud="cloudflare"),
    # Machines of one's own: nothing is metered.
    *(Tariff(cloud=name) for name in ("local", "ssh", "slurm", "kubernetes", "vsphere")),
)

TARIFFS: Final[tuple[Tariff, ...]] = (*_AWS_TARIFFS, *_GCP_TARIFFS, *_AZURE_TARIFFS, *_OTHER_TARIFFS)
"""All that is known, by source."""

OWN: Final = frozenset({"local", "ssh", "slurm", "kubernetes", "vsphere"})
"""Not public clouds: data for them crosses the internet."""

_CONTINENTS_GCP = {
    "us-": "north-america", "northamerica-": "north-america", "europe-": "europe", "asia-": "asia",
    "australia-": "oceania", "southamerica-": "south-america", "me-": "middle-east", "africa-": "africa",
}  # fmt: skip
_CONTINENTS_AZURE = (
    ("oceania", ("australia", "newzealand")),
    ("europe", ("europe", "uk", "france", "german", "norway", "sweden", "switzerland", "poland", "italy", "spain",
                "austria", "belgium", "denmark", "finland", "greece")),
    ("asia", ("asia", "japan", "korea", "india", "indonesia", "malaysia", "taiwan")),
    ("south-america", ("brazil", "chile")),
    ("middle-east-africa", ("uae", "qatar", "israel", "southafrica")),
    ("north-america", ("us", "canada", "mexico")),
)  # fmt: skip


def area_of(cloud: str, region: str) -> tuple[str | None, str | None]:
    """Area and bloc of a region, where its cloud prices by them."""
    if cloud == _GCP:
        area = next((name for start, name in _CONTINENTS_GCP.items() if region.startswith(start)), None)
        return area, ("atlantic" if area in ("north-america", "europe") else None)
    if cloud == _AZURE:
        plain = region.lower().replace(" ", "")
        return next((name for name, words in _CONTINENTS_AZURE if any(word in plain for word in words)), None), None
    return None, None


def tariff_for(cloud: str, region: str, own: Iterable[Tariff] = ()) -> Tariff:
    """The most particular tariff of a source: named region, then named area, then the cloud's; else an assumption."""
    found = _particular(cloud, region, tuple(own)) if own else None
    return found or _built_in(cloud, region)


@lru_cache(maxsize=4096)
def _built_in(cloud: str, region: str) -> Tariff:
    found = _particular(cloud, region, TARIFFS)
    return found or Tariff(cloud=cloud, cloud_wide=flat(0.02), internet=flat(0.09), assumed=True)


def _particular(cloud: str, region: str, *tables: Sequence[Tariff]) -> Tariff | None:
    area, _ = area_of(cloud, region)
    for table in tables:
        known = [each for each in table if each.cloud == cloud]
        by_region = [each for each in known if any(region.startswith(start) for start in each.regions)]
        by_area = [each for each in known if area is not None and area in each.areas]
        for found in (by_region, by_area, [each for each in known if not each.regions and not each.areas]):
            if found:
                return max(found, key=lambda each: _longest(each.regions, region))
    return None


def _longest(starts: Sequence[str], region: str) -> int:
    return max((len(start) for start in starts if region.startswith(start)), default=0)
