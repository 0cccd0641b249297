"""What is peculiar about each cloud's hosted file, and how it is put right.

The plain layout is one row per machine type and place, `GpuInfo` holding the memory of one accelerator in MiB. An
adapter says only where a cloud's file departs from it; `ADAPTERS` is the list, with the reason for each. A cloud that
is not listed is read as plain. What holds for every cloud is in `styx.catalog.hosted`: a price of 0 is unknown, memory
below 1024 "MiB" is GiB, memory near the maker's figure becomes that figure, doubled rows count once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import polars as pl

    Prepare = Callable[[pl.DataFrame], tuple[pl.DataFrame, int]]
    """Changes a file's rows before they are read (cells are text, an empty one is null); counts those left out."""


@dataclass(frozen=True)
class Adapter:
    """How one cloud's file differs.

    Attributes:
        note: What is peculiar, in a sentence.
        memory: What `SizeInMiB` holds: the memory of each accelerator, or of all of them together.
        arm64: A pattern of the machine types that have Arm processors, where the file does not say.
        ref: The column whose text the provisioner needs again.
        unsold: A row for which this holds is left out without being a fault: nobody can buy it.
        prepare: Changes the rows before anything else is done.
    """

    note: str = "plain layout"
    memory: Literal["each", "all"] = "each"
    arm64: str | None = None
    ref: str | None = None
    unsold: Callable[[], pl.Expr] | None = None
    prepare: Prepare | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """Further columns: name in the file by name in the plain layout."""


def adapter_for(cloud: str) -> Adapter:
    """The cloud's adapter; the plain one when it has none."""
    return ADAPTERS.get(cloud, PLAIN)


def _without_region() -> pl.Expr:
    import polars as pl

    return pl.col("Region").is_null()


def _mac() -> pl.Expr:
    import polars as pl

    return pl.col("Arch").str.ends_with("_mac") | pl.col("InstanceType").str.starts_with("mac")


def _tidy_regions(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    import polars as pl

    return frame.with_columns(pl.col("Region").str.strip_chars_start(", ")), 0


def _attach(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    from styx.catalog.attach import attached

    return attached(frame)


PLAIN: Final = Adapter()

ADAPTERS: Final[Mapping[str, Adapter]] = {
    "aws": Adapter(
        "Has the processor architecture (i386 ones run x86_64), instance disks and EFA interfaces; Macs run no Linux.",
        unsold=_mac,
    ),
    "azure": Adapter(
        "No zones; Arm machines are told by the letter p among the size's features.",
        arm64=r"^Standard_[A-Z]+\d+(-\d+)?[a-z]*p[a-z]*(_.*)?_v\d+$",
    ),
    "cudo": Adapter("Counts inside GpuInfo are text, and A100s have 40 or 80 GB under one name, told by their memory."),
    "daytona": Adapter(
        "Lines end as on Windows; machines with accelerators are in the region earth, the others in us and eu."
    ),
    "do": Adapter("Keys of GpuInfo are in lower case, and its total is that of one GPU."),
    "fluidstack": PLAIN,
    "gcp": Adapter(
        "Accelerators are rows of their own without a machine type, priced apart: they are attached to the hosts that "
        "take them. TPUs are machines of their own; where no price is published the file has 700 for every size.",
        arm64=r"^(t2a|c4a|n4a|a4x)-",
        prepare=_attach,
    ),
    "hyperbolic": Adapter(
        "One region called default; the disk's size is in StorageGiB.", columns={"LocalDiskSize": "StorageGiB"}
    ),
    "hyperstack": Adapter("Names of accelerators have the form and the memory (A100-80G-PCIe); the maker is null."),
    "ibm": Adapter("GpuInfo is just the accelerator's name: memory comes from the maker's figures."),
    "jarvislabs": PLAIN,
    "lambda": Adapter("The total in GpuInfo is that of one GPU; Arm machines are the GH200's."),
    "lium": Adapter("Lines end as on Windows; the total stands inside the list of GPUs."),
    "mithril": Adapter("Prices are the reserve prices of an auction, the same on demand and spot."),
    "nebius": Adapter("Machines without accelerators have the count 0."),
    "oci": Adapter(
        "Flexible shapes have their size in the name; Ampere A1 and A2 shapes are Arm.", arm64=r"^\w+\.Standard\.A\d"
    ),
    "paperspace": Adapter("GpuInfo is just the accelerator's name; regions have spaces and brackets."),
    "primeintellect": Adapter(
        "SizeInMiB is that of all GPUs together (and the total that times the count); the upstream id is needed again.",
        memory="all",
        ref="UpstreamCloudId",
    ),
    "runpod": Adapter("SizeInMiB holds GiB."),
    "scp": Adapter("The total in GpuInfo is that of one GPU."),
    "seeweb": Adapter(
        "A row without a region is out of stock everywhere; memory of new GPUs is 0, which is unknown.",
        unsold=_without_region,
    ),
    "shadeform": Adapter("SizeInMiB holds GiB, and the total stands inside the list of GPUs."),
    "spheron": Adapter(
        "GpuInfo is JSON; names have the form and even the housing (H100_PCIE_BAREMETAL); a row without a price is "
        "sold as spot only."
    ),
    "vast": Adapter(
        "SizeInMiB is that of all GPUs together; a spot price of 0.00 was not collected; the same machine is listed "
        "several times in a region (the cheapest counts); regions may begin with a comma.",
        memory="all",
        prepare=_tidy_regions,
    ),
    "verda": Adapter(
        "A row without a price is sold as spot only; the upstream id is needed again.", ref="UpstreamCloudId"
    ),
    "yotta": Adapter("The count inside GpuInfo is always 1."),
}
"""By cloud. Read in the public files of skypilot-org/skypilot-catalog (versions 5 to 9) in November 2026."""
