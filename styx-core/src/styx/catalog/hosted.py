"""Reads the hosted-catalog layout: `<cloud>/vms.csv` files that the field maintains, repaired and checked.

All columns at once: a file of 100,000 rows takes a fraction of a second. A file is refused as a whole when its
structure is broken (not CSV, columns missing, a row cut short) or when more than `MOST_FAULTY` of its rows are
impossible; below that, impossible rows are left out and counted.
"""

from __future__ import annotations

import codecs
import csv
import io
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from styx.catalog.adapters import Adapter, adapter_for
from styx.catalog.schema import BOUNDS, COLUMNS, KEY, polars_schema
from styx.errors import CatalogRefused
from styx.models.acceleratornames import BY_MEMORY
from styx.models.accelerators import accelerator_facts, canonical_accelerator, canonical_vendor

if TYPE_CHECKING:
    import polars as pl

REQUIRED: Final = (
    "InstanceType",
    "AcceleratorName",
    "AcceleratorCount",
    "vCPUs",
    "MemoryGiB",
    "Price",
    "Region",
)
OPTIONAL: Final = (
    "GpuInfo",
    "SpotPrice",
    "AvailabilityZone",
    "Arch",
    "LocalDiskType",
    "NVMeSupported",
    "LocalDiskSize",
    "LocalDiskCount",
    "MaximumEfaInterfaces",
)
MOST_FAULTY: Final = 0.05
"""Share of impossible rows from which on a file is not believed at all."""

_NUMBERS: Final = (
    "AcceleratorCount",
    "vCPUs",
    "MemoryGiB",
    "Price",
    "SpotPrice",
    "LocalDiskSize",
    "LocalDiskCount",
    "MaximumEfaInterfaces",
)
_NEAR: Final = 0.15
_ARM_ACCELERATORS: Final = ("GH200", "GB200", "GB300")


@dataclass(frozen=True)
class Adapted:
    """A hosted file in the catalog's own schema.

    Attributes:
        rows: Columns of the cache.
        dropped: Rows that were left out: impossible, not for sale, or without a host.
        repaired: Rows with a figure that was put right.
    """

    rows: pl.DataFrame
    dropped: int
    repaired: int


def adapted(data: bytes, cloud: str, name: str, *, as_of: datetime) -> Adapted:
    """One cloud's file in the catalog's schema.

    Args:
        data: The file.
        cloud: Whose it is.
        name: Path or address, for messages and as the rows' source.
        as_of: When the file was true.

    Raises:
        CatalogRefused: The file can't be used; the message names file and row.
    """
    import polars as pl

    adapter = adapter_for(cloud)
    frame = _table(data, name)
    total = len(frame)
    frame = frame.with_columns(
        *(pl.col(theirs).alias(ours) for ours, theirs in adapter.columns.items() if theirs in frame.columns),
    )
    ref = pl.col(adapter.ref) if adapter.ref in frame.columns else pl.lit(None, pl.String)
    frame = frame.with_columns(
        *(pl.lit(None, pl.String).alias(each) for each in OPTIONAL if each not in frame.columns), ref=ref
    ).select("row", "ref", *REQUIRED, *OPTIONAL)
    left_out = 0
    if adapter.unsold is not None:
        before = len(frame)
        frame = frame.filter(~adapter.unsold().fill_null(False))
        left_out += before - len(frame)
    if adapter.prepare is not None:
        frame, lonely = adapter.prepare(frame)
        left_out += lonely
    read = [_part(part, adapter, cloud, name, as_of) for part in list(frame.iter_slices(_PART)) or [frame]]
    judged = len(frame)
    del frame
    faulty = pl.concat([each.faulty for each in read])
    if len(faulty) > MOST_FAULTY * max(judged, 1):
        raise _too_many(faulty, judged, name)
    rows = _one_each([each.rows for each in read])
    if rows.is_empty():
        raise CatalogRefused(f"{name} has no row that could be bought", hint=_HINT)
    repaired = sum(each.repaired for each in read)
    return Adapted(rows=rows, dropped=min(left_out + faulty["row"].n_unique(), total), repaired=repaired)


_PART: Final = 20_000
"""Rows that are worked on at a time: a file of 100,000 would take 200 MB more at once."""


@dataclass(frozen=True)
class _Part:
    """Some rows of a file: those that are good, and those that are not."""

    rows: pl.DataFrame
    faulty: pl.DataFrame
    repaired: int


def _part(frame: pl.DataFrame, adapter: Adapter, cloud: str, name: str, as_of: datetime) -> _Part:
    import polars as pl

    checked = _named(_numbers(frame, adapter), adapter).with_columns(fault=_fault())
    good = checked.filter(pl.col("fault").is_null())
    return _Part(
        rows=_markets(good, cloud, name, as_of),
        faulty=checked.filter(pl.col("fault").is_not_null()).select("row", "fault"),
        repaired=int(good.get_column("repaired").sum()),
    )


_HINT: Final = "the rows in use stay as they were; get the file again, or refresh from another source"


# ------------------------------------------------------------------------------------------------------- structure


def _table(data: bytes, name: str) -> pl.DataFrame:
    """The file as text columns, with the line of each row in `row`; empty cells are null.

    Polars fills up rows that are too short; the csv module counts the cells first, which costs little.
    """
    import polars as pl

    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise CatalogRefused(f"{name} is not UTF-8 text (byte {error.start})", hint=_HINT) from None
    header, lines = _lines(data, name)
    try:
        frame = pl.read_csv(data, infer_schema=False, encoding="utf8", raise_if_empty=False)
    except pl.exceptions.PolarsError as error:
        raise CatalogRefused(f"{name} can't be read as CSV: {str(error).splitlines()[0]}", hint=_HINT) from None
    if len(frame) != len(lines) or frame.columns != header:
        raise CatalogRefused(f"{name} has quotes or line ends that are not as CSV has them", hint=_HINT)
    return frame.select(pl.all().str.strip_chars().replace("", None)).with_columns(row=pl.Series(lines, dtype=pl.Int64))


def _lines(data: bytes, name: str) -> tuple[list[str], array[int]]:
    """The header, and the line number of each row.

    Raises:
        CatalogRefused: Columns are missing, or a row has another number of cells than the header.
    """
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline=""), strict=True)
    lines = array("q")
    try:
        header = next(reader, [])
        _check_header(header, name)
        wanted = len(header)
        for cells in reader:
            if len(cells) != wanted:
                what = "is empty" if not cells else f"has {len(cells)} cells under {wanted} columns"
                cut = " (is the file cut short?)" if cells else ""
                raise CatalogRefused(f"line {reader.line_num} of {name} {what}{cut}", hint=_HINT)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise CatalogRefused(f"line {reader.line_num} of {name} is no CSV: {error}", hint=_HINT) from None
    if not lines:
        raise CatalogRefused(f"{name} has no rows", hint=_HINT)
    return header, lines


def _check_header(header: list[str], name: str) -> None:
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        shown = ", ".join(header)[:120] or "nothing"
        raise CatalogRefused(
            f"line 1 of {name} has no column {missing[0]} (it has: {shown})",
            hint="a hosted catalog has one folder per cloud, with a file vms.csv in it",
        )
    if len(set(header)) != len(header):
        raise CatalogRefused(f"line 1 of {name} names a column twice", hint=_HINT)


def _too_many(faulty: pl.DataFrame, total: int, name: str) -> CatalogRefused:
    first = "; ".join(
        f"line {line}: {fault}" for line, fault in faulty.sort("row").select("row", "fault").head(3).iter_rows()
    )
    return CatalogRefused(
        f"{len(faulty)} of {total} rows of {name} are impossible, so none is believed: {first}", hint=_HINT
    )


# --------------------------------------------------------------------------------------------------------- figures


def _numbers(frame: pl.DataFrame, adapter: Adapter) -> pl.DataFrame:
    """Text becomes numbers; `wrong` names the first cell of a row that is none."""
    import polars as pl

    def number(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.Float64, strict=False)

    wrong = pl.coalesce(
        pl.when(pl.col(column).is_not_null() & ~number(column).is_finite().fill_null(False)).then(
            pl.format(f"{column} is {{}}", pl.col(column).str.slice(0, 40))
        )
        for column in _NUMBERS
    )
    size = pl.col("GpuInfo").str.extract(r"(?i)sizeinmib\W+([0-9.]+)").cast(pl.Float64, strict=False)
    return frame.with_columns(wrong=wrong).with_columns(
        *(number(column) for column in _NUMBERS),
        size=size / number("AcceleratorCount").clip(1) if adapter.memory == "all" else size,
        maker=pl.col("GpuInfo").str.extract(r"(?i)'manufacturer'\W+(\w+)").str.to_lowercase(),
    )


def _named(frame: pl.DataFrame, adapter: Adapter) -> pl.DataFrame:
    """Columns of the catalog's schema that don't depend on the market; `repaired` where a figure was put right."""
    import polars as pl

    facts = _facts(frame.get_column("AcceleratorName").drop_nulls().unique())
    frame = frame.join(facts, on="AcceleratorName", how="left", maintain_order="left")
    makers = {maker: canonical_vendor(maker) for maker in frame.get_column("maker").drop_nulls().unique()}
    part = pl.col("AcceleratorCount").clip(0, 1)
    gib = pl.when(pl.col("size") >= 1024).then(pl.col("size") / 1024).otherwise(pl.col("size"))
    frame = frame.with_columns(gib=pl.when(gib > 0).then(gib))

    def near(expected: pl.Expr) -> pl.Expr:
        return ((pl.col("gib") / expected - 1).abs() <= _NEAR).fill_null(False)

    other = near(pl.col("other_gib") * part) & ~near(pl.col("usual_gib") * part)
    usual = pl.col("usual_gib") * part
    summed = near(pl.col("usual_gib") * pl.col("AcceleratorCount"))
    memory = (
        pl.when(other)
        .then(pl.col("other_gib") * part)
        .when(pl.col("gib").is_null() | near(usual) | summed)
        .then(usual.fill_null(pl.col("gib")))
        .otherwise(pl.col("gib"))
    )
    has = pl.col("AcceleratorName").is_not_null()
    name = pl.when(other).then(pl.col("other_name")).otherwise(pl.col("name"))
    arm = pl.col("Arch").str.contains("^(arm|aarch)").fill_null(False) | name.is_in(_ARM_ACCELERATORS).fill_null(False)
    if adapter.arm64 is not None:
        arm |= pl.col("InstanceType").str.contains(adapter.arm64).fill_null(False)
    unknown = [pl.col(column) == 0 for column in ("Price", "SpotPrice")]
    return frame.select(
        "row",
        "ref",
        "wrong",
        "Price",
        "SpotPrice",
        instance_type=pl.col("InstanceType"),
        region=pl.col("Region"),
        zone=pl.col("AvailabilityZone"),
        vcpus=pl.when(pl.col("vCPUs") != 0).then(pl.col("vCPUs")),
        memory_gib=pl.when(pl.col("MemoryGiB") != 0).then(pl.col("MemoryGiB")),
        arch=pl.when(arm).then(pl.lit("arm64")).otherwise(pl.lit("x86_64")),
        accelerator_name=name,
        accelerator_count=pl.when(has).then(pl.col("AcceleratorCount")).otherwise(0.0),
        accelerator_memory_gib=pl.when(has).then(memory),
        accelerator_vendor=pl.when(has).then(pl.coalesce("vendor", pl.col("maker").replace(makers))),
        local_disk_gib=(lambda disk: pl.when(disk > 0).then(disk))(
            pl.col("LocalDiskSize") * pl.col("LocalDiskCount").fill_null(1)
        ),
        local_disk_kind=_disk_kind(),
        network_tier=pl.when(pl.col("MaximumEfaInterfaces") > 0).then(pl.lit("best")).otherwise(pl.lit("standard")),
        repaired=pl.any_horizontal(*unknown, pl.col("size") < 1024, other, summed & ~near(usual)).fill_null(False),
    )


def _disk_kind() -> pl.Expr:
    """Of disks whose size is known, too."""
    import polars as pl

    kind, nvme = pl.col("LocalDiskType").str.to_lowercase(), pl.col("NVMeSupported").str.to_lowercase() == "true"
    named = pl.when(kind == "hdd").then(pl.lit("hdd")).when(nvme.fill_null(False)).then(pl.lit("nvme"))
    named = named.when(kind == "ssd").then(pl.lit("ssd"))
    return pl.when((pl.col("LocalDiskSize") > 0).fill_null(False)).then(named)


def _facts(names: Iterable[str]) -> pl.DataFrame:
    """For each name in a file: the usual one, its maker and memory, and the name it has with other memory."""
    import polars as pl

    others = {name: (special, memory) for (name, memory), special in BY_MEMORY.items()}
    rows = []
    for written in names:
        name = canonical_accelerator(written)
        known = accelerator_facts(name)
        vendor, memory = (known.vendor, known.memory_gib) if known else (None, None)
        rows.append((written, name, vendor, memory, *others.get(name, (None, None))))
    columns = {
        "AcceleratorName": pl.String,
        "name": pl.String,
        "vendor": pl.String,
        "usual_gib": pl.Float64,
        "other_name": pl.String,
        "other_gib": pl.Float64,
    }
    return pl.DataFrame(rows, schema=columns, orient="row")


def _fault() -> pl.Expr:
    """Why a row is impossible, in words; null when it isn't."""
    import polars as pl

    def bounded(column: str, bounds: str) -> pl.Expr:
        least, most, unit = BOUNDS[bounds]
        value = pl.col(column)
        wrong = (value < least) | (value > most)
        if bounds == "usd_per_hour":
            wrong &= value != 0  # unknown
        return pl.when(wrong).then(pl.format(f"{column} {{}} is impossible ({unit})", value))

    prices = [bounded(column, "usd_per_hour") for column in ("Price", "SpotPrice")]
    figures = [bounded(column, column) for column in BOUNDS if column not in ("usd_per_hour", "ttl_s")]
    named, counted = pl.col("accelerator_name").is_not_null(), pl.col("accelerator_count").fill_null(0) > 0
    return pl.coalesce(
        pl.when(pl.col("instance_type").is_null()).then(pl.lit("no InstanceType")),
        pl.when(pl.col("region").is_null()).then(pl.lit("no Region")),
        pl.col("wrong"),
        pl.when(named & ~counted).then(pl.format("no count of {}", "accelerator_name")),
        *prices,
        *figures,
    )


def _markets(frame: pl.DataFrame, cloud: str, name: str, as_of: datetime) -> pl.DataFrame:
    """One row for each market, text as categories. A missing price: no offers there, unless there is neither price."""
    import polars as pl

    def at(market: str, column: str) -> pl.Expr:
        return pl.struct(pl.lit(market).alias("market"), pl.when(pl.col(column) > 0).then(column).alias("usd_per_hour"))

    on_demand = frame.filter(pl.col("Price").is_not_null() | pl.col("SpotPrice").is_null())
    spot = frame.filter(pl.col("SpotPrice").is_not_null())
    schema = polars_schema()
    both = pl.concat(
        [on_demand.with_columns(m=at("on_demand", "Price")), spot.with_columns(m=at("spot", "SpotPrice"))]
    ).unnest("m")
    return both.with_columns(
        cloud=pl.lit(cloud),
        features=pl.lit(None, pl.String),
        as_of=pl.lit(as_of, schema["as_of"]),
        ttl_s=pl.lit(None, pl.Float64),
        source=pl.lit(name),
    ).select(
        pl.col(column).cast(pl.Categorical() if schema[column] == pl.String else schema[column]) for column in COLUMNS
    )


def _one_each(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """All parts together; of several rows for one offer the cheapest."""
    import polars as pl

    return (
        pl.concat(parts)
        .sort("usd_per_hour", nulls_last=True, maintain_order=True)
        .unique(KEY, keep="first", maintain_order=True)
    )
