"""A requirement as conditions on columns: the same answers as `styx.optimizer.fit` gives row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Final

from styx.driver import FeatureSet, Market
from styx.models.accelerators import GPU_MAKERS, answering
from styx.models.requests import DISK_KINDS, EXACT_WITHIN_GIB

if TYPE_CHECKING:
    import polars as pl

    from styx.optimizer.problem import Requirement

SPOT_MARKETS: Final = (Market.SPOT.value, Market.BID.value)


@dataclass(frozen=True)
class Condition:
    """One thing that a requirement asks.

    Attributes:
        what: A word for it.
        holds: Whether a row has it.
        nearest: For rows that lack it: what to sort by, largest first, to name the nearest; None when none is nearer.
    """

    what: str
    holds: pl.Expr
    nearest: pl.Expr | None = None


def on_market(spot: bool) -> pl.Expr:
    """Whether a row is sold on that side of the market."""
    taken_away = one_of("market", SPOT_MARKETS)
    return taken_away if spot else ~taken_away


def one_of(column: str, values: Iterable[str]) -> pl.Expr:
    """Whether a text column holds one of a few values (quicker on categories than a look-up of text)."""
    import polars as pl

    return reduce(or_, (pl.col(column) == value for value in values), pl.lit(False))


def is_gpu() -> pl.Expr:
    """Whether an accelerator is one of `GPU_MAKERS`, or of a maker that is not known."""
    import polars as pl

    return pl.col("accelerator_vendor").is_null() | one_of("accelerator_vendor", GPU_MAKERS)


def conditions(
    wanted: Requirement, may: Mapping[str, FeatureSet], own: Iterable[str], num_nodes: int
) -> list[Condition]:
    """All but the market and the place, hardest to change first.

    Args:
        wanted: What is asked.
        may: What each cloud's machines can do, for rows that have no features of their own.
        own: The features that rows do have of their own, as JSON.
        num_nodes: Of the cluster.
    """
    return [
        *_identity(wanted),
        *_accelerators(wanted),
        *_amounts(wanted),
        *_local_disk(wanted),
        *_price(wanted),
        *_features(wanted, may, own, num_nodes),
    ]


def all_of(asked: Sequence[Condition]) -> pl.Expr:
    """All of them at once."""
    import polars as pl

    if not asked:  # a constant with `fill_null` is taken for a column, whose length is not that of a filtered frame
        return pl.lit(True)
    return reduce(and_, (each.holds for each in asked)).fill_null(False)


def _identity(wanted: Requirement) -> Iterator[Condition]:
    import polars as pl

    for column in ("cloud", "region", "zone", "instance_type", "arch"):
        value = getattr(wanted, column)
        if column == "zone" and wanted.zones:
            yield Condition(column, reduce(or_, (_in_zone(*each) for each in wanted.zones)))
        elif value is not None:
            yield Condition(column, pl.col(column) == value)
    if wanted.image_regions:
        yield Condition("image_regions", one_of("region", wanted.image_regions))
    if wanted.network_tier == "best":
        yield Condition("network_tier", pl.col("network_tier") == "best")


def _in_zone(cloud: str, region: str, zone: str) -> pl.Expr:
    import polars as pl

    here = pl.col("zone").is_null() | (pl.col("zone") == zone).fill_null(False)
    return (pl.col("cloud") == cloud) & (pl.col("region") == region) & here


def _accelerators(wanted: Requirement) -> Iterator[Condition]:
    import polars as pl

    name, memory, count = wanted.accelerator_name, wanted.accelerator_memory_gib, wanted.accelerator_count
    if name is None and memory is None and not count:
        return
    near = None
    has = pl.col("accelerator_count")
    kind = (has > 0) & (has >= min(count, 1))
    if name is not None:
        kind &= one_of("accelerator_name", answering(name))
    if wanted.accelerator_vendor is not None:
        kind &= pl.col("accelerator_vendor") == wanted.accelerator_vendor
    elif memory is not None:
        kind &= is_gpu()
    if memory is not None:
        size = pl.col("accelerator_memory_gib")
        kind &= (size - memory).abs() < EXACT_WITHIN_GIB if wanted.accelerator_memory_exact else size >= memory
        near = -(size - memory).abs()
    yield Condition("accelerator", kind, near)
    if count > 1:
        yield Condition("accelerator_count", has >= count, has)


def _amounts(wanted: Requirement) -> Iterator[Condition]:
    import polars as pl

    per_vcpu = pl.col("memory_gib") / pl.when(pl.col("vcpus") > 0).then("vcpus")
    asked = (
        ("vcpus", pl.col("vcpus"), wanted.vcpus, wanted.vcpus_exact),
        ("memory_gib", pl.col("memory_gib"), wanted.memory_gib, wanted.memory_exact),
        ("memory_per_vcpu", per_vcpu, wanted.memory_per_vcpu, False),
    )
    for what, column, amount, exact in asked:
        if amount is not None:
            yield Condition(what, column == amount if exact else column >= amount, -(column - amount).abs())
    if wanted.least is not None:
        spared = one_of("cloud", wanted.least.spared)
        for name in ("vcpus", "memory_gib"):
            if amount := getattr(wanted.least, name):
                column = pl.col(name)
                yield Condition(
                    f"least {name}", spared | column.is_null() | (column >= amount), -(column - amount).abs()
                )


def _local_disk(wanted: Requirement) -> Iterator[Condition]:
    import polars as pl

    gib, size = wanted.local_disk_gib, pl.col("local_disk_gib")
    if gib is None:
        return
    holds = (size - gib).abs() < EXACT_WITHIN_GIB if wanted.local_disk_exact else size >= gib
    if wanted.local_disk_kind is not None:
        holds &= one_of("local_disk_kind", DISK_KINDS[wanted.local_disk_kind])
    yield Condition("local_disk", holds, -(size - gib).abs())


def _price(wanted: Requirement) -> Iterator[Condition]:
    import polars as pl

    if wanted.max_usd_per_hour is not None:
        yield Condition("price", pl.col("usd_per_hour") <= wanted.max_usd_per_hour, -pl.col("usd_per_hour"))


def _features(
    wanted: Requirement, may: Mapping[str, FeatureSet], own: Iterable[str], num_nodes: int
) -> Iterator[Condition]:
    import polars as pl

    sets = {text: FeatureSet.model_validate_json(text) for text in own}
    asked: tuple[tuple[str, bool, Callable[[FeatureSet], bool]], ...] = (
        ("multi_node", num_nodes > 1, lambda can: can.multi_node),
        ("ports", wanted.ports, lambda can: can.ports != "never"),
        ("image", wanted.image, lambda can: can.custom_image),
        ("disk_tier", wanted.disk_tier, lambda can: can.disk_tiers),
        ("volumes", wanted.volumes, lambda can: can.volumes),
        ("docker", wanted.docker, lambda can: can.container != "none"),
    )
    for what, wants, able in asked:
        if not wants:
            continue
        clouds = one_of("cloud", (cloud for cloud, features in may.items() if able(features)))
        itself = one_of("features", (text for text, features in sets.items() if able(features)))
        yield Condition(what, pl.when(pl.col("features").is_null()).then(clouds).otherwise(itself))
