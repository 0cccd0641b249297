"""What names of machine sizes tell: processors, Arm, accelerators, networks.

The price list has no shapes. Azure's names do have them, by its published convention
(learn.microsoft.com/azure/virtual-machines/vm-naming-conventions); memory is not among what they tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple


class Chip(NamedTuple):
    """One accelerator: its usual name, GiB of memory of one, maker."""

    name: str
    memory_gib: float
    vendor: str = "nvidia"


class Family(NamedTuple):
    """Sizes that have one accelerator: how they are written, and how many (or what part) by the number in the name."""

    pattern: re.Pattern[str]
    chip: Chip
    counts: Mapping[int, float]


def _family(pattern: str, chip: Chip, counts: Mapping[int, float]) -> Family:
    return Family(re.compile(rf"Standard_{pattern}"), chip, counts)


_V100, _A100 = Chip("V100", 16), Chip("A100-80GB", 80)
FAMILIES: Final = (
    _family(r"NC(\d+)r?s_v3", _V100, {6: 1, 12: 2, 24: 4}),
    _family(r"NC(\d+)as_T4_v3", Chip("T4", 16), {4: 1, 8: 1, 16: 1, 64: 4}),
    _family(r"NC(\d+)ads_A100_v4", _A100, {24: 1, 48: 2, 96: 4}),
    _family(r"NCC?(\d+)adi?s_H100_v5", Chip("H100-NVL", 94), {40: 1, 80: 2}),
    _family(r"ND(\d+)rs_v2", Chip("V100-32GB", 32), {40: 8}),
    _family(r"ND(\d+)asr_v4", Chip("A100", 40), {96: 8}),
    _family(r"ND(\d+)amsr?_A100_v4", _A100, {96: 8}),
    _family(r"ND(\d+)isr?f?_H100_v5", Chip("H100", 80), {96: 8}),
    _family(r"ND(\d+)isr?f?_H200_v5", Chip("H200", 141), {96: 8}),
    _family(r"ND(\d+)isr?f?_MI300X_v5", Chip("MI300X", 192, "amd"), {96: 8}),
    _family(r"ND(\d+)isr_(?:NDR_)?GB200_v6", Chip("GB200", 186), {128: 4}),
    _family(r"ND(\d+)isr_(?:NDR_)?GB300_v6", Chip("GB300", 278), {128: 4}),
    _family(r"NV(\d+)s_v3", Chip("M60", 8), {12: 1, 24: 2, 48: 4}),
    _family(r"NV(\d+)as_v4", Chip("MI25", 16, "amd"), {4: 0.125, 8: 0.25, 16: 0.5, 32: 1}),
    _family(r"NV(\d+)adm?s_A10_v5", Chip("A10", 24), {6: 1 / 6, 12: 1 / 3, 18: 0.5, 36: 1, 72: 2}),
    _family(r"NV(\d+)adm?s_V710_v5", Chip("Radeon Pro V710", 24, "amd"), {4: 1 / 6, 8: 1 / 3, 12: 0.5, 24: 1, 28: 1}),
    _family(r"NC(\d+)l?ds_xl_RTXPRO6000BSE_v6", Chip("RTXPRO6000", 96), {24: 0.25, 36: 0.25, 72: 0.5, 144: 1, 288: 2}),
    _family(r"NG(\d+)adm?s_V620_v1", Chip("Radeon Pro V620", 32, "amd"), {8: 0.25, 16: 0.5, 32: 1}),
)
_VCPUS: Final = re.compile(r"Standard_[A-Z]+(\d+)(?:-(\d+))?[a-z]*(?:_|$)")
_ARM: Final = re.compile(r"Standard_[A-Z]+\d+(-\d+)?[a-z]*p[a-z]*(_.*)?_v\d+|.*_GB[23]00_v6")
_FABRIC: Final = re.compile(r"Standard_(ND|NC|HB|HC|HX)\d+(-\d+)?[a-z]*r[a-z]*(_.*)?")


def accelerators(size: str) -> tuple[Chip, float] | None:
    """The accelerator of a size and how many it has; a part of one has its part of the memory."""
    for family in FAMILIES:
        found = family.pattern.fullmatch(size)
        count = family.counts.get(int(found[1])) if found else None
        if count:
            chip = family.chip
            return chip._replace(memory_gib=round(chip.memory_gib * min(count, 1), 2)), round(count, 3)
    return None


def vcpus(size: str) -> float | None:
    """`8` of `Standard_D8s_v5`; of `Standard_E16-4as_v5` the 4 that are left. Old sizes don't have it in the name."""
    found = _VCPUS.match(size)
    return float(found[2] or found[1]) if found and re.search(r"_v[3-9]$", size) else None


def is_arm(size: str) -> bool:
    """Whether the letters of the size say that it has Arm processors."""
    return _ARM.fullmatch(size) is not None


def has_fabric(size: str) -> bool:
    """Whether the letters of the size say that it has InfiniBand."""
    return _FABRIC.fullmatch(size) is not None
