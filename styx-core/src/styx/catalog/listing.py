"""Listings for people: which accelerators are sold where and for how much, and how old the figures are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from styx.catalog.cache import Damaged
from styx.catalog.filters import is_gpu, on_market, one_of
from styx.catalog.results import AcceleratorQuery, AcceleratorView, CatalogInfo, PriceRange
from styx.errors import NotFound, UsageError
from styx.models.accelerators import AcceleratorRequest, accelerator_facts, answering
from styx.models.infra import Infra
from styx.models.requests import EXACT_WITHIN_GIB
from styx.models.suggest import did_you_mean

if TYPE_CHECKING:
    import polars as pl

    from styx.catalog.stock import Stock

TYPES_SHOWN: Final = 5
_COLUMNS: Final = (
    "accelerator_name", "accelerator_count", "accelerator_vendor", "accelerator_memory_gib", "cloud", "region", "zone",
    "market", "instance_type", "vcpus", "memory_gib", "usd_per_hour", "as_of", "source",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """An accelerator query, read."""

    accelerator: AcceleratorRequest | None
    counted: bool
    """The user gave a number of accelerators."""
    cloud: str | None
    region: str | None
    zone: str | None
    every_region: bool


def parsed(query: AcceleratorQuery) -> Asked:
    """The query with its parts read.

    Raises:
        UsageError: A part can't be read.
    """
    try:
        wanted = AcceleratorRequest.model_validate(query.wanted) if query.wanted else None
        infra = Infra.model_validate(query.infra) if query.infra else Infra()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        words = first["msg"].removeprefix("Value error, ")
        hint = getattr(first.get("ctx", {}).get("error"), "suggestion", None)
        raise UsageError(f"{query.wanted or query.infra!r}: {words}", hint=hint) from None
    last = (query.wanted or "").rpartition(":")[2].strip()
    counted = wanted is not None and ":" in (query.wanted or "") and last.replace(".", "", 1).isdigit()
    return Asked(wanted, counted, infra.cloud, infra.region, infra.zone, query.every_region)


def accelerators(frames: Sequence[pl.DataFrame], asked: Asked, zoned: Sequence[str] = ()) -> list[AcceleratorView]:
    """One answer for each name, number and cloud (and region).

    Args:
        frames: All rows.
        asked: What of them.
        zoned: Clouds whose rows without a zone sell the zone that is asked for.

    Raises:
        NotFound: No row has an accelerator of that name.
    """
    import polars as pl

    if not frames:
        return []
    rows = pl.concat(frame.filter(pl.col("accelerator_name").is_not_null()).select(_COLUMNS) for frame in frames)
    _known(rows, asked)
    rows = rows.filter(_holds(asked, zoned))
    by = ["accelerator_name", "accelerator_count", "cloud", *(["region"] if asked.every_region else [])]
    spot = on_market(spot=True)
    price = pl.col("usd_per_hour")
    table = (
        rows.sort(price.is_null(), spot, "usd_per_hour", "vcpus", nulls_last=True)  # the first one shown has `least`
        .group_by(by, maintain_order=True)
        .agg(
            *(pl.col(name).first() for name in ("accelerator_vendor", "accelerator_memory_gib", "vcpus", "memory_gib")),
            regions=pl.col("region").n_unique(),
            types=pl.col("instance_type").unique(maintain_order=True).head(TYPES_SHOWN),
            on_demand=(~spot).any(),
            spot=spot.any(),
            least=price.filter(~spot).min(),
            most=price.filter(~spot).max(),
            spot_least=price.filter(spot).min(),
            spot_most=price.filter(spot).max(),
            as_of=pl.col("as_of").min(),
            sources=pl.col("source").unique(maintain_order=True),
        )
        .with_columns(pl.col(pl.Categorical).cast(pl.String), pl.col("types", "sources").cast(pl.List(pl.String)))
        .sort("accelerator_name", "accelerator_count", "least", "cloud", nulls_last=True)
    )
    return [
        AcceleratorView(
            name=row["accelerator_name"],
            vendor=row["accelerator_vendor"],
            memory_gib=row["accelerator_memory_gib"],
            count=row["accelerator_count"],
            cloud=row["cloud"],
            region=row.get("region"),
            regions=row["regions"],
            instance_types=tuple(row["types"]),
            vcpus=row["vcpus"],
            host_memory_gib=row["memory_gib"],
            on_demand=PriceRange(least=row["least"], most=row["most"]) if row["on_demand"] else None,
            spot=PriceRange(least=row["spot_least"], most=row["spot_most"]) if row["spot"] else None,
            as_of=row["as_of"],
            sources=tuple(row["sources"]),
        )
        for row in table.iter_rows(named=True)
    ]


def _known(rows: pl.DataFrame, asked: Asked) -> None:
    """Refuse a name that nobody sells, with the nearest one that somebody does."""
    name = asked.accelerator.name if asked.accelerator else None
    if name is None or rows.is_empty():
        return
    sold = rows.get_column("accelerator_name").unique().cast(str).to_list()
    if asked.cloud is not None and accelerator_facts(name) is not None:
        return  # it is the right name, of what others may sell
    if not set(answering(name)) & set(sold):
        near = did_you_mean(name, sold, cutoff=0.5)
        raise NotFound(f"no catalog sells an accelerator called {name!r}", hint=near or f"there are: {_some(sold)}")


def _some(names: Sequence[str]) -> str:
    shown = sorted(names)[:12]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def _holds(asked: Asked, zoned: Sequence[str]) -> pl.Expr:
    import polars as pl

    holds = pl.lit(True)
    for column, value in (("cloud", asked.cloud), ("region", asked.region), ("zone", asked.zone)):
        if value is None:
            continue
        here = (pl.col(column) == value).fill_null(False)
        holds &= here | (pl.col("zone").is_null() & one_of("cloud", zoned)) if column == "zone" else here
    wanted = asked.accelerator
    if wanted is None:
        return holds
    if wanted.name is not None:
        holds &= one_of("accelerator_name", answering(wanted.name))
    if wanted.vendor is not None:
        holds &= pl.col("accelerator_vendor") == wanted.vendor
    elif wanted.memory_gib is not None:
        holds &= is_gpu()
    if wanted.memory_gib is not None:
        memory = pl.col("accelerator_memory_gib")
        exact = (memory - wanted.memory_gib).abs() < EXACT_WITHIN_GIB
        holds &= memory >= wanted.memory_gib if wanted.memory_at_least else exact
    if asked.counted:
        holds &= pl.col("accelerator_count") == wanted.count
    return holds


def info(stock: Stock, cloud: str) -> list[CatalogInfo]:
    """Layers of a cloud's catalog."""
    lines: list[CatalogInfo] = []
    for layer in stock.layers(cloud):
        name = layer.file.layer
        try:
            facts = layer.file.facts()
        except Damaged as damage:
            note = f"damaged ({damage.reason}); it is made again when it is needed"
            lines.append(CatalogInfo(cloud=cloud, layer=name, origin=None, file_bytes=layer.file.size(), note=note))
            continue
        if facts is None:
            if layer.source is not None:
                lines.append(CatalogInfo(cloud=cloud, layer=name, origin=None, note="not read yet"))
            continue
        age = None if facts.as_of is None else max(0.0, (stock.now() - facts.as_of).total_seconds())
        expired = facts.expires_at is not None and facts.expires_at <= stock.now()
        lines.append(
            CatalogInfo(
                cloud=cloud,
                layer=name,
                origin=facts.origin,
                source=facts.source,
                rows=facts.rows,
                dropped=facts.dropped,
                as_of=facts.as_of,
                newest_as_of=facts.newest_as_of,
                written_at=facts.written_at,
                age_s=age,
                file_bytes=layer.file.size(),
                note="some rows have expired" if expired else None,
            )
        )
    return lines
