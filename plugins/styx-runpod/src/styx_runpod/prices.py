"""What RunPod's catalog says, in rows. Nothing here talks to a network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from styx.plugin import CatalogRow, FeatureSet, Market, canonical_accelerator

HOSTS_QUERY: Final = """
query StyxHosts {
  gpuTypes {
    id
    lowestPrice(input: {gpuCount: 1, secureCloud: true}) { minimumBidPrice minVcpu minMemory }
  }
}
"""
"""Bids and the host's share of one GPU; REST has neither."""

ACCELERATORS: Final[Mapping[str, str]] = {
    "AMD Instinct MI300X OAM": "MI300X",
    "NVIDIA A100 80GB PCIe": "A100-80GB",
    "NVIDIA A100-SXM4-40GB": "A100",
    "NVIDIA A100-SXM4-80GB": "A100-80GB-SXM",
    "NVIDIA H100 80GB HBM3": "H100-SXM",
    "NVIDIA H100 NVL": "H100-NVL",
    "NVIDIA H100 PCIe": "H100",
    "NVIDIA H200": "H200-SXM",
    "NVIDIA H200 NVL": "H200-NVL",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTXPRO6000",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "RTXPRO6000-WK",
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": "RTXPRO6000-MaxQ",
    "Tesla V100-PCIE-16GB": "V100",
    "Tesla V100-SXM2-16GB": "V100",
    "Tesla V100-SXM2-32GB": "V100-32GB",
    "Tesla V100-FHHL-16GB": "V100",
}
"""RunPod's ids whose usual name can't be made from RunPod's short one."""

CPU_SIZES: Final = (2, 4, 8, 16, 32)
"""Processors of a pod without GPU, as the console offers them."""


@dataclass(frozen=True)
class Asked:
    """When and where a reply came from, and what rows on demand, by bid and without GPU can do."""

    now: datetime
    source: str
    on_demand: FeatureSet
    bid: FeatureSet
    without_gpu: FeatureSet


def accelerator(gpu_id: str, name: str) -> str:
    """The usual name of a GPU, from RunPod's id and its short name."""
    usual = ACCELERATORS.get(gpu_id) or re.sub(r"\s+Ada$", "-Ada", name.strip()).replace(" ", "")
    return canonical_accelerator(usual)


def country(data_center: str) -> str:
    """`US-TX-3` is in US, `EU-RO-1` in RO, `CA-MTL-1` in CA."""
    parts = data_center.split("-")
    return parts[0] if parts[0] in {"US", "CA"} or len(parts) < 3 else parts[1]


def counts(most: int) -> list[int]:
    """How many GPUs a pod may have, as far as rows are made: powers of two, and the most."""
    return sorted({1, 2, 4, 8, most} & set(range(1, most + 1)))


def countries(entry: Mapping[str, Any], every: Iterable[str]) -> list[str]:
    """Where a type can be had; everywhere when it is sold out, because that is no news about where it is."""
    return sorted({country(center["id"]) for center in entry.get("dataCenters") or ()}) or sorted(every)


def gpu_rows(
    gpus: Iterable[Mapping[str, Any]], hosts: Mapping[str, Mapping[str, Any]], every: Iterable[str], asked: Asked
) -> Iterator[CatalogRow]:
    """Rows of all GPUs of the Secure Cloud: on demand, and by bid where a least bid is known.

    Args:
        gpus: Of `GET /catalog/gpus` with availability.
        hosts: `lowestPrice` of GraphQL's `gpuTypes`, by id.
        every: Countries with a data center.
        asked: When and where.
    """
    for gpu in gpus:
        if not gpu["secure"]:
            continue
        name = accelerator(gpu["id"], gpu["name"])
        host = hosts.get(gpu["id"]) or {}
        each: dict[Market, float] = {Market.ON_DEMAND: gpu["price"]["secure"]}
        if (host.get("minimumBidPrice") or 0) > 0:
            each[Market.BID] = host["minimumBidPrice"]
        for count in counts(gpu["maxCount"]["secure"]):
            for region in countries(gpu, every):
                for market, usd in each.items():
                    yield CatalogRow(
                        cloud="runpod",
                        instance_type=f"{count}x_{name}_SECURE",
                        region=region,
                        market=market,
                        vcpus=count * host["minVcpu"] if host.get("minVcpu") else None,
                        memory_gib=count * host["minMemory"] if host.get("minMemory") else None,
                        accelerator_name=name,
                        accelerator_count=count,
                        accelerator_memory_gib=gpu["memory"],
                        accelerator_vendor=gpu["manufacturer"].lower(),
                        usd_per_hour=round(count * usd, 6) if usd > 0 else None,
                        features=asked.bid if market is Market.BID else asked.on_demand,
                        ref=gpu["id"],
                        as_of=asked.now,
                        source=asked.source,
                    )


def cpu_rows(cpus: Iterable[Mapping[str, Any]], every: Iterable[str], asked: Asked) -> Iterator[CatalogRow]:
    """Rows of pods without GPU."""
    for cpu in cpus:
        each = cpu["price"]["securePerVcpu"]
        for vcpus in CPU_SIZES:
            if not cpu["vcpu"]["min"] <= vcpus <= cpu["vcpu"]["max"]:
                continue
            memory = vcpus * cpu["ramGbPerVcpu"]
            for region in countries(cpu, every):
                yield CatalogRow(
                    cloud="runpod",
                    instance_type=f"{cpu['id']}-{vcpus}-{memory:g}",
                    region=region,
                    vcpus=vcpus,
                    memory_gib=memory,
                    usd_per_hour=round(vcpus * each, 6) if each > 0 else None,
                    features=asked.without_gpu,
                    ref=cpu["id"],
                    as_of=asked.now,
                    source=asked.source,
                )
