"""The planner against plain enumeration, written here from the definitions and sharing no code with it."""

import itertools
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from styx.driver import CatalogRow, Place
from styx.optimizer import dual, milp, tree
from styx.optimizer.candidates import gather
from styx.optimizer.descent import soonest_ms
from styx.optimizer.egress import GBPS, Level, Tariff, flat
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
from styx.optimizer.model import build, evaluate
from styx.optimizer.plan import no_features, plan_graph

CLOUDS = {"acme": ("n1", "n2"), "bolt": ("e1",), "gcp": ("us-east1", "us-west1", "europe-west1"), "ssh": ("lab",)}
PLACES = [Place(cloud=cloud, account="a", region=region) for cloud, regions in CLOUDS.items() for region in regions]
KINDS = ("A", "B")


def money(top):
    return st.integers(0, int(top * 100)).map(lambda cents: cents / 100 + cents % 7 / 1000)


# the oracle ---------------------------------------------------------------------------------------------------------


def level_between(one, other):
    """From the words of the documentation, not from the tree."""
    (c1, r1, z1), (c2, r2, z2) = one, other
    if c1 != c2:
        return Level.INTERNET if "ssh" in (c1, c2) else Level.CLOUDS
    if r1 != r2:
        if c1 != "gcp":
            return Level.CLOUD
        return Level.AREA if r1.startswith("us-") and r2.startswith("us-") else Level.BLOC
    return Level.ZONE if z1 is not None and z1 == z2 else Level.REGION


def egress(problem, source, target, gb):
    by_region = {(tariff.cloud, region): tariff for tariff in problem.tariffs for region in tariff.regions}
    tariff = by_region[source[0], source[1]]
    rates = [tariff.zone, tariff.region, tariff.area or tariff.cloud_wide, tariff.bloc or tariff.cloud_wide]
    rates += [tariff.cloud_wide, tariff.clouds or tariff.internet, tariff.internet]
    return max(rates[level][0][1] * gb for level in range(level_between(source, target) + 1))


def lasts(source, target, gb):
    return round(gb * 8 / GBPS[level_between(source, target)] * 1000)


def spot(place, row):
    return (place.cloud, place.region, row.zone)


def brute_force(problem, rows):
    """Least (rank, [milliseconds,] score) over all assignments that keep every bound; None: there is none."""
    places = {(place.cloud, place.region): place for place in problem.places}
    per_task = []
    for task in problem.tasks:
        options = []
        for row in rows:
            name = row.accelerator_name
            answers = [n for n, wanted in enumerate(task.alternatives) if wanted.accelerator_name == name]
            place = places.get((row.cloud, row.region))
            if not answers or place is None or row.usd_per_hour is None:
                continue
            if any(each.covers(place, row) for each in problem.exclude):
                continue
            free = next((r for r in problem.reservations if r.where.covers(place, row)), None)
            counts = range(min(task.num_nodes, free.nodes) + 1 if free else 1)
            options.extend((answers[0] if task.ordered else 0, place, row, nodes, free) for nodes in counts)
        per_task.append(options)
    found = [key for picks in itertools.product(*per_task) if (key := judged(problem, picks)) is not None]
    return min(found, default=None)


def judged(problem, picks):
    number = {task.name: n for n, task in enumerate(problem.tasks)}
    usd, score, run_ms = 0.0, 0.0, []
    rates = []
    for task, (_, place, row, free, _) in zip(problem.tasks, picks, strict=True):
        hours = task.hours_on.get(row.accelerator_name, task.hours)
        rate = row.usd_per_hour * (task.num_nodes - free)
        rates.append(rate)
        own = rate * hours
        ms = round(hours * 3_600_000)
        for data in task.inputs:
            there = (data.cloud, data.region, None)
            own += egress(problem, there, spot(place, row), data.gb)
            ms += lasts(there, spot(place, row), data.gb)
        run_ms.append(ms)
        usd += own
        score += own
        for wish in problem.preferences:
            if wish.where.covers(place, row):
                score += (wish.usd_per_hour * task.num_nodes + wish.fraction * rate) * hours
    before = {n: [] for n in number.values()}
    for edge in problem.edges:
        source, target = number[edge.source], number[edge.target]
        ends = [spot(picks[n][1], picks[n][2]) for n in (source, target)]
        moved = egress(problem, *ends, edge.gb)
        usd += moved
        score += moved
        before[target].append((source, lasts(*ends, edge.gb)))

    def end(task):
        return run_ms[task] + max((end(source) + ms for source, ms in before[task]), default=0)

    makespan = max(end(n) for n in number.values())

    def waits(one, other):
        return any(source == other or waits(source, other) for source, _ in before[one])

    if problem.budget_usd is not None and usd > problem.budget_usd + 1e-6:
        return None
    if problem.deadline_s is not None and makespan > round(problem.deadline_s * 1000):
        return None
    for group in problem.together:
        if len({(picks[number[name]][1].cloud, picks[number[name]][1].region) for name in group}) > 1:
            return None
    count = len(picks)
    for size in range(1, count + 1):
        for some in itertools.combinations(range(count), size):
            if any(waits(a, b) or waits(b, a) for a, b in itertools.combinations(some, 2)):
                continue
            if problem.max_usd_per_hour is not None and sum(rates[n] for n in some) > problem.max_usd_per_hour + 1e-6:
                return None
            for limit in problem.limits:
                used = sum(
                    picks[n][2].vcpus * problem.tasks[n].num_nodes
                    for n in some
                    if limit.where.covers(picks[n][1], picks[n][2])
                )
                if used > limit.most:
                    return None
            for reservation in problem.reservations:
                if sum(picks[n][3] for n in some if picks[n][4] is reservation) > reservation.nodes:
                    return None
    rank = sum(pick[0] for pick in picks)
    return (rank, makespan, score) if problem.objective == "time" else (rank, score)


# problems -----------------------------------------------------------------------------------------------------------

SHAPES = ("single", "chain", "in-tree", "out-tree", "diamond", "random", "group")


def shape_edges(draw, shape, count, gb):
    pairs = {
        "single": [],
        "group": [],
        "chain": [(n, n + 1) for n in range(count - 1)],
        "in-tree": [(n, count - 1) for n in range(count - 1)],
        "out-tree": [(draw(st.integers(0, n - 1)), n) for n in range(1, count)] if shape == "out-tree" else [],
        "diamond": [(0, n) for n in range(1, count - 1)] + [(n, count - 1) for n in range(1, count - 1)],
        "random": [],
    }[shape]
    if shape == "random":
        pairs = [pair for pair in itertools.combinations(range(count), 2) if draw(st.booleans())]
    return tuple(Edge(source=f"t{a}", target=f"t{b}", gb=draw(gb)) for a, b in pairs)


@st.composite
def catalogs(draw, most):
    rows = []
    for n in range(draw(st.integers(2, most))):
        place = draw(st.sampled_from(PLACES))
        rows.append(
            CatalogRow(
                cloud=place.cloud,
                region=place.region,
                zone=draw(st.sampled_from((None, "z1", "z2"))),
                instance_type=f"m{n}",
                accelerator_name=draw(st.sampled_from(KINDS)),
                accelerator_count=1,
                vcpus=draw(st.sampled_from((4, 8))),
                usd_per_hour=draw(money(9)),
            )
        )
    return rows


@st.composite
def tariff_sets(draw):
    """Any prices that rise with distance, each region with its own."""
    tariffs = []
    for place in PLACES:
        steps = sorted(draw(st.lists(st.integers(0, 12), min_size=7, max_size=7)))
        zone, region, area, bloc, wide, clouds, internet = (flat(step / 100) for step in steps)
        tariffs.append(
            Tariff(
                cloud=place.cloud,
                regions=(place.region,),
                zone=zone,
                region=region,
                area=area,
                bloc=bloc,
                cloud_wide=wide,
                clouds=clouds,
                internet=internet,
            )
        )
    return tuple(tariffs)


@st.composite
def problems(draw, shapes=SHAPES, bounded=True):
    shape = draw(st.sampled_from(shapes))
    count = 1 if shape == "single" else draw(st.integers(3 if shape == "diamond" else 2, 6))
    rows = draw(catalogs({1: 8, 2: 8, 3: 8, 4: 6, 5: 4, 6: 3}[count]))
    gb = st.integers(0, 40).map(float) if draw(st.booleans()) else st.integers(0, 500).map(float)
    ordered = draw(st.integers(0, 3)) == 0
    tasks = tuple(
        GraphTask(
            name=f"t{n}",
            num_nodes=draw(st.integers(1, 2)),
            alternatives=tuple(
                Requirement(label=kind, accelerator_name=kind, accelerator_count=1)
                for kind in draw(st.sampled_from((("A",), ("B", "A"), ("A", "B"))))
            ),
            ordered=ordered,
            hours=draw(st.sampled_from((0.5, 1.0, 3.25))),
            hours_on=draw(st.sampled_from(({}, {"B": 0.3}))),
            inputs=draw(st.sampled_from(((), (Data(gb=30.0, cloud="gcp", region="us-east1"),)))),
        )
        for n in range(count)
    )
    edges = shape_edges(draw, shape, count, gb)
    extra = draw(bounds(count)) if bounded else {}
    problem = GraphProblem(
        tasks=tasks, edges=edges, places=tuple(PLACES), tariffs=draw(tariff_sets()), time_limit_s=60, **extra
    )
    return problem, rows


@st.composite
def bounds(draw, count):
    extra = {"objective": draw(st.sampled_from(("cost", "cost", "time")))}
    names = [f"t{n}" for n in range(count)]
    chance = st.integers(0, 3).map(lambda n: n == 0)
    if draw(chance):
        extra["budget_usd"] = draw(money(60))
    if draw(chance):
        extra["deadline_s"] = draw(st.integers(1000, 60_000)) + 0.25
    if draw(chance):
        extra["max_usd_per_hour"] = draw(money(30))
    if draw(chance):
        where = Selector(cloud=draw(st.sampled_from(tuple(CLOUDS))))
        extra["limits"] = (Limit(label="quota", of="vcpus", most=draw(st.sampled_from((4, 12, 16))), where=where),)
    if draw(chance) and count > 1:
        members = draw(st.sets(st.sampled_from(names), min_size=2))
        extra["together"] = (tuple(sorted(members)),)
    if draw(chance):
        extra["preferences"] = (
            Preference(
                where=Selector(cloud="acme"), usd_per_hour=draw(st.sampled_from((-30.0, -0.5, 0.75))), fraction=0.1
            ),
        )
    if draw(chance):
        extra["reservations"] = (Reservation(where=Selector(region="n1"), nodes=draw(st.integers(1, 3))),)
    if draw(chance):
        extra["exclude"] = (Selector(cloud="bolt"),)
    return extra


def offers_of(rows):
    return lambda _wanted: rows


def agrees(problem, rows, highs):
    plan = plan_graph(problem, offers_of(rows), highs=highs)
    best = brute_force(problem, rows)
    if best is None:
        assert plan.status == "infeasible"
        return
    assert plan.status == "optimal", plan
    assert plan.gap == pytest.approx(0, abs=1e-5)
    key = own_key(problem, plan)
    assert key is not None, "the plan breaks a bound"
    assert key[:-1] == best[:-1]
    assert key[-1] == pytest.approx(best[-1], rel=1e-5, abs=1e-5)
    told = usd_of(problem, plan)
    assert plan.usd_total == pytest.approx(told, abs=1e-6)


def picks_of(problem, plan):
    """The plan in the oracle's terms; how many free nodes it used is read from the price."""
    picks = []
    for task, planned in zip(problem.tasks, plan.tasks, strict=True):
        choice = planned.chosen
        row, place = choice.offer, choice.place
        labels = [wanted.label for wanted in task.alternatives]
        rank = labels.index(choice.requirement) if task.ordered else 0
        full = row.usd_per_hour * task.num_nodes
        each = row.usd_per_hour
        free = round((full - choice.usd_per_hour) / each) if each else 0
        reservation = next((r for r in problem.reservations if r.where.covers(place, row)), None)
        region = next(p for p in PLACES if (p.cloud, p.region) == (place.cloud, place.region))
        picks.append((rank, region, row, free, reservation if free else None))
    return picks


def own_key(problem, plan):
    return judged(problem, picks_of(problem, plan))


def usd_of(problem, plan):
    plain = problem.model_copy(update={"preferences": (), "objective": "cost", "budget_usd": None, "deadline_s": None})
    return judged(plain, picks_of(problem, plan))[-1]


MANY = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.unmeasured
@MANY
@given(problems())
def test_the_plan_is_as_good_as_the_best_of_all(given_problem):
    problem, rows = given_problem
    agrees(problem, rows, highs=True)


@pytest.mark.unmeasured
@MANY
@given(problems(shapes=("diamond", "random", "in-tree"), bounded=False), st.booleans(), st.integers(400, 6000))
def test_where_transfers_take_most_of_the_time(given_problem, hurry, deadline_s):
    problem, rows = given_problem
    tasks = tuple(
        task.model_copy(update={"hours": 0.1, "hours_on": {"B": 0.2}, "ordered": False}) for task in problem.tasks
    )
    edges = tuple(edge.model_copy(update={"gb": 50 + edge.gb}) for edge in problem.edges)
    bound = {"objective": "time"} if hurry else {"deadline_s": float(deadline_s)}
    agrees(problem.model_copy(update={"tasks": tasks, "edges": edges, **bound}), rows, highs=True)


@pytest.mark.unmeasured
@MANY
@given(problems(shapes=("diamond", "random"), bounded=False))
def test_the_program_alone_finds_the_best_of_all(given_problem):
    """Without the short cuts before it, and with them; the bound is one, and cuts no best plan."""
    problem, rows = given_problem
    agrees(problem, rows, highs=True)
    model = build(problem, [each.candidates for each in gather(problem, offers_of(rows), no_features)])
    best = brute_force(problem, rows)
    if best is None:
        return
    if any(len(set(choices.rank)) > 1 for choices in model.tasks):
        assert milp.solve(model, seconds=60).proven
        return
    answer = milp.solve(model, seconds=60)
    assert answer.proven
    assert evaluate(model, answer.picks).score == pytest.approx(best[-1], rel=1e-5, abs=1e-5)
    found = dual.bound(model, answer.picks, best[-1], 60, decode=False)
    assert found.lower <= best[-1] + 1e-6
    assert all(pick in kept for pick, kept in zip(answer.picks, found.kept, strict=True))
    kept = model.with_tasks([choices.keep(each) for choices, each in zip(model.tasks, found.kept, strict=True)])
    assert evaluate(kept, milp.solve(kept, seconds=60).picks).score == pytest.approx(best[-1], rel=1e-5, abs=1e-5)


def relaxed(model):
    """The optimum without the demand for whole choices."""
    import highspy

    lp = milp._lp(milp.Program(model), "cost")
    lp.integrality_ = []
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.passModel(lp)
    solver.run()
    return solver.getInfo().objective_function_value


@pytest.mark.unmeasured
@MANY
@given(problems(shapes=("chain", "in-tree", "out-tree"), bounded=False))
def test_trees_come_whole_out_of_the_relaxation_and_agree_with_dynamic_programming(given_problem):
    problem, rows = given_problem
    model = build(problem, [each.candidates for each in gather(problem, offers_of(rows), no_features)])
    if not all(len(choices) for choices in model.tasks) or any(len(set(c.rank)) > 1 for c in model.tasks):
        return
    answer = milp.solve(model, seconds=60)
    assert answer.proven
    assert answer.nodes <= 1
    assert relaxed(model) == pytest.approx(evaluate(model, answer.picks).score, rel=1e-6, abs=1e-6)
    by_tree = evaluate(model, tree.solve(model)).score
    assert evaluate(model, answer.picks).score == pytest.approx(by_tree, rel=1e-6, abs=1e-6)


@pytest.mark.unmeasured
@MANY
@given(problems())
def test_without_the_solver_plans_keep_every_bound_and_are_never_better(given_problem):
    problem, rows = given_problem
    plan = plan_graph(problem.model_copy(update={"time_limit_s": 0.5}), offers_of(rows), highs=False)
    best = brute_force(problem, rows)
    if plan.found:
        key = own_key(problem, plan)
        assert key is not None
        assert best is not None
        assert key[0] >= best[0]
        if key[0] == best[0]:
            assert key >= tuple(value - 1e-6 for value in best)
        if plan.status == "optimal":
            assert key[-1] == pytest.approx(best[-1], abs=1e-5)
    elif plan.status == "infeasible":
        assert best is None


# chains -------------------------------------------------------------------------------------------------------------


def viterbi(problem, rows):
    """A dynamic program over pairs of offers, as a textbook has it."""
    places = {(place.cloud, place.region): place for place in problem.places}
    table = None
    for task, into in zip(problem.tasks, (None, *problem.edges), strict=False):
        names = {wanted.accelerator_name for wanted in task.alternatives}
        options = []
        for row in rows:
            if row.accelerator_name in names:
                where = spot(places[row.cloud, row.region], row)
                own = row.usd_per_hour * task.num_nodes * task.hours_on.get(row.accelerator_name, task.hours)
                own += sum(egress(problem, (d.cloud, d.region, None), where, d.gb) for d in task.inputs)
                options.append((where, own))
        if table is None:
            table = options
        else:
            table = [
                (where, own + min(cost + egress(problem, before, where, into.gb) for before, cost in table))
                for where, own in options
            ]
    return min(cost for _, cost in table)


@pytest.mark.unmeasured
@MANY
@given(st.data())
def test_long_chains_equal_a_textbook_dynamic_program(data):
    count = data.draw(st.integers(2, 20))
    rows = data.draw(catalogs(30))
    kinds = {row.accelerator_name for row in rows}
    tasks = tuple(
        GraphTask(
            name=f"t{n}",
            num_nodes=data.draw(st.integers(1, 3)),
            alternatives=tuple(
                Requirement(label=kind, accelerator_name=kind, accelerator_count=1) for kind in sorted(kinds)
            ),
            hours=data.draw(st.sampled_from((0.25, 1.0, 6.0))),
        )
        for n in range(count)
    )
    edges = tuple(Edge(source=f"t{n}", target=f"t{n + 1}", gb=data.draw(st.integers(0, 300))) for n in range(count - 1))
    problem = GraphProblem(tasks=tasks, edges=edges, places=tuple(PLACES), tariffs=data.draw(tariff_sets()))
    plan = plan_graph(problem, offers_of(rows))
    assert plan.status == "optimal"
    assert plan.method == "tree"
    assert plan.usd_total == pytest.approx(viterbi(problem, rows), rel=1e-9, abs=1e-9)
    assert math.isclose(plan.seconds_total, plan.tasks[-1].ends_s)


def test_the_solver_prints_nothing(capfd):
    rows = [
        CatalogRow(cloud=place.cloud, region=place.region, instance_type="m", usd_per_hour=1.0 + n, vcpus=4)
        for n, place in enumerate(PLACES)
    ]
    tasks = tuple(GraphTask(name=f"t{n}", alternatives=(Requirement(label="any"),)) for n in range(3))
    edges = tuple(Edge(source=f"t{a}", target=f"t{b}", gb=10) for a, b in ((0, 1), (1, 2), (0, 2)))
    problem = GraphProblem(tasks=tasks, edges=edges, places=tuple(PLACES), objective="time")
    model = build(problem, [each.candidates for each in gather(problem, offers_of(rows), no_features)])
    answer = milp.solve(model)
    assert answer.proven
    assert evaluate(model, answer.picks).ms == soonest_ms(model)
    assert capfd.readouterr() == ("", "")


def test_a_solver_that_cannot_be_loaded_is_done_without(monkeypatch):
    from styx.optimizer import milp

    def broken(*_args, **_kwargs):
        raise ImportError("libstdc++.so.6: cannot open shared object file")

    monkeypatch.setattr(milp, "solve", broken)
    places = [Place(cloud="aws", account="a", region=region) for region in ("us-east-1", "us-west-2")]
    rows = [
        CatalogRow(cloud="aws", region=place.region, instance_type=f"m{usd}", usd_per_hour=usd, vcpus=4)
        for usd, place in enumerate(places, 1)
    ]
    tasks = tuple(GraphTask(name=name, alternatives=(Requirement(label="any"),)) for name in "ab")
    limit = Limit(label="q", of="nodes", most=1, where=Selector(region="us-east-1"))
    plan = plan_graph(GraphProblem(tasks=tasks, places=tuple(places), limits=(limit,)), offers_of(rows), highs=True)
    assert (plan.method, plan.usd_total) == ("descent", 3.0)
    assert any("HiGHS" in warning for warning in plan.warnings)


def test_a_wish_that_makes_costs_negative_cuts_no_better_plan():
    """Bounds used to begin at 0, as if nothing that is still to come could be below it."""
    rows = [
        CatalogRow(cloud=cloud, region=region, instance_type="m", usd_per_hour=usd, vcpus=2)
        for cloud, region, usd in (("acme", "n1", 0.131), ("bolt", "e1", 0.0376))
    ]
    tasks = tuple(
        GraphTask(name=cloud, num_nodes=4, hours=10, alternatives=(Requirement(label=cloud, cloud=cloud),))
        for cloud in ("acme", "bolt")
    )
    problem = GraphProblem(
        tasks=tasks,
        places=tuple(PLACES),
        reservations=(Reservation(where=Selector(), nodes=2),),
        preferences=(Preference(where=Selector(cloud="bolt"), usd_per_hour=-0.3),),
    )
    plan = plan_graph(problem, offers_of(rows), highs=True)
    assert plan.usd_total == pytest.approx(10 * (2 * 0.131 + 4 * 0.0376))  # the dearer machines take the free nodes


def test_what_is_next_in_order_keeps_the_bounds_and_is_as_soon():
    """Places with many cheap and slow machines must not crowd out the others that are fast enough."""
    places = [Place(cloud="acme", account="a", region=f"r{n}") for n in range(150)]
    rows = [
        CatalogRow(cloud="acme", region=place.region, instance_type=kind, usd_per_hour=usd + n / 1000, vcpus=2)
        for n, place in enumerate(places)
        for kind, usd in (("slow", 1.0), ("fast", 10.0))
    ]
    task = GraphTask(name="t", hours=10, hours_on={"fast": 0.5}, alternatives=(Requirement(label="any"),))
    soon = GraphProblem(tasks=(task,), places=tuple(places), objective="time")
    late = GraphProblem(tasks=(task,), places=tuple(places), deadline_s=3600)
    capped = GraphProblem(tasks=(task,), places=tuple(places), max_usd_per_hour=5)
    for problem, kind in ((soon, "fast"), (late, "fast"), (capped, "slow")):
        (planned,) = plan_graph(problem, offers_of(rows)).tasks
        assert {choice.offer.instance_type for choice in planned.choices} == {kind}
        assert [choice.place.region for choice in planned.choices[:5]] == ["r0", "r1", "r2", "r3", "r4"]


@pytest.mark.parametrize(
    "bound",
    [
        {"budget_usd": 1.9},
        {"deadline_s": 3599.0},
        {"max_usd_per_hour": 1.9},
        {"limits": (Limit(label="q", of="vcpus", most=7, where=Selector()),)},
        {"together": (("a", "b"),)},
    ],
)
def test_what_is_out_of_reach_is_known_without_a_solver(bound):
    rows = [
        CatalogRow(cloud="acme", region=region, instance_type=f"m-{region}", usd_per_hour=1.0, vcpus=4)
        for region in ("n1", "n2")
    ]
    tasks = tuple(
        GraphTask(name=name, alternatives=(Requirement(label=name, region=region),))
        for name, region in (("a", "n1"), ("b", "n2"))
    )
    problem = GraphProblem(tasks=tasks, places=tuple(PLACES))
    assert plan_graph(problem, offers_of(rows), highs=False).status == "optimal"
    assert plan_graph(problem.model_copy(update=bound), offers_of(rows), highs=False).status == "infeasible"


def test_offers_of_unknown_price_keep_to_limits_and_deadlines_too():
    rows = [CatalogRow(cloud="acme", region="n1", instance_type="known", usd_per_hour=1.0, vcpus=4)]
    rows += [
        CatalogRow(cloud="bolt", region="e1", instance_type=kind, vcpus=cpus) for kind, cpus in (("s", 4), ("l", 64))
    ]
    task = GraphTask(name="t", alternatives=(Requirement(label="any"),), hours_on={"s": 9.0})
    problem = GraphProblem(tasks=(task,), places=tuple(PLACES))
    limit = Limit(label="q", of="vcpus", most=8, where=Selector(cloud="bolt"))
    for bounds, kinds in (
        ({}, ["known", "s", "l"]),
        ({"limits": (limit,)}, ["known", "s"]),
        ({"deadline_s": 7200}, ["known", "l"]),
    ):
        (planned,) = plan_graph(problem.model_copy(update=bounds), offers_of(rows)).tasks
        assert [choice.offer.instance_type for choice in planned.choices] == kinds
