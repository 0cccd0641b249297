"""What is charged beside machines, worked out from list prices: disks, and traffic as far as it costs nothing.

An estimate says what it was made from; where there is none, the line says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from styx.api.views import CostItem
from styx.driver import CatalogRow, Cloud, DiskPrice
from styx.errors import StyxError
from styx.optimizer.egress import AS_OF, OWN, Level, Tariff, tariff_for
from styx.state.ledger import cost_of
from styx.units import number_text

if TYPE_CHECKING:
    from styx.state.rows import ClusterRow, Rate

HOURS_PER_MONTH: Final = 730.0
"""As clouds count: 8760 hours a year."""


def disk(
    cloud: Cloud | None, row: ClusterRow, rates: Sequence[Rate], now: datetime, since: datetime | None = None
) -> CostItem:
    """The disks' list price for as long as the cluster existed; they are kept, and charged, while it is stopped."""
    if row.place is None or not rates:
        return _unknown("disk", "no machine of it was ever seen")
    if cloud is None:
        return _unknown("disk", f"the plugin of {row.place.cloud}, which would know the price, is not there")
    gib, tier = row.resources.get("disk_size"), row.resources.get("disk_tier")
    try:
        price = cloud.disk_price(row.place, CatalogRow.model_validate(row.offer) if row.offer else None, gib, tier)
    except (StyxError, ValueError):
        price = None
    if price is None:
        of = f"{cloud.display_name}'s disks{f' of tier {tier}' if tier else ''} in {row.place.region}"
        return _unknown("disk", f"no list price of {of} is known" if gib else "the size of the disks is not known")
    begin = min(rate.start for rate in rates)
    begin = begin if since is None else max(begin, since)
    there = max(0.0, ((row.ended_at or now) - begin).total_seconds() / 3600) * row.num_nodes
    up = min(there, cost_of([rate for rate in rates if rate.item == "compute"], now, since).hours)
    stopped = price.usd if price.usd_stopped is None else price.usd_stopped
    usd = (price.usd * up + stopped * (there - up)) / HOURS_PER_MONTH
    return CostItem(item="disk", usd=usd, usd_known=usd, estimated=True, note=_basis(price))


def _basis(price: DiskPrice) -> str:
    if not price.usd and not price.usd_stopped:
        return "disks come with the machines"
    size = f"a disk of {number_text(price.gib)} GiB" if price.gib is not None else "a disk"
    words = f"{size} for ${price.usd:.2f} a month"
    if price.usd_stopped is not None and price.usd_stopped != price.usd:
        words += f" (${price.usd_stopped:.2f} while stopped)"
    source = ", ".join(part for part in (price.source, price.as_of.isoformat() if price.as_of else "") if part)
    return f"{words}, list price{f' ({source})' if source else ''}"


def traffic(row: ClusterRow) -> CostItem:
    """Nothing, where the cloud charges nothing; elsewhere unknown, because nobody counts what the machines send."""
    if row.place is None:
        return _unknown("egress", "no machine of it was ever seen")
    cloud = row.place.cloud
    tariff = tariff_for(cloud, row.place.region)
    if cloud not in OWN and not tariff.assumed and not any(tariff.usd(1.0)):
        return CostItem(item="egress", usd=0.0, note=f"{cloud} charges nothing for traffic ({AS_OF.isoformat()})")
    return _unknown("egress", f"neither {cloud} nor Styx counts what the machines send{_rate(tariff)}")


def _rate(tariff: Tariff) -> str:
    if tariff.assumed or not tariff.usd(1.0)[Level.INTERNET]:
        return ""
    return f"; a GB to the internet is ${tariff.usd(1.0)[Level.INTERNET]:.3g} ({AS_OF.isoformat()})"


def _unknown(item: str, why: str) -> CostItem:
    return CostItem.model_validate({"item": item, "usd": None, "note": why})
