"""Accelerators that are sold apart from their hosts: rows without a machine type become machines with both.

Host and accelerator have a price each; the machine costs their sum, and nothing is known of the sum when one is
unknown. Which hosts take which accelerators is the vendor's published table (cloud.google.com/compute/docs/gpus, read
in November 2026): some machine types always have theirs, those of the N1 family take a few within limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import polars as pl

BUILT_IN: Final = (
    (r"^a2-highgpu-(\d+)g$", "A100"),
    (r"^a2-megagpu-(\d+)g$", "A100"),
    (r"^a2-ultragpu-(\d+)g$", "A100-80GB"),
    (r"^a3-(?:high|edge)gpu-(\d+)g", "H100"),
    (r"^a3-megagpu-(\d+)g", "H100-MEGA"),
    (r"^a3-ultragpu-(\d+)g", "H200"),
    (r"^a4-highgpu-(\d+)g", "B200"),
    (r"^a4x-highgpu-(\d+)g", "GB200"),
    (r"^a4x-maxgpu-(\d+)g", "GB300"),
)
"""Machine types whose name tells the count of their accelerators."""

BY_SIZE: Final = (
    ("g2-standard-", "L4", {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}),
    ("g4-standard-", "RTXPRO6000", {48: 1, 96: 2, 192: 4, 384: 8}),
)
"""Machine types whose size tells it: prefix, accelerator, count by processors."""

GUEST_HOSTS: Final = r"^n1-(standard|highmem|highcpu)-\d+$"
GUESTS: Final = (
    ("K80", 1, 8, 52.0), ("K80", 2, 16, 104.0), ("K80", 4, 32, 208.0), ("K80", 8, 64, 416.0),
    ("P4", 1, 24, 156.0), ("P4", 2, 48, 312.0), ("P4", 4, 96, 624.0),
    ("P100", 1, 16, 104.0), ("P100", 2, 32, 208.0), ("P100", 4, 96, 624.0),
    ("T4", 1, 48, 312.0), ("T4", 2, 48, 312.0), ("T4", 4, 96, 624.0),
    ("V100", 1, 12, 78.0), ("V100", 2, 24, 156.0), ("V100", 4, 48, 312.0), ("V100", 8, 96, 624.0),
)  # fmt: skip
"""Accelerators that N1 machines take: name, count, most processors and most GiB of the host."""

NO_PRICE: Final = 700.0
"""Stands in the hosted file for TPUs of any size whose price is not published."""


def attached(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The file's rows with every accelerator on its hosts (cells stay text), and how many found no host."""
    import polars as pl

    def number(name: str) -> pl.Expr:
        return pl.col(name).cast(pl.Float64, strict=False)

    apart = pl.col("InstanceType").is_null() & pl.col("AcceleratorName").is_not_null()
    is_tpu = pl.col("AcceleratorName").str.to_lowercase().str.starts_with("tpu-")
    tpus = frame.filter(apart & is_tpu).with_columns(
        InstanceType=pl.col("AcceleratorName"),
        **{
            name: pl.when(number(name) == NO_PRICE).then(pl.lit("0")).otherwise(pl.col(name))
            for name in ("Price", "SpotPrice")
        },
    )
    parts = (
        frame.filter(apart & ~is_tpu)
        .select(
            "Region",
            "AvailabilityZone",
            "GpuInfo",
            name=pl.col("AcceleratorName"),
            count=number("AcceleratorCount"),
            part_price=pl.col("Price"),
            part_spot=pl.col("SpotPrice"),
        )
        .unique(("Region", "AvailabilityZone", "name", "count"), keep="first", maintain_order=True)
    )
    hosts = frame.filter(~apart | pl.col("AcceleratorName").is_null())
    with_kind = hosts.with_columns(_built_in())
    fixed = with_kind.filter(pl.col("name").is_not_null() & pl.col("AcceleratorName").is_null())
    whole = fixed.drop("GpuInfo").join(
        parts, on=("Region", "AvailabilityZone", "name", "count"), how="left", nulls_equal=True, maintain_order="left"
    )
    columns = {"name": pl.String, "count": pl.Float64, "most_vcpus": pl.Float64, "most_gib": pl.Float64}
    limits = pl.DataFrame(GUESTS, schema=columns, orient="row")
    guests = (
        hosts.filter(pl.col("InstanceType").str.contains(GUEST_HOSTS) & pl.col("AcceleratorName").is_null())
        .drop("GpuInfo")
        .join(parts.join(limits, on=("name", "count")), on=("Region", "AvailabilityZone"), nulls_equal=True)
        .filter((number("vCPUs") <= pl.col("most_vcpus")) & (number("MemoryGiB") <= pl.col("most_gib")))
    )
    plain = with_kind.filter(pl.col("name").is_null() | pl.col("AcceleratorName").is_not_null())
    used = pl.concat([each.select("Region", "AvailabilityZone", "name", "count") for each in (fixed, guests)])
    lonely = parts.join(used, on=("Region", "AvailabilityZone", "name", "count"), how="anti", nulls_equal=True)
    whole_frame = pl.concat([each.select(frame.columns) for each in (plain, _joined(whole), _joined(guests), tpus)])
    return whole_frame, len(lonely)


def _built_in() -> list[pl.Expr]:
    """`name` and `count` of the accelerators that a machine type always has."""
    import polars as pl

    kind = pl.col("InstanceType")
    name, count = pl.lit(None, pl.String), pl.lit(None, pl.Float64)
    for pattern, accelerator in BUILT_IN:
        name = pl.when(kind.str.contains(pattern)).then(pl.lit(accelerator)).otherwise(name)
        count = pl.coalesce(kind.str.extract(pattern).cast(pl.Float64), count)
    for prefix, accelerator, counts in BY_SIZE:
        for size, several in counts.items():
            here = kind == f"{prefix}{size}"
            name = pl.when(here).then(pl.lit(accelerator)).otherwise(name)
            count = pl.when(here).then(pl.lit(float(several))).otherwise(count)
    return [name.alias("name"), count.alias("count")]


def _joined(frame: pl.DataFrame) -> pl.DataFrame:
    """Host and part as one machine: their prices summed, unknown when either is (0 is unknown as well)."""
    import polars as pl

    def total(host: str, part: str) -> pl.Expr:
        first, second = (pl.col(name).cast(pl.Float64, strict=False) for name in (host, part))
        known = (first > 0) & (second > 0)
        return pl.when(known).then((first + second).round(6)).otherwise(0.0).cast(pl.String)

    return frame.with_columns(
        AcceleratorName=pl.col("name"),
        AcceleratorCount=pl.col("count").cast(pl.String),
        Price=total("Price", "part_price"),
        SpotPrice=pl.when(pl.col("SpotPrice").is_null()).then(None).otherwise(total("SpotPrice", "part_spot")),
    )
