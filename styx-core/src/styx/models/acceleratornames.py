"""The usual names of accelerators, who makes them, and how much memory one has.

Memory is the nominal figure of the maker's data sheet (what people ask for: a T4 has 16 GB, though its driver reports
14.6 GiB), so that one request means the same at every cloud. Sources: the data sheets of NVIDIA, AMD, Intel and AWS,
read in November 2026. None: sold with different sizes under one name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class AcceleratorFacts(NamedTuple):
    """What is true of every accelerator of one name."""

    vendor: str
    memory_gib: float | None


_NVIDIA: Final[Mapping[str, float | None]] = {
    # data centre
    "K80": 12, "M60": 8, "P4": 8, "P40": 24, "P100": 16, "V100": 16, "V100-32GB": 32, "T4": 16, "T4g": 16,
    "A2": 16, "A10": 24, "A10G": 24, "A16": 16, "A30": 24, "A40": 48,
    "A100": 40, "A100-80GB": 80, "A100-80GB-SXM": 80, "A800": 80,
    "L4": 24, "L20": 48, "L40": 48, "L40S": 48,
    "H20": 96, "H100": 80, "H100-MEGA": 80, "H100-NVL": 94, "H100-NVLINK": 80, "H100-SXM": 80,
    "H100-PCIE": 80, "H800": 80,
    "H200": 141, "H200-SXM": 141, "H200-NVL": 141, "GH200": 96,
    "B200": 180, "B300": 268, "GB200": 186, "GB300": 278,
    # workstation
    "M4000": 8, "P4000": 8, "P5000": 16, "P6000": 24, "RTX4000": 8, "RTX5000": 16, "RTX6000": 24, "RTX8000": 48,
    "A2000": None, "A4000": 16, "A4500": 20, "A5000": 24, "A6000": 48,
    "RTX2000-Ada": 16, "RTX4000-Ada": 20, "RTX4500-Ada": 24, "RTX5000-Ada": 32, "RTX6000-Ada": 48,
    "RTXPRO4000": 24, "RTXPRO4500": 32, "RTXPRO4500-SE": 32, "RTXPRO5000": 48, "RTXPRO6000": 96, "RTXPRO6000-WK": 96,
    # consumer
    "GTX1080": 8, "GTX1080Ti": 11, "RTX2080": 8, "RTX2080Ti": 11, "RTX3060": 12, "RTX3060Ti": 8, "RTX3070": 8,
    "RTX3070Ti": 8, "RTX3080": 10, "RTX3080Ti": 12, "RTX3090": 24, "RTX3090Ti": 24, "RTX4060": 8, "RTX4060Ti": None,
    "RTX4070": 12, "RTX4070Ti": 12, "RTX4080": 16, "RTX4090": 24, "RTX5060": 8, "RTX5060Ti": None, "RTX5070": 12,
    "RTX5070Ti": 16, "RTX5080": 16, "RTX5090": 32,
}  # fmt: skip
_AMD: Final[Mapping[str, float | None]] = {
    "MI25": 16, "MI50": None, "MI100": 32, "MI210": 64, "MI250": 128, "MI300A": 128, "MI300X": 192, "MI325X": 256,
    "MI350X": 288, "MI355X": 288, "Radeon Pro V520": 8, "Radeon Pro V620": 32, "Radeon Pro V710": 24,
}  # fmt: skip
_INTEL: Final[Mapping[str, float | None]] = {"Gaudi": 32, "Gaudi2": 96, "Gaudi3": 128}
_AWS: Final[Mapping[str, float | None]] = {
    "Trainium": 32, "Trainium2": 96, "Trainium3": 144, "Inferentia": 8, "Inferentia2": 32,
}  # fmt: skip

ACCELERATORS: Final[Mapping[str, AcceleratorFacts]] = {
    **{name: AcceleratorFacts("nvidia", memory) for name, memory in _NVIDIA.items()},
    **{name: AcceleratorFacts("amd", memory) for name, memory in _AMD.items()},
    **{name: AcceleratorFacts("intel", memory) for name, memory in _INTEL.items()},
    **{name: AcceleratorFacts("aws", memory) for name, memory in _AWS.items()},
    "TPU": AcceleratorFacts("google", None),
}

ALIASES: Final[Mapping[str, str]] = {
    "A100-40GB": "A100", "A100-PCIE-40GB": "A100", "A100-SXM4-40GB": "A100", "A100-80G": "A100-80GB",
    "A100-PCIE-80GB": "A100-80GB", "A100-80GB-PCIE": "A100-80GB", "A100-SXM4-80GB": "A100-80GB-SXM",
    "A100-SXM-80GB": "A100-80GB-SXM", "A100-80GB-SXM4": "A100-80GB-SXM",
    "H100-80GB": "H100", "H100-80GB-HBM3": "H100-SXM", "H100-SXM5": "H100-SXM", "H100-SXM5-80GB": "H100-SXM",
    "A100-80GB-PCIE-NVLINK": "A100-80GB", "H100-80GB-SXM5": "H100-SXM", "H100-80GB-PCIE": "H100-PCIE",
    "H100-80GB-PCIE-NVLINK": "H100-NVLINK", "H100-PCIE-80GB": "H100-PCIE", "H100-MEGA-80GB": "H100-MEGA",
    "H200-141GB": "H200", "H200-SXM5": "H200-SXM", "H200-141GB-SXM": "H200-SXM", "GH200-96GB": "GH200",
    "B200-SXM": "B200",
    "V100-16GB": "V100", "V100-SXM2-16GB": "V100", "V100-SXM2-32GB": "V100-32GB", "P100-PCIE-16GB": "P100",
    "RTXA2000": "A2000", "RTXA4000": "A4000", "RTXA4500": "A4500", "RTXA5000": "A5000", "RTXA6000": "A6000",
    "RTX6000-Ada-Generation": "RTX6000-Ada", "RTXPRO6000S": "RTXPRO6000", "RTXPRO6000-96GB": "RTXPRO6000",
    "RTXPRO6000-WS": "RTXPRO6000", "RTXPRO6000-Blackwell": "RTXPRO6000", "RTXPRO6000-Server": "RTXPRO6000",
    "RTXPRO6000-Blackwell-Server-Edition": "RTXPRO6000",
    "Radeon MI25": "MI25", "Gaudi HL-205": "Gaudi", "Gaudi1": "Gaudi", "Trainium1": "Trainium", "Trn1": "Trainium",
    "Trn2": "Trainium2", "Inferentia1": "Inferentia", "Inf1": "Inferentia", "Inf2": "Inferentia2",
}  # fmt: skip
"""Other names of the same things. Case, spaces, dashes and underscores never matter, nor a maker's name in front."""

BY_MEMORY: Final[Mapping[tuple[str, float], str]] = {
    ("A100", 80): "A100-80GB",
    ("V100", 32): "V100-32GB",
    ("H100", 94): "H100-NVL",
}
"""Names that catalogs use for two things, told apart by memory."""

BOARDS: Final[Mapping[str, tuple[str, ...]]] = {
    "A100-80GB": ("A100-80GB-SXM",),
    "H100": ("H100-SXM",),
    "H200": ("H200-SXM",),
    "RTXPRO4500": ("RTXPRO4500-SE",),
}
"""Plain names, and those of the same chip on its board for servers, which some clouds name and others don't."""
