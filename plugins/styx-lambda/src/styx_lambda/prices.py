"""What Lambda's price list says, in rows. Nothing here talks to a network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from styx.plugin import CatalogRow, canonical_accelerator

_GPU: Final = re.compile(r"(?P<name>.+?)\s*\((?P<memory_gb>\d+(?:\.\d+)?) GB(?:\s+(?P<form>\S+))?\)")
_ARM64: Final = ("gh200", "gb200", "gb300")
_BY_MEMORY: Final[Mapping[tuple[str, float], str]] = {("A100", 80.0): "A100-80GB", ("V100", 32.0): "V100-32GB"}
"""Models that are sold with two sizes of memory; the larger has its own name."""


def accelerator(description: str) -> tuple[str, float] | None:
    """Name and memory in GiB from a text like `A100 (80 GB SXM4)`; None where it names no GPU."""
    found = _GPU.fullmatch(description.strip())
    if found is None:
        return None
    memory_gib = float(found["memory_gb"])
    words = re.sub(r"^(NVIDIA|Tesla|Quadro)\s+", "", found["name"].strip())
    name = re.sub(r"\s+Ada$", "-Ada", words).replace(" ", "")
    return canonical_accelerator(_BY_MEMORY.get((name, memory_gib), name)), memory_gib


def rows(types: Mapping[str, Any], known: Iterable[str], *, now: datetime, source: str) -> Iterator[CatalogRow]:
    """A row for each machine type in each region.

    Args:
        types: `data` of `GET /instance-types`.
        known: Regions beside those that the list itself names.
        now: When it was asked for.
        source: Where.
    """
    named = {region["name"] for entry in types.values() for region in entry["regions_with_capacity_available"]}
    regions = sorted({*known, *named})
    for entry in types.values():
        shape, specs = entry["instance_type"], entry["instance_type"]["specs"]
        cents = shape["price_cents_per_hour"]
        gpus = specs["gpus"]
        gpu = accelerator(shape["gpu_description"]) if gpus else None
        for region in regions:
            yield CatalogRow(
                cloud="lambda",
                instance_type=shape["name"],
                region=region,
                vcpus=specs["vcpus"],
                memory_gib=specs["memory_gib"],
                arch="arm64" if any(chip in shape["name"] for chip in _ARM64) else "x86_64",
                accelerator_name=gpu[0] if gpu else (shape["gpu_description"] if gpus else None),
                accelerator_count=gpus,
                accelerator_memory_gib=gpu[1] if gpu else None,
                accelerator_vendor="nvidia" if gpus else None,
                local_disk_gib=specs["storage_gib"] or None,
                usd_per_hour=cents / 100 if cents > 0 else None,
                as_of=now,
                source=source,
            )
