"""What the interfaces leave out of machines: the names of accelerators, Arm, shared cores, which hosts take which."""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Chip(NamedTuple):
    """One accelerator: its usual name, and the GiB of memory that one has."""

    name: str
    memory_gib: float


CHIPS: Final[dict[str, Chip]] = {
    "nvidia-tesla-k80": Chip("K80", 12),
    "nvidia-tesla-p4": Chip("P4", 8),
    "nvidia-tesla-p100": Chip("P100", 16),
    "nvidia-tesla-t4": Chip("T4", 16),
    "nvidia-tesla-v100": Chip("V100", 16),
    "nvidia-tesla-a100": Chip("A100", 40),
    "nvidia-a100-80gb": Chip("A100-80GB", 80),
    "nvidia-h100-80gb": Chip("H100", 80),
    "nvidia-h100-mega-80gb": Chip("H100-MEGA", 80),
    "nvidia-h200-141gb": Chip("H200", 141),
    "nvidia-b200": Chip("B200", 180),
    "nvidia-gb200": Chip("GB200", 186),
    "nvidia-gb300": Chip("GB300", 278),
    "nvidia-l4": Chip("L4", 24),
    "nvidia-rtx-pro-6000": Chip("RTXPRO6000", 96),
}
"""By the accelerator type that a machine type names."""

MODELS: Final[dict[str, str]] = {
    "K80": "K80",
    "P4": "P4",
    "P100": "P100",
    "T4": "T4",
    "V100": "V100",
    "A100": "A100",
    "A100 80GB": "A100-80GB",
    "H100 80GB": "H100",
    "H100 80GB Mega": "H100-MEGA",
    "H100 80GB Plus": "H100-MEGA",
    "H200 141GB": "H200",
    "B200 (1 gpu slice)": "B200",
    "L4": "L4",
    "RTX 6000 96GB": "RTXPRO6000",
    "RTX PRO 6000 96GB": "RTXPRO6000",
}
"""By the words of a SKU's description, without maker and place."""

GUESTS: Final[dict[str, tuple[tuple[int, int, float], ...]]] = {
    "nvidia-tesla-p4": ((1, 24, 156), (2, 48, 312), (4, 96, 624)),
    "nvidia-tesla-p100": ((1, 16, 104), (2, 32, 208), (4, 96, 624)),
    "nvidia-tesla-t4": ((1, 48, 312), (2, 48, 312), (4, 96, 624)),
    "nvidia-tesla-v100": ((1, 12, 78), (2, 24, 156), (4, 48, 312), (8, 96, 624)),
}
"""Accelerators that N1 machines take: count, most processors and most GiB (cloud.google.com/compute/docs/gpus)."""

FRACTIONS: Final[dict[str, float]] = {"g4-standard-6": 0.125, "g4-standard-12": 0.25, "g4-standard-24": 0.5}
"""Machine types with a part of one accelerator; the interface counts whole ones."""

SHARED: Final[dict[str, float]] = {"e2-micro": 0.25, "e2-small": 0.5, "e2-medium": 1.0}
"""Processors that a machine with shared cores pays for."""

NO_CORE_PRICE: Final = frozenset({"a4"})
"""Families whose accelerators' price is that of the whole machine."""

OWN_DISKS: Final = frozenset({"c4", "c4a", "c4d", "c4n", "h4d", "n4a", "z3"})
"""Families whose local disks have a price of their own; the others pay the one of `SSD backed Local Storage`."""

DISK_GIB: Final = 375.0
"""Of one local disk, in every family but Z3."""

_HOST: Final = re.compile(r"n1-(standard|highmem|highcpu)-\d+")
_ARM: Final = re.compile(r"(t2a|c4a|n4a|a4x)-")
_FABRIC: Final = re.compile(r"(a3-highgpu-8g|a3-megagpu-8g|a3-ultragpu-8g|a4-|a4x-)")


def family(machine_type: str) -> str:
    """`n2` of `n2-standard-8`. Two kinds of A3 have prices of their own."""
    if machine_type.startswith("a3-megagpu"):
        return "a3plus"
    if machine_type.startswith("a3-ultragpu"):
        return "a3ultra"
    return machine_type.partition("-")[0]


def takes_guests(machine_type: str) -> bool:
    """Whether accelerators can be added to it."""
    return _HOST.fullmatch(machine_type) is not None


def is_arm(machine_type: str) -> bool:
    """Whether it has Arm processors, where the interface does not say."""
    return _ARM.match(machine_type) is not None


def has_fabric(machine_type: str) -> bool:
    """Whether it has network cards for work of accelerators across nodes."""
    return _FABRIC.match(machine_type) is not None
