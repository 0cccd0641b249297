"""Live quotes: each alternative is a question, and what nearly fits is asked for when nothing does."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from styx.driver import CatalogRow, Cloud, FeatureSet, Identity, OfferQuery, Place, QuotesLive
from styx.optimizer.problem import Requirement
from styx.provision import offers

SMALL = CatalogRow(cloud="mine", instance_type="small", region="lab", vcpus=2)


class Mine(Cloud, QuotesLive):
    name = "mine"
    display_name = "Mine"
    features = FeatureSet()

    def __init__(self) -> None:
        self.asked: list[OfferQuery] = []

    def check(self) -> Identity:
        raise AssertionError("not asked")

    def offers(self, query: OfferQuery, deadline_s: float) -> Sequence[CatalogRow]:
        self.asked.append(query)
        return [SMALL] if (query.vcpus or 0) <= 2 and query.region in (None, "lab") else []


def gather(*alternatives: Requirement) -> tuple[list[CatalogRow], Mine]:
    cloud = Mine()
    world: Any = SimpleNamespace(
        cloud=lambda _: cloud, observe=lambda _: None, hub=SimpleNamespace(report=lambda _: None)
    )
    rows, _ = offers.gather(world, [Place(cloud="mine", account="a", region="lab")], alternatives, [1])
    return rows, cloud


def test_what_fits_is_asked_for_once() -> None:
    rows, cloud = gather(Requirement(label="a", vcpus=2))
    assert (rows, len(cloud.asked)) == ([SMALL], 1)


def test_what_is_nearest_is_asked_for_when_nothing_fits() -> None:
    rows, cloud = gather(Requirement(label="a", vcpus=64, region="lab"))
    assert rows == [SMALL]
    assert [(query.region, query.vcpus) for query in cloud.asked] == [("lab", 64), ("lab", None)]
    assert gather(Requirement(label="a", region="elsewhere"))[0] == []


def test_a_region_that_is_not_enabled_is_told_with_those_that_are() -> None:
    from styx.driver import Place
    from styx.provision.planning import not_enabled

    places = [Place(cloud="x", account="a", region=f"east-{number}") for number in range(9)]
    assert not_enabled(places, [("x", "east-1"), (None, "west"), ("y", "west"), ("x", None)]) is None
    said = not_enabled(places, [("x", "east-11")])
    assert said is not None
    assert said.startswith("x has east-1, ")
    assert said.endswith(" and 4 more enabled, not east-11: `styx check x` looks again")
