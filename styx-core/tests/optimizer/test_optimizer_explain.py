"""What people are told: reasons, what-ifs, failover of one task and of graphs, faded refusals, tariffs."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from styx.driver import CatalogRow, Market, Place
from styx.errors import Scope
from styx.optimizer.candidates import gather
from styx.optimizer.egress import TARIFFS, Level, Tariff, area_of, flat, price, seconds, tariff_for
from styx.optimizer.explain import explain
from styx.optimizer.failover import block_of, next_plan
from styx.optimizer.graph import (
    Data,
    Edge,
    GraphProblem,
    GraphTask,
    Limit,
    Preference,
    Requirement,
    Reservation,
    Selector,
)
from styx.optimizer.network import Network
from styx.optimizer.plan import no_features, plan_gathered, plan_graph
from styx.optimizer.problem import Choice, Plan
from styx.optimizer.refusals import FORGET_S, FRACTION, HALF_LIFE_S, MOST, preferences
from styx.optimizer.regraph import next_graph_plan
from styx.state.rows import Refusal

NORTH = Place(cloud="aws", account="a", region="us-east-1")
WEST = Place(cloud="aws", account="a", region="us-west-2")
GCP = Place(cloud="gcp", account="g", region="us-central1")
PLACES = (NORTH, WEST, GCP)
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def row(place, name="m", usd=1.0, **changes):
    values = {"cloud": place.cloud, "region": place.region, "instance_type": name, "usd_per_hour": usd, "vcpus": 4}
    return CatalogRow.model_validate(values | {"memory_gib": 16} | changes)


def spot(place, name="m", usd=0.3, **changes):
    return row(place, name, usd, market=Market.SPOT, **changes)


def gpu(place, usd, kind="H100", count=8):
    return row(place, f"{kind}x{count}", usd, accelerator_name=kind, accelerator_count=count, accelerator_memory_gib=80)


def job(name="t0", *alternatives, **fields):
    return GraphTask(name=name, alternatives=alternatives or (Requirement(label="any"),), **fields)


def asked(tasks, **fields):
    return GraphProblem(**{"tasks": tuple(tasks), "places": PLACES} | fields)


def solve(rows, problem):
    return plan_graph(problem, lambda _: rows)


def told(rows, problem):
    def offers(_):
        return rows

    gathered = gather(problem, offers, no_features)
    plan = plan_gathered(problem, gathered)
    return plan, explain(problem, gathered, plan, offers)


def chosen(plan):
    return [(str(task.chosen.place), task.chosen.offer.instance_type) for task in plan.tasks]


def what(explanation, start):
    return next(each for each in explanation.what_ifs if each.what.startswith(start))


# one task -----------------------------------------------------------------------------------------------------------


def test_one_task_is_ranked_by_price_with_wishes_added_and_says_why_others_lost():
    rows = [row(NORTH, usd=2.0), row(WEST, usd=1.9), row(GCP, usd=2.5), row(GCP, "unknown", None)]
    like = Preference(where=Selector(region="us-west-2"), usd_per_hour=0.2)
    plan = solve(rows, asked([job(num_nodes=2)], preferences=(like,)))
    (task,) = plan.tasks
    assert [str(c.place) for c in task.choices] == ["aws/us-east-1", "aws/us-west-2", *["gcp/us-central1"] * 2]
    assert [c.usd_per_hour for c in task.choices] == [4.0, 3.8, 5.0, None]
    assert [c.more_usd for c in task.choices] == pytest.approx([0.0, -0.2, 1.0, None])
    assert plan.usd_total == 4.0
    assert [loser.what for loser in task.losers] == ["gcp"]
    assert "$1.00 more ($5.00 per hour against $4.00)" in task.losers[0].reason


def test_an_unknown_price_is_taken_only_where_nothing_else_is_and_makes_the_total_unknown():
    plan = solve([row(NORTH, usd=None)], asked([job()]))
    assert plan.status == "optimal"
    assert plan.usd_total is None
    assert plan.warnings == ("the price of t0 is not known",)
    assert not solve([row(NORTH, usd=None)], asked([job()], budget_usd=100)).found


def test_ordered_alternatives_win_whatever_they_cost_unless_a_bound_forbids_it():
    rows = [gpu(NORTH, 50.0), gpu(GCP, 5.0, "A100")]
    wanted = (Requirement(label="H", accelerator_name="H100"), Requirement(label="A", accelerator_name="A100"))
    tasks = [job("t0", *wanted, ordered=True)]
    assert solve(rows, asked(tasks)).tasks[0].chosen.requirement == "H"
    assert solve(rows, asked(tasks, budget_usd=10)).tasks[0].chosen.requirement == "A"


def test_reserved_nodes_are_free_and_shared_by_what_runs_at_once():
    rows = [row(NORTH, usd=2.0), row(GCP, usd=1.5)]
    reserved = (Reservation(where=Selector(region="us-east-1"), nodes=3),)
    assert solve(rows, asked([job(num_nodes=4)], reservations=reserved)).usd_total == 2.0
    both = [job("t0", num_nodes=2), job("t1", num_nodes=2)]
    plan = solve(rows, asked(both, reservations=reserved))
    assert plan.usd_total == 2.0  # 3 free nodes, and one of 2.0; 2 free and 2 of 1.5 would be 3.0
    chain = asked(both, reservations=reserved, edges=(Edge(source="t0", target="t1"),))
    assert solve(rows, chain).usd_total == 0.0


def test_a_cloud_that_a_limit_leaves_out_is_told():
    rows = [row(NORTH, usd=1.0, vcpus=8), row(WEST, usd=1.2, vcpus=16), row(GCP, usd=3.0)]
    limit = Limit(label="vCPUs of AWS", most=6, where=Selector(cloud="aws"))
    plan = solve(rows, asked([job()], limits=(limit,)))
    assert plan.tasks[0].chosen.place == GCP
    (loser,) = plan.tasks[0].losers
    assert (loser.what, loser.reason) == ("aws", "it needs more than the limit vCPUs of AWS leaves")


def test_what_is_reserved_needs_no_known_price():
    rows = [row(NORTH, usd=None), row(GCP, usd=1.5), row(WEST, usd=None)]
    reserved = (Reservation(where=Selector(region="us-east-1"), nodes=2),)
    plan = solve(rows, asked([job(num_nodes=2)], reservations=reserved, budget_usd=1.0))
    assert (plan.usd_total, plan.tasks[0].chosen.place) == (0.0, NORTH)
    assert solve(rows, asked([job(num_nodes=3)], reservations=reserved)).tasks[0].chosen.place == GCP
    both = solve(rows, asked([job("t0"), job("t1", num_nodes=2)], reservations=reserved))
    assert (both.usd_total, both.tasks[1].chosen.place) == (1.5, NORTH)
    lone = solve([row(NORTH, usd=None), row(WEST, usd=None)], asked([job()], reservations=reserved))
    assert (lone.usd_total, lone.tasks[0].chosen.place) == (0.0, NORTH)
    assert lone.tasks[0].choices[1].usd_per_hour is None


def test_hours_on_a_plain_chip_hold_for_its_board_for_servers():
    rows = [gpu(GCP, 4.0, "H200-SXM")]
    assert solve(rows, asked([job(hours=10.0, hours_on={"H200": 2.0})])).usd_total == 8.0
    assert solve(rows, asked([job(hours=10.0, hours_on={"H200": 2.0, "H200-SXM": 1.0})])).usd_total == 4.0
    assert solve(rows, asked([job(hours=10.0, hours_on={"H100": 2.0})])).usd_total == 40.0


# what-ifs -----------------------------------------------------------------------------------------------------------


def test_the_binding_constraint_is_named_with_what_relaxing_it_would_change():
    rows = [row(NORTH, "slow", 1.0), gpu(GCP, 4.0)]
    tasks = [job(hours=10.0, hours_on={"H100": 2.0})]
    plan, explanation = told(rows, asked(tasks, deadline_s=3 * 3600.0, budget_usd=100.0))
    assert plan.usd_total == 8.0
    tight = [job(hours=10.0, hours_on={"H100": 3.0})]
    plan, explanation = told(rows, asked(tight, deadline_s=4 * 3600.0, budget_usd=100.0))
    assert plan.usd_total == 12.0
    (binds,) = explanation.binding
    assert binds.what == "without the deadline of 4h"
    assert binds.usd_more == pytest.approx(-2.0)
    assert binds.seconds_more == pytest.approx(7 * 3600)
    assert "slow in aws/us-east-1" in binds.where
    assert not what(explanation, "without the budget").binds


def test_next_region_spot_and_price_cap():
    rows = [row(NORTH, usd=1.0), row(WEST, usd=1.2), row(GCP, "cheap", 0.5), spot(NORTH)]
    capped = Requirement(label="x", cloud="aws", max_usd_per_hour=2.0)
    plan, explanation = told(rows, asked([job("t0", capped)]))
    assert plan.usd_total == 1.0
    assert what(explanation, "with spot instead").usd_more == pytest.approx(-0.7)
    assert what(explanation, "anywhere, not only in aws").usd_more == pytest.approx(-0.5)
    assert what(explanation, "in the next best region").usd_more == pytest.approx(0.2)
    assert not what(explanation, "without the cap of $2").binds


def test_each_shared_bound_is_asked_about():
    rows = [row(NORTH, usd=1.0), row(GCP, usd=3.0)]
    tasks = [job("t0"), job("t1")]
    quota = Limit(label="quota of aws", of="vcpus", most=4, where=Selector(cloud="aws"))
    plan, explanation = told(rows, asked(tasks, limits=(quota,)))
    assert plan.usd_total == 4.0
    assert what(explanation, "without the limit quota of aws").usd_more == pytest.approx(-2.0)
    plan, explanation = told(rows, asked(tasks, limits=(quota,), together=(("t0", "t1"),)))
    assert plan.usd_total == 6.0
    assert what(explanation, "with t0, t1 in different regions").usd_more == pytest.approx(-2.0)
    plan, explanation = told(rows, asked(tasks, exclude=(Selector(cloud="aws"),)))
    assert plan.usd_total == 6.0
    assert what(explanation, "without excluding aws").usd_more == pytest.approx(-4.0)
    assert {loser.what for task in plan.tasks for loser in task.losers} == {"aws/us-east-1"}


# infeasible ---------------------------------------------------------------------------------------------------------


def test_the_one_requirement_that_kills_it_and_the_nearest_offer():
    rows = [gpu(NORTH, 20.0, count=4), row(GCP)]
    wanted = Requirement(label="H100:8", accelerator_name="H100", accelerator_count=8)
    plan, explanation = told(rows, asked([job("t0", wanted)]))
    assert plan.status == "infeasible"
    (reason,) = explanation.infeasible
    assert reason.what == "t0: H100:8"
    assert reason.reason == "needs 8 x H100; the nearest has 4 x H100"


def test_what_is_kept_out_is_not_called_missing():
    wanted = Requirement(label="any", vcpus=4)
    _, explanation = told([row(NORTH)], asked([job("t0", wanted)], blocked=(Selector(cloud="aws"),)))
    assert "refused earlier" in explanation.infeasible[0].reason
    assert what(explanation, "if what refused").binds


def test_a_bound_that_no_plan_keeps_is_named_with_what_is_possible():
    plan, explanation = told([row(NORTH, usd=2.0)], asked([job(hours=3.0)], budget_usd=5.0, deadline_s=20_000.0))
    assert plan.status == "infeasible"
    assert explanation.infeasible[0].reason == "without the budget of $5 there is a plan for $6.00 that takes 3 h"


def test_bounds_that_fail_only_together_are_called_so():
    rows = [row(NORTH, "slow", 1.0), gpu(GCP, 40.0)]
    tasks = [job(hours=10.0, hours_on={"H100": 1.0})]
    plan, explanation = told(rows, asked(tasks, budget_usd=20.0, deadline_s=5 * 3600.0))
    assert not plan.found
    assert {each.what for each in explanation.binding} == {"without the budget of $20", "without the deadline of 5h"}
    _, explanation = told(rows, asked(tasks, budget_usd=5.0, deadline_s=1800.0))
    both = "without the budget of $5 and the deadline of 30m there is a plan for $10.00 that takes 10 h"
    assert explanation.infeasible[0].reason == both
    _, explanation = told(rows, asked(tasks, budget_usd=5.0, deadline_s=1800.0, max_usd_per_hour=50.0))
    assert explanation.infeasible[0].reason == both  # the cap has no part in it


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"edges": (Edge(source="t0", target="t1"), Edge(source="t1", target="t0"))}, "t0 -> t1 -> t0"),
        ({"edges": (Edge(source="t0", target="x"),)}, "names 'x'"),
        ({"together": (("t0", "t1"), ("t1",))}, "two groups"),
    ],
)
def test_graphs_that_make_no_sense(fields, words):
    with pytest.raises(ValidationError, match=words):
        asked([job("t0"), job("t1")], **fields)


# failover -----------------------------------------------------------------------------------------------------------


def choices(*offers):
    return tuple(Choice(place=place, offer=offer, usd_per_hour=1.0, requirement="x") for place, offer in offers)


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        (Scope.OFFER, ["a/n", "a/m", "a/m", "b/m", "g/m"]),
        (Scope.ZONE, ["a/m", "b/m", "g/m"]),
        (Scope.REGION, ["b/m", "g/m"]),
        (Scope.ACCOUNT, ["g/m"]),
        (Scope.CLOUD, ["g/m"]),
    ],
)
def test_next_plan_of_one_task(scope, left):
    zoned = [NORTH.model_copy(update={"zone": zone}) for zone in "12"]
    ranked = choices(
        (zoned[0], row(NORTH, "m")),
        (zoned[0], row(NORTH, "n")),
        (zoned[0], spot(NORTH, "m")),
        (zoned[1], row(NORTH, "m")),
        (WEST, row(WEST, "m")),
        (GCP, row(GCP, "m")),
    )
    names = {"us-east-1": "a", "us-west-2": "b", "us-central1": "g"}
    plan = Plan(task="t", choices=ranked)
    after = next_plan(plan, ranked[0], scope)
    assert [f"{names[c.place.region]}/{c.offer.instance_type}" for c in after.choices] == left
    assert after.losers[-1].what == "aws/us-east-1/1"
    assert plan.choices == ranked  # pure
    block = block_of(ranked[0], scope)
    assert [c for c in ranked if not block.covers(c.place, c.offer)] == list(after.choices)


def test_next_plan_ends_empty():
    plan = Plan(task="t", choices=choices((NORTH, row(NORTH)), (WEST, row(WEST))))
    for _ in range(2):
        plan = next_plan(plan, plan.choices[0], Scope.OFFER)
    assert plan.choices == ()


ROWS = [row(NORTH, usd=1.0), row(WEST, usd=1.1), row(GCP, usd=1.5), gpu(NORTH, 9.0), gpu(WEST, 9.5), gpu(GCP, 12.0)]
PIPELINE = asked(
    [job("t0"), job("t1", Requirement(label="H", accelerator_name="H100"), inputs=(Data(gb=10, cloud="aws"),))],
    edges=(Edge(source="t0", target="t1", gb=50.0),),
)


@pytest.mark.parametrize("scope", list(Scope))
def test_next_plan_of_a_graph_counts_again_and_no_exact_plan_is_dearer(scope):
    plan = solve(ROWS, PIPELINE)
    refused = plan.tasks[1].chosen
    after = next_graph_plan(plan, refused, scope)
    assert after.found
    assert all(not block_of(refused, scope).covers(t.chosen.place, t.chosen.offer) for t in after.tasks)
    exact = solve(ROWS, PIPELINE.model_copy(update={"blocked": (block_of(refused, scope),)}))
    assert exact.usd_total <= after.usd_total + 1e-9
    same = solve(
        [task.chosen.offer for task in after.tasks], PIPELINE.model_copy(update={"blocked": ()})
    )  # only these offers: the totals of the same placement, counted by the planner
    assert after.usd_total == pytest.approx(same.usd_total)
    assert after.seconds_total == pytest.approx(same.seconds_total)


def test_a_group_moves_together():
    tasks = [job("t0"), job("t1", Requirement(label="H", accelerator_name="H100"))]
    plan = solve(ROWS, asked(tasks, together=(("t0", "t1"),)))
    assert {place for place, _ in chosen(plan)} == {"aws/us-east-1"}
    after = next_graph_plan(plan, plan.tasks[1].chosen, Scope.OFFER)
    assert {place for place, _ in chosen(after)} == {"aws/us-west-2"}
    assert after.usd_total == pytest.approx(10.6)
    after = next_graph_plan(after, after.tasks[0].chosen, Scope.CLOUD)
    assert {place for place, _ in chosen(after)} == {"gcp/us-central1"}
    assert next_graph_plan(after, after.tasks[0].chosen, Scope.REGION) is None


# refusals -----------------------------------------------------------------------------------------------------------


def refusal(age_s, place=NORTH):
    at = NOW - timedelta(seconds=age_s)
    return Refusal(place=place, instance_type="m", market="on_demand", error="CapacityError", at=at)


def test_refusals_fade_add_up_and_are_forgotten():
    (fresh,) = preferences([refusal(0)], NOW)
    assert fresh.fraction == pytest.approx(FRACTION)
    (half,) = preferences([refusal(HALF_LIFE_S)], NOW)
    assert half.fraction == pytest.approx(FRACTION / 2)
    (several,) = preferences([refusal(0), refusal(HALF_LIFE_S)], NOW)
    assert several.fraction == pytest.approx(FRACTION * 1.5)
    (many,) = preferences([refusal(0)] * 50, NOW)
    assert many.fraction == MOST
    assert preferences([refusal(FORGET_S)], NOW) == ()


def test_a_refused_place_loses_to_one_that_costs_about_as_much_and_to_no_other():
    near, far = [row(NORTH, usd=1.0), row(WEST, usd=1.05)], [row(NORTH, usd=1.0), row(WEST, usd=1.3)]
    lately = {"preferences": preferences([refusal(0)], NOW)}
    assert chosen(solve(near, asked([job()], **lately)))[0][0] == "aws/us-west-2"
    assert chosen(solve(far, asked([job()], **lately)))[0][0] == "aws/us-east-1"
    assert solve(far, asked([job()], **lately)).usd_total == 1.0  # in no total


# tariffs ------------------------------------------------------------------------------------------------------------


def test_tiers():
    rates = ((10.0, 1.0), (30.0, 0.5), (math.inf, 0.1))
    assert [price(rates, gb) for gb in (0, 10, 20, 30, 130)] == [0, 10, 15, 20, 30]


@given(st.sampled_from(TARIFFS), st.floats(0, 1e7))
def test_no_tariff_is_cheaper_for_a_farther_place(tariff, gb):
    costs = tariff.usd(gb)
    assert list(costs) == sorted(costs)
    assert len(costs) == len(Level)


@pytest.mark.parametrize(
    ("source", "target", "usd"),
    [
        (("aws", "us-east-1", "a"), ("aws", "us-east-1", "a"), 0.0),
        (("aws", "us-east-1", "a"), ("aws", "us-east-1", "b"), 2.0),
        (("aws", "us-east-1", None), ("aws", "us-east-2", None), 2.0),
        (("aws", "us-east-1", None), ("aws", "eu-west-1", None), 2.0),
        (("aws", "sa-east-1", None), ("aws", "us-east-1", None), 13.8),
        (("aws", "us-east-1", None), ("gcp", "us-central1", None), 9.0),
        (("aws", "ap-southeast-2", None), ("lambda", "us-east-1", None), 11.4),
        (("gcp", "us-central1", None), ("gcp", "us-east1", None), 2.0),
        (("gcp", "us-central1", None), ("gcp", "europe-west4", None), 5.0),
        (("gcp", "us-central1", None), ("gcp", "asia-east1", None), 8.0),
        (("gcp", "us-central1", None), ("ssh", "lab", None), 12.0),
        (("azure", "eastus", None), ("azure", "westus2", None), 2.0),
        (("azure", "eastus", None), ("azure", "westeurope", None), 5.0),
        (("lambda", "us-east-1", None), ("aws", "us-east-1", None), 0.0),
        (("elsewhere", "r1", None), ("aws", "us-east-1", None), 9.0),
    ],
)
def test_a_hundred_gb(source, target, usd):
    network = Network()
    one, other = network.site(*source), network.site(*target)
    assert network.usd(100)[network.sender[one]][network.shared(one, other)] == pytest.approx(usd)
    assert network.shared(one, other) == network.shared(other, one)


def test_clouds_without_figures_are_assumed_and_said_so():
    assert tariff_for("elsewhere", "r").assumed
    rows = [row(Place(cloud="elsewhere", account="a", region="r"))]
    places = (Place(cloud="elsewhere", account="a", region="r"),)
    plan = solve(rows, asked([job(outputs=(Data(gb=5, cloud="aws"),))], places=places))
    assert plan.warnings == ("what elsewhere charges for traffic is not known; $0.09 per GB is assumed",)
    assert solve(rows, asked([job()], places=places)).warnings == ()


def test_own_tariffs_come_first_and_wrong_ones_are_refused():
    own = Tariff(cloud="aws", internet=flat(0.01), cloud_wide=flat(0.005))
    assert tariff_for("aws", "us-east-1", (own,)) is own
    with pytest.raises(ValidationError, match="tiers must rise"):
        Tariff(cloud="x", internet=((5.0, 0.1),))
    with pytest.raises(ValidationError, match="negative or unknown"):
        Tariff(cloud="x", internet=flat(math.nan))


def test_areas_and_speeds():
    assert area_of("azure", "Australia East") == ("oceania", None)
    assert area_of("azure", "austriaeast")[0] == "europe"
    assert area_of("gcp", "northamerica-northeast1") == ("north-america", "atlantic")
    times = [seconds(100, level) for level in Level]
    assert times == sorted(times)
    assert times[Level.REGION] == 80.0


def test_what_a_task_of_a_group_may_be_given_instead_keeps_to_the_group():
    rows = [gpu(NORTH, 4.0), row(NORTH, usd=1.0), row(NORTH, "dear", usd=1.5), row(GCP, "cheap", 0.5)]
    server = job("server", Requirement(label="8 x H100", accelerator_name="H100", accelerator_count=8))
    client = job("client", Requirement(label="any", vcpus=4, max_usd_per_hour=2.0))
    plan = solve(rows, asked([server, client], together=(("server", "client"),)))
    chosen, *others = plan.tasks[1].choices
    assert (chosen.offer.instance_type, [each.offer.instance_type for each in others]) == ("m", ["dear", "cheap"])
    (loser,) = plan.tasks[1].losers
    assert loser.reason.endswith("$0.50 cheaper, but it is not in one region with server")
