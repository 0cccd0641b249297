"""How many machines an account may still make. AWS counts vCPUs, by family and market, in each region."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from styx.plugin import CatalogRow, CloudError, Market
from styx_aws.families import family
from styx_aws.session import Clients

CODES: Final[Mapping[str, tuple[str, str]]] = {
    "standard": ("L-1216C47A", "L-34B43A08"),
    "dl": ("L-6E869C2A", "L-85EED4F7"),
    "f": ("L-74FC7D96", "L-88CF9481"),
    "g": ("L-DB2E81BA", "L-3819A6DF"),
    "inf": ("L-1945791B", "L-B5D1601B"),
    "p": ("L-417A185B", "L-7212CCBC"),
    "p5": ("L-417A185B", "L-C4BD4855"),
    "trn": ("L-2C3B7624", "L-6B0D517C"),
    "x": ("L-7295265B", "L-E3A00192"),
}
"""Codes of Service Quotas: running on demand, and spot. P5 counts with the other P on demand, and apart as spot."""

_STANDARD: Final = frozenset("acdhimrtz")


def group(instance_type: str) -> str | None:
    """Under which quota a machine type counts; None where this version knows none."""
    name = family(instance_type)
    letters = name[: next((at for at, each in enumerate(name) if not each.isalpha()), len(name))]
    if name.startswith("p5"):
        return "p5"
    if letters in {"dl", "inf", "trn", "f", "p"}:
        return letters
    if letters in {"g", "gr", "vt"}:
        return "g"
    if letters == "x":
        return "x"
    if letters in {"u", "hpc", "mac"}:
        return None
    return "standard" if letters[:1] in _STANDARD else None


def code(instance_type: str, *, spot: bool) -> str | None:
    """The quota that a machine counts against."""
    kind = group(instance_type)
    return CODES[kind][int(spot)] if kind else None


def used_vcpus(instances: Iterable[Mapping[str, Any]], quota: str) -> float:
    """VCPUs that count against a quota now, of everybody's machines."""
    total = 0.0
    for one in instances:
        if code(str(one.get("InstanceType")), spot=one.get("InstanceLifecycle") == "spot") == quota:
            cpus = one.get("CpuOptions") or {}
            total += float(cpus.get("CoreCount") or 0) * float(cpus.get("ThreadsPerCore") or 1)
    return total


def machines_left(clients: Clients, region: str, row: CatalogRow) -> float | None:
    """How many machines of a row fit below the quota; None where that can't be told."""
    quota = code(row.instance_type, spot=row.market in {Market.SPOT, Market.BID})
    if quota is None or not row.vcpus:
        return None
    try:
        reply = clients.call("service-quotas", region, "get_service_quota", ServiceCode="ec2", QuotaCode=quota)
    except CloudError as error:
        if error.vendor.code in {"NoSuchResourceException", "AccessDeniedException", "AccessDenied"}:
            return None
        raise
    limit = float(reply["Quota"]["Value"])
    running = {"Name": "instance-state-name", "Values": ["pending", "running"]}
    reservations = clients.pages("ec2", region, "describe_instances", "Reservations", Filters=[running])
    used = used_vcpus((one for each in reservations for one in each["Instances"]), quota)
    return max(0.0, (limit - used) // row.vcpus)
