"""Root disks: how fast a gp3 disk of a tier is, and what it costs. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Final

from styx.plugin import DiskPrice

TIERS: Final[Mapping[str, tuple[int, int]]] = {
    "low": (3000, 125),
    "medium": (6000, 250),
    "high": (10000, 500),
    "ultra": (16000, 1000),
    "best": (16000, 1000),
}
"""IOPS and MiB/s of a gp3 disk by tier; its price has the lowest included."""
INCLUDED: Final = TIERS["low"]

SOURCE: Final = "https://aws.amazon.com/ebs/pricing"
AS_OF: Final = date(2021, 7, 14)
"""Of the figures below, as public copies of that page have them. Copies of 2024 to 2026 have the same for those regions
that could be compared: us-east-1, eu-west-1, eu-west-3, eu-central-1, ap-south-1, ap-northeast-1, ap-southeast-1."""
USD_PER_GIB_MONTH: Final[Mapping[str, float]] = {
    "af-south-1": 0.1047,
    "ap-east-1": 0.1056,
    "ap-northeast-1": 0.096,
    "ap-northeast-2": 0.0912,
    "ap-northeast-3": 0.096,
    "ap-south-1": 0.0912,
    "ap-southeast-1": 0.096,
    "ap-southeast-2": 0.096,
    "ca-central-1": 0.088,
    "eu-central-1": 0.0952,
    "eu-north-1": 0.0836,
    "eu-south-1": 0.0924,
    "eu-west-1": 0.088,
    "eu-west-2": 0.0928,
    "eu-west-3": 0.0928,
    "me-south-1": 0.0968,
    "sa-east-1": 0.152,
    "us-east-1": 0.08,
    "us-east-2": 0.08,
    "us-west-1": 0.096,
    "us-west-2": 0.08,
}
"""gp3, with 3000 IOPS and 125 MiB/s."""
SPEED_USD_PER_MONTH: Final[Mapping[str, tuple[float, float]]] = dict.fromkeys(
    ("us-east-1", "us-east-2", "us-west-2"), (0.005, 0.04)
)
"""For each IOPS and each MiB/s beyond those, where that is known."""


def speed(tier: str | None, gib: float) -> tuple[int, int] | None:
    """IOPS and MiB/s that are asked for, as far as the ratios of gp3 allow; None: what comes with it.

    Args:
        tier: The task's.
        gib: Size; 0 is not known.
    """
    wanted = TIERS.get(tier or "")
    if wanted is None:
        return None
    iops = max(INCLUDED[0], min(wanted[0], math.floor(500 * gib))) if gib else INCLUDED[0]
    return iops, min(wanted[1], iops // 4)


def price(region: str, gib: float | None, tier: str | None) -> DiskPrice | None:
    """The list price of a root disk; None where its size, or a part of the price, is not known."""
    usd = USD_PER_GIB_MONTH.get(region)
    if usd is None or gib is None:
        return None
    iops, rate = speed(tier, gib) or INCLUDED
    total = usd * gib
    if (iops, rate) != INCLUDED:
        beyond = SPEED_USD_PER_MONTH.get(region)
        if beyond is None:
            return None
        total += beyond[0] * max(0, iops - INCLUDED[0]) + beyond[1] * max(0, rate - INCLUDED[1])
    return DiskPrice(usd=total, gib=gib, as_of=AS_OF, source=SOURCE)
