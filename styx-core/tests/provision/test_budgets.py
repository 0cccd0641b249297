"""Budgets: windows, spent plus planned, who counts, what is refused; pure, and over a real ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.api.inprocess import InProcess
from styx.config import load_config
from styx.driver import CatalogRow, Place
from styx.errors import BudgetExceeded, InvalidInput
from styx.models import read_text
from styx.models.settings import Budget
from styx.optimizer.problem import Choice, Plan
from styx.provision import budgets
from styx.provision.budgets import Outlook, standing, window_of
from styx.state.rows import ClusterRow, ClusterState, Rate

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def rate(hours: float, usd: float | None, *, ago: float = 0.0, cloud: str = "acme", cluster: str = "k") -> Rate:
    """An interval of so many hours that ended so many hours before NOON."""
    end = NOON - timedelta(hours=ago)
    return Rate(
        cluster=cluster,
        node="n",
        rank=0,
        place=Place(cloud=cloud, account="1", region="r"),
        usd_per_hour=usd,
        start=end - timedelta(hours=hours),
        end=end,
    )


def budget(**changes: Any) -> Budget:
    return Budget.model_validate({"name": "b", "usd": 100} | changes)


def test_windows_are_those_of_utc() -> None:
    assert window_of("day", NOON) == (datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    assert window_of("month", NOON) == (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    assert window_of("month", datetime(2026, 12, 31, 23, tzinfo=UTC))[1] == datetime(2027, 1, 1, tzinfo=UTC)
    assert window_of("total", NOON) == (None, None)


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)), st.sampled_from(["day", "month"]))
def test_every_moment_lies_in_its_window_and_windows_meet(moment: datetime, per: str) -> None:
    now = moment.replace(tzinfo=UTC)
    begin, end = window_of(per, now)
    assert begin is not None
    assert end is not None
    assert begin <= now < end
    assert window_of(per, end)[0] == end


@pytest.mark.parametrize(("per", "spent"), [("day", 12 * 2.0), ("month", 36 * 2.0), ("total", 36 * 2.0)])
def test_only_what_was_spent_in_the_window_counts(per: str, spent: float) -> None:
    found = standing(budget(per=per), [rate(36, 2.0)], NOON, Outlook(usd_per_hour=1.0, hours=2))
    assert (found.usd_spent, found.usd_planned) == (pytest.approx(spent), 2.0)
    assert (found.over, found.near) == (False, False)


def test_warns_from_80_percent_and_is_over_above_the_limit() -> None:
    def at(usd: float) -> tuple[bool, bool]:
        found = standing(budget(per="total"), [rate(1, 70.0)], NOON, Outlook(usd_per_hour=usd))
        return found.near, found.over

    assert [at(9.99), at(10.0), at(30.0), at(30.01)] == [(False, False), (True, False), (True, False), (True, True)]


def test_a_plan_that_runs_into_the_next_day_must_fit_there_too() -> None:
    found = standing(budget(per="day"), [], NOON, Outlook(usd_per_hour=5.0, hours=40))
    assert (found.usd_planned, found.later, found.over) == (120.0, True, True)
    assert standing(budget(per="day"), [rate(1, 70.0)], NOON, Outlook(usd_per_hour=5.0, hours=13)).later is False


def test_unknown_prices_are_told_and_never_taken_for_nothing() -> None:
    found = standing(budget(), [rate(1, None), rate(1, 5.0)], NOON, Outlook(usd_per_hour=None))
    assert (found.usd_spent, found.spent_is_partial, found.usd_planned, found.over) == (5.0, True, None, True)
    assert "an unknown amount" in str(found)
    bounded = standing(budget(), [], NOON, Outlook(usd_per_hour=None, max_usd=20))
    assert (bounded.usd_planned, bounded.over) == (20, False)


def test_the_lease_bounds_a_plan() -> None:
    assert standing(budget(), [], NOON, Outlook(usd_per_hour=50.0, hours=10, max_usd=60)).over is False


# the config ------------------------------------------------------------------------------------------------------


def test_budgets_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "budgets:\n- {name: ml, usd: '500', scope: cloud:AWS}\n- {name: me, usd: 20, per: day, on_limit: warn}\n"
    )
    ml, me = load_config(tmp_path).budgets
    assert (ml.usd, ml.per, ml.scope, ml.on_limit) == (500, "month", "cloud:aws", "refuse")
    assert (me.per, me.scope, me.on_limit) == ("day", "all", "warn")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("budgets: {name: a}", "must be a list of budgets"),
        ("budgets: [{usd: 5}]", "name"),
        ("budgets: [{name: a, usd: 0}]", "above 0"),
        ("budgets: [{name: a, usd: 5, per: week}]", "per"),
        ("budgets: [{name: a, usd: 5, scope: team}]", "cloud:aws"),
        ("budgets: [{name: a, usd: 5}, {name: a, usd: 6}]", "another budget"),
        ("budgets: [{name: a, usd: 5, limit: warn}]", "limit"),
    ],
)
def test_a_wrong_budget_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=told) as caught:
        load_config(tmp_path)
    assert caught.value.faults[0].line == 1


def test_a_task_cannot_set_its_own_budget() -> None:
    with pytest.raises(InvalidInput, match="cannot be set by a task"):
        read_text("config: {budgets: []}\nrun: x")


# over a store ----------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Any:
    client = InProcess.open(home=tmp_path / "home", cwd=tmp_path, environ={"STYX_USER": "ada", "HOME": str(tmp_path)})
    yield client.world
    client.close()


def configured(world: Any, text: str) -> None:
    (world.store.home / "config.yaml").write_text(text)


def spend(world: Any, usd: float, *, owner: str = "ada", cloud: str = "acme") -> None:
    now = world.now()
    key = world.store.new_key(owner)
    world.store.insert_cluster(
        ClusterRow(
            key=key,
            name=f"{owner}-{key[-2:]}",
            owner=owner,
            state=ClusterState.UP,
            num_nodes=1,
            created_at=now,
            last_use_at=now,
        )
    )
    place = Place(cloud=cloud, account="1", region="r")
    start = now - timedelta(seconds=60)
    world.store.open_rate(Rate(cluster=key, node="n", rank=0, place=place, usd_per_hour=usd * 60, start=start, end=now))


def plan_of(*offers: tuple[str, float | None]) -> Plan:
    choices = tuple(
        Choice(
            place=Place(cloud=cloud, account="1", region="r"),
            offer=CatalogRow(cloud=cloud, instance_type="x", region="r", usd_per_hour=usd),
            usd_per_hour=usd,
            requirement="any machine",
        )
        for cloud, usd in offers
    )
    return Plan(task="t", choices=choices)


def test_what_a_budget_refuses_leaves_the_plan_with_its_reason(world: Any) -> None:
    configured(world, "budgets: [{name: big, usd: 10, per: total}, {name: a, usd: 3, per: total, scope: cloud:acme}]")
    spend(world, 2.0)
    plan = budgets.within(world, plan_of(("acme", 2.0), ("zeus", 4.0), ("zeus", 9.0), ("zeus", None), ("local", 0.0)))
    assert [(each.place.cloud, each.usd_per_hour) for each in plan.choices] == [("zeus", 4.0), ("local", 0.0)]
    reasons = {loser.what: loser.reason for loser in plan.losers}
    assert reasons["acme"].startswith('budget "a" is $3.00 at acme: $2.00 was spent so far')
    assert reasons["zeus"].startswith('budget "big" is $10.00: $2.00')


def test_when_nothing_is_left_the_budget_is_the_error(world: Any) -> None:
    configured(world, "budgets: [{name: ml, usd: 3, per: total}]")
    spend(world, 2.5)
    with pytest.raises(
        BudgetExceeded, match=r'budget "ml" is \$3.00: \$2.50 was spent so far, and this would add'
    ) as no:
        budgets.within(world, plan_of(("acme", 1.0)))
    assert no.value.exit_code == 77
    with pytest.raises(BudgetExceeded):
        budgets.check(world, "acme", 1.0)
    assert budgets.check(world, "acme", 0.4)[0].endswith("this would add about $0.40")
    assert budgets.check(world, "local", 0.0) == []


def test_one_users_budget_leaves_out_what_others_spent(world: Any) -> None:
    configured(world, "budgets: [{name: mine, usd: 10, per: total, scope: user}]")
    spend(world, 50, owner="bob")
    assert budgets.check(world, "acme", 7.0) == []
    spend(world, 4, owner="ada")
    with pytest.raises(BudgetExceeded, match="for each user"):
        budgets.check(world, "acme", 7.0)


def test_a_budget_that_warns_refuses_nothing(world: Any) -> None:
    configured(world, "budgets: [{name: soft, usd: 1, per: total, on_limit: warn}]")
    assert len(budgets.within(world, plan_of(("acme", 7.0), ("acme", None))).choices) == 2
    assert budgets.check(world, "acme", 7.0)[0].endswith("that is over it")
    assert "nobody can tell" in budgets.check(world, "acme", None)[0]


def test_max_age_and_max_cost_of_the_lease_count(world: Any) -> None:
    configured(world, "lease: {max_age: 10h, max_cost: 6}\nbudgets: [{name: b, usd: 5, per: total}]")
    with pytest.raises(BudgetExceeded, match=r"about \$6\.00"):
        budgets.check(world, "acme", 1.0)
