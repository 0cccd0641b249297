"""Which choices survive a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.driver import CatalogRow, Market, Place
from styx.errors import (
    BalanceError,
    CapacityError,
    CloudError,
    CredentialsError,
    DeadlineExceeded,
    DriverError,
    QuotaError,
    Scope,
    UnsupportedError,
    WrongState,
)
from styx.optimizer.problem import Choice
from styx.provision.failover import left_after, remaining, scope_of, survives


def choice(cloud: str, account: str, region: str, zone: str | None, kind: str = "m") -> Choice:
    return Choice(
        place=Place(cloud=cloud, account=account, region=region, zone=zone),
        offer=CatalogRow(cloud=cloud, instance_type=kind, region=region, zone=zone),
        usd_per_hour=1.0,
        requirement="any",
    )


WORDS = st.sampled_from("ab")
CHOICES = st.builds(choice, WORDS, WORDS, WORDS, st.sampled_from(["x", "y", None]), st.sampled_from(["m", "n"]))
ORDER = [Scope.OFFER, Scope.ZONE, Scope.REGION, Scope.ACCOUNT, Scope.CLOUD]


@given(CHOICES, CHOICES)
def test_a_wider_scope_never_spares_what_a_narrower_one_blocks(one: Choice, refused: Choice) -> None:
    spared = [survives(one, refused, scope) for scope in ORDER]
    assert spared == sorted(spared, reverse=True)


@given(CHOICES, st.sampled_from(ORDER))
def test_the_refused_choice_itself_never_comes_back(refused: Choice, scope: Scope) -> None:
    assert refused not in remaining([refused, refused], refused, scope)


@given(CHOICES, CHOICES, st.sampled_from(ORDER))
def test_another_cloud_always_survives(one: Choice, refused: Choice, scope: Scope) -> None:
    if one.place.cloud != refused.place.cloud:
        assert survives(one, refused, scope)


def test_the_plans_order_is_kept() -> None:
    places = [choice("a", "1", region, None) for region in ("r3", "r1", "r2")]
    assert remaining(places, places[1], Scope.REGION) == (places[0], places[2])


def test_scopes_of_errors() -> None:
    assert scope_of(CapacityError("x")) is Scope.ZONE
    assert scope_of(CredentialsError("x")) is Scope.ACCOUNT
    assert scope_of(BalanceError("x")) is Scope.ACCOUNT
    assert scope_of(DriverError("x")) is Scope.REGION
    assert scope_of(CapacityError("x", scope=Scope.REGION)) is Scope.REGION
    assert scope_of(DeadlineExceeded("slow")) is Scope.ZONE
    assert scope_of(UnsupportedError("x")) is Scope.CLOUD
    assert scope_of(UnsupportedError("x", scope=Scope.ZONE)) is Scope.ZONE
    assert scope_of(WrongState("x")) is None


@pytest.mark.parametrize("kind", [QuotaError, CapacityError])
def test_quotas_and_capacity_are_of_one_kind_of_machine_and_one_market(kind: type[CloudError]) -> None:
    def offered(region: str, chip: str | None, market: Market, name: str) -> Choice:
        plain = choice("a", "1", region, None, name)
        update = {"accelerator_name": chip, "accelerator_count": 1 if chip else 0, "market": market}
        return plain.model_copy(update={"offer": plain.offer.model_copy(update=update)})

    refused = offered("r1", "A100", Market.SPOT, "p4")
    spared = (
        offered("r1", "A100", Market.ON_DEMAND, "p4"),
        offered("r1", "T4", Market.SPOT, "g4"),
        offered("r2", "A100", Market.SPOT, "p4"),
    )
    larger = offered("r1", "A100", Market.SPOT, "p4-large")
    error = kind("no more")
    for scope in (Scope.ZONE, Scope.REGION):
        assert left_after([refused, larger, *spared], refused, error, scope) == spared
        assert left_after([refused, larger, *spared], refused, DriverError("no"), scope) == spared[2:]
    assert not left_after([refused, larger, *spared], refused, error, Scope.ACCOUNT)
