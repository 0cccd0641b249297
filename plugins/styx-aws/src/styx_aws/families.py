"""What the price list leaves out of accelerated machines: the accelerator's name, its memory, its maker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
        name: The usual name.
        memory_gib: Of one.
        vendor: Who makes it.
    """

    name: str
    memory_gib: float
    vendor: str = "nvidia"


CHIPS: Final[dict[str, Chip]] = {
    "dl1": Chip("Gaudi", 32, "intel"),
    "dl2q": Chip("AI100", 16, "qualcomm"),
    "g3": Chip("M60", 8),
    "g3s": Chip("M60", 8),
    "g4ad": Chip("Radeon Pro V520", 8, "amd"),
    "g4dn": Chip("T4", 16),
    "g5": Chip("A10G", 24),
    "g5g": Chip("T4g", 16),
    "g6": Chip("L4", 24),
    "g6e": Chip("L40S", 48),
    "g6f": Chip("L4", 24),
    "g7": Chip("RTXPRO4500", 32),
    "g7e": Chip("RTXPRO6000", 96),
    "gr6": Chip("L4", 24),
    "gr6f": Chip("L4", 24),
    "inf1": Chip("Inferentia", 8, "aws"),
    "inf2": Chip("Inferentia2", 32, "aws"),
    "p2": Chip("K80", 12),
    "p3": Chip("V100", 16),
    "p3dn": Chip("V100-32GB", 32),
    "p4d": Chip("A100", 40),
    "p4de": Chip("A100-80GB", 80),
    "p5": Chip("H100", 80),
    "p5e": Chip("H200", 141),
    "p5en": Chip("H200", 141),
    "p6-b200": Chip("B200", 180),
    "p6-b300": Chip("B300", 270),
    "p6e-gb200": Chip("GB200", 185),
    "trn1": Chip("Trainium", 32, "aws"),
    "trn1n": Chip("Trainium", 32, "aws"),
    "trn2": Chip("Trainium2", 96, "aws"),
    "trn2u": Chip("Trainium2", 96, "aws"),
}
"""By family: what stands before the dot of a machine type."""

COUNTS: Final[dict[str, float]] = {
    "dl1.24xlarge": 8,
    "dl2q.24xlarge": 8,
    "g6f.large": 0.125,
    "g6f.xlarge": 0.125,
    "g6f.2xlarge": 0.25,
    "g6f.4xlarge": 0.5,
    "gr6f.4xlarge": 0.5,
    "inf1.xlarge": 1,
    "inf1.2xlarge": 1,
    "inf1.6xlarge": 4,
    "inf1.24xlarge": 16,
    "inf2.xlarge": 1,
    "inf2.8xlarge": 1,
    "inf2.24xlarge": 6,
    "inf2.48xlarge": 12,
    "trn1.2xlarge": 1,
    "trn1.32xlarge": 16,
    "trn1n.32xlarge": 16,
    "trn2.3xlarge": 1,
    "trn2.48xlarge": 16,
    "trn2u.48xlarge": 16,
}
"""Accelerators of types for which the price list has no number, or a rounded one: its column counts whole GPUs."""

_FABRIC: Final = frozenset(
    f"{family}.{size}"
    for family, sizes in {
        "dl1": "24xlarge",
        "dl2q": "24xlarge",
        "g4dn": "8xlarge 12xlarge 16xlarge metal",
        "g5": "8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
        "g6": "8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
        "g6e": "8xlarge 12xlarge 16xlarge 24xlarge 48xlarge",
        "g7": "8xlarge 12xlarge 24xlarge 48xlarge",
        "g7e": "8xlarge 12xlarge 24xlarge 48xlarge",
        "gr6": "8xlarge",
        "inf1": "24xlarge",
        "p3dn": "24xlarge",
        "p4d": "24xlarge",
        "p4de": "24xlarge",
        "p5": "4xlarge 48xlarge",
        "p5e": "48xlarge",
        "p5en": "48xlarge",
        "p6-b200": "48xlarge",
        "p6-b300": "48xlarge",
        "p6e-gb200": "36xlarge",
        "trn1": "32xlarge",
        "trn1n": "32xlarge",
        "trn2": "3xlarge 48xlarge",
        "trn2u": "48xlarge",
    }.items()
    for size in sizes.split()
)


def family(instance_type: str) -> str:
    """`p5` of `p5.48xlarge`."""
    return instance_type.partition(".")[0]


def accelerators(instance_type: str, listed: float | None) -> tuple[Chip, float] | None:
    """The accelerator of a machine type and how many it has; `listed` is the price list's own count of GPUs."""
    chip = CHIPS.get(family(instance_type))
    count = COUNTS.get(instance_type, listed)
    if chip is None or not count:
        return None
    memory = chip.memory_gib * count if count < 1 else chip.memory_gib
    return Chip(chip.name, memory, chip.vendor), count


def has_fabric(instance_type: str) -> bool:
    """Whether an accelerated machine has the Elastic Fabric Adapter, the network for work across nodes."""
    return instance_type in _FABRIC
