"""What the graph planner answers: the chosen offers, ranked alternatives, what it all costs, and why others lost."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

from styx.driver import CatalogRow, FeatureSet, Value
from styx.optimizer import solve as solving
from styx.optimizer.candidates import FeaturesOf, Gathered, Offers, gather
from styx.optimizer.egress import Level
from styx.optimizer.graph import Candidates, GraphProblem, GraphTask
from styx.optimizer.model import (
    Choices,
    Link,
    Model,
    Totals,
    build,
    evaluate,
    finish_ms,
    hours_on,
    link_usd,
    unpriced,
    uses,
)
from styx.optimizer.problem import Choice, Loser
from styx.optimizer.reasons import described
from styx.units import number_text, usd_text

ALTERNATIVES = 20
"""How many choices a task's plan lists, besides the best of some more regions and of every cloud."""
_MORE_REGIONS = 20
_NO_SOLVER = "the solver HiGHS (highspy) can't be used here: the plan is what a quick search found, maybe not the best"
_LOOKED_AT = 100
"""How many of a task's cheapest (or soonest) candidates are compared in full."""
_TRIED = 3000
"""How many candidates of a single task are looked at for some that break no bound; fewer of each in larger graphs."""
_LONGER_S = 60.0
"""From here on a run that takes longer is told."""


class TaskPlan(Value):
    """One task's part of a plan."""

    name: str
    num_nodes: int = 1
    hours: float = 0.0
    choices: tuple[Choice, ...] = ()
    """The chosen one, then what to try instead, best first; the other tasks staying where they are."""
    starts_s: float = 0.0
    """When it may start, from the start of the plan: after what it waits for, and the transfers from there."""
    ends_s: float = 0.0
    losers: tuple[Loser, ...] = ()

    @property
    def chosen(self) -> Choice:
        """The first choice."""
        return self.choices[0]


class Transfer(Value):
    """What one edge moves, and what that costs in the plan."""

    source: str
    target: str
    gb: float
    usd: float
    seconds: float


class GraphPlan(Value):
    """A placement of the whole graph, or the reasons why there is none."""

    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    """`feasible`: within `gap` of the optimum; `unknown`: none was found in time, and there may be one."""
    objective: Literal["cost", "time"] = "cost"
    usd_total: float | None = None
    """None is unknown: a chosen offer has no price."""
    usd_moved: float = 0.0
    """The part of it for transfers between tasks."""
    seconds_total: float | None = None
    gap: float | None = None
    """Proven relative distance from the optimum."""
    method: Literal["tree", "bound", "milp", "descent", "plugin"] = "tree"
    tasks: tuple[TaskPlan, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    warnings: tuple[str, ...] = ()
    planning_s: float = 0.0

    @property
    def found(self) -> bool:
        """Whether it places every task."""
        return bool(self.tasks) and all(task.choices for task in self.tasks)


def no_features(row: CatalogRow) -> FeatureSet:
    """What a row says of itself, or the defaults."""
    return row.features or FeatureSet()


def plan_graph(
    problem: GraphProblem, offers: Offers, features_of: FeaturesOf = no_features, *, highs: bool | None = None
) -> GraphPlan:
    """Place all tasks.

    Args:
        problem: What to place.
        offers: Rows that may answer a requirement.
        features_of: What a row can do.
        highs: Whether the solver may be used; None: if it is installed.
    """
    return plan_gathered(problem, gather(problem, offers, features_of), highs=highs)


def plan_gathered(problem: GraphProblem, gathered: Sequence[Gathered], *, highs: bool | None = None) -> GraphPlan:
    """The same over candidates that are known."""
    began = time.monotonic()
    model = build(problem, [each.candidates for each in gathered])
    solution = solving.solve(model, problem.time_limit_s, highs=highs)
    if solution.picks is None or solution.totals is None:
        return GraphPlan(
            status="infeasible" if solution.proven else "unknown",
            objective=problem.objective,
            method=solution.method,
            tasks=tuple(
                TaskPlan(name=task.name, num_nodes=task.num_nodes, hours=task.hours, losers=tuple(each.losers))
                for task, each in zip(problem.tasks, gathered, strict=True)
            ),
            together=problem.together,
            planning_s=time.monotonic() - began,
        )
    return _told(problem, gathered, model, solution, began)


def _told(
    problem: GraphProblem, gathered: Sequence[Gathered], model: Model, solution: solving.Solution, began: float
) -> GraphPlan:
    picks, totals = solution.picks, solution.totals
    assert picks is not None
    assert totals is not None
    chosen = [choices.get(pick) for choices, pick in zip(model.tasks, picks, strict=True)]
    ends = finish_ms(model, chosen)
    comparison = _Comparison(model, picks)
    tasks, unknown = [], False
    for number, (task, each) in enumerate(zip(problem.tasks, gathered, strict=True)):
        ranked = comparison.ranked(number)
        choices = _choices(problem, task, each, model, number, ranked)
        priced = choices[0].usd_per_hour is not None
        unknown = unknown or not priced
        tasks.append(
            TaskPlan(
                name=task.name,
                num_nodes=task.num_nodes,
                hours=hours_on(task, choices[0].offer),
                choices=choices,
                starts_s=(ends[number] - chosen[number].ms) / 1000,
                ends_s=ends[number] / 1000,
                losers=(*each.losers, *_over(problem, each, model, number), *_beaten(choices, problem, task)),
            )
        )
    transfers = [
        Transfer(
            source=edge.source,
            target=edge.target,
            gb=edge.gb,
            usd=link_usd(model, link, chosen[link.source].site, chosen[link.target].site),
            seconds=link.ms[model.network.shared(chosen[link.source].site, chosen[link.target].site)] / 1000,
        )
        for edge, link in zip(problem.edges, model.links, strict=True)
    ]
    return GraphPlan(
        status="optimal" if solution.proven else "feasible",
        objective=problem.objective,
        usd_total=None if unknown else totals.usd,
        usd_moved=math.fsum(each.usd for each in transfers),
        seconds_total=totals.ms / 1000,
        gap=solution.gap,
        method=solution.method,
        tasks=tuple(tasks),
        transfers=tuple(transfers),
        together=problem.together,
        warnings=(*_warnings(problem, model, tasks), *([_NO_SOLVER] if solution.method == "descent" else ())),
        planning_s=time.monotonic() - began,
    )


class _Comparison:
    """How the plan changes when one task moves and the others stay."""

    def __init__(self, model: Model, picks: Sequence[int]) -> None:
        self.model, self.picks = model, list(picks)
        self.links: defaultdict[int, list[Link]] = defaultdict(list)
        for link in model.links:
            self.links[link.source].append(link)
            self.links[link.target].append(link)
        self.full = model.coupled or model.by_time
        self._order: dict[int, list[int]] = {}
        self._known: dict[tuple[int, int], Totals] = {}

    def _sorted(self, choices: Choices) -> list[int]:
        """Cheapest, or soonest, first; shared by tasks that ask for the same."""
        if id(choices) not in self._order:
            first, second = (choices.ms, choices.score) if self.model.by_time else (choices.score, choices.ms)
            keys = list(zip(choices.rank, first, second, strict=True))
            self._order[id(choices)] = sorted(range(len(choices)), key=keys.__getitem__)
        return self._order[id(choices)]

    def ranked(self, task: int) -> list[tuple[int, float]]:
        """Choices of a task, the chosen one first, then best first, each with what it adds to the total cost."""
        choices, now = self.model.tasks[task], self.picks[task]
        some = self._sorted(choices)
        allowed = self._allowed(task, some)
        kept = dict.fromkeys(allowed or some[:_LOOKED_AT])
        others = {i for i in some if i not in kept} if allowed else set[int]()  # they may break a bound
        homes = {choices.home[i] for i in kept}
        for i in some:
            if choices.home[i] not in homes:
                homes.add(choices.home[i])
                kept[i] = None
        by_site: dict[int, float] = {}
        keys: dict[int, tuple[float, ...]] = {}
        for i in kept:
            site = choices.site[i]
            if site not in by_site:
                by_site[site] = self._moved(task, site)
            score, ms = choices.score[i] + by_site[site], choices.ms[i]
            keys[i] = (i in others, choices.rank[i], *((ms, score) if self.model.by_time else (score, ms)))
        best = sorted((i for i in kept if i != now), key=keys.__getitem__)
        here = choices.usd[now] + self._moved(task, choices.site[now])
        listed = self._trimmed(task, best)
        if self.full:
            listed = self._keeping_bounds(task, listed)
        return [(now, 0.0), *((i, choices.usd[i] + by_site[choices.site[i]] - here) for i in listed)]

    def _allowed(self, task: int, some: Sequence[int]) -> list[int]:
        """The first of them that break no bound: those that come before may all do so."""
        if not self.full:
            return []
        kept: list[int] = []
        for i in some[: max(ALTERNATIVES, _TRIED // len(self.picks) ** 2)]:
            if len(kept) >= _LOOKED_AT:
                break
            if not self._moved_to(task, i).broken:
                kept.append(i)
        return kept

    def _moved_to(self, task: int, choice: int) -> Totals:
        """The plan with one task elsewhere."""
        if (task, choice) not in self._known:
            picks = [choice if number == task else pick for number, pick in enumerate(self.picks)]
            self._known[task, choice] = evaluate(self.model, picks)
        return self._known[task, choice]

    def _trimmed(self, task: int, best: list[int]) -> list[int]:
        """The first ones, then the first one of some more regions, and of every cloud."""
        choices, paths = self.model.tasks[task], self.model.network.paths
        homes: set[int] = set()
        clouds: set[int] = set()
        origins = {choices.origin[self.picks[task]]}
        listed: list[int] = []
        for i in best:
            home, cloud, origin = choices.home[i], paths[choices.site[i]][Level.CLOUD], choices.origin[i]
            room = len(listed) < ALTERNATIVES or (home not in homes and len(listed) < ALTERNATIVES + _MORE_REGIONS)
            if origin not in origins and (room or cloud not in clouds):
                homes.add(home)
                clouds.add(cloud)
                origins.add(origin)
                listed.append(i)
        return listed

    def _keeping_bounds(self, task: int, listed: list[int]) -> list[int]:
        """In the plan's own order; what breaks a bound comes last, and what leaves its group (alone) before that."""
        keys = {}
        for i in listed:
            totals = self._moved_to(task, i)
            groups = [each.startswith("group ") for each in totals.broken]
            keys[i] = (not all(groups), any(groups), *totals.key(self.model.by_time))
        return sorted(listed, key=keys.__getitem__)

    def _moved(self, task: int, site: int) -> float:
        usd = 0.0
        for link in self.links[task]:
            other = link.target if link.source == task else link.source
            there = self.model.tasks[other].site[self.picks[other]]
            usd += link_usd(self.model, link, *((site, there) if link.source == task else (there, site)))
        return usd


def _choices(
    problem: GraphProblem,
    task: GraphTask,
    each: Gathered,
    model: Model,
    number: int,
    ranked: Sequence[tuple[int, float]],
) -> tuple[Choice, ...]:
    found, made = each.candidates, model.tasks[number]
    unknown = unpriced(problem, task, found)
    unpaid = set(unknown)
    choices = [
        Choice(
            place=found.places[origin],
            offer=found.rows[origin],
            usd_per_hour=None if origin in unpaid else made.usd_per_hour[i],
            requirement=task.alternatives[found.answers[origin]].label,
            more_usd=None if origin in unpaid else more,
            usd=None if origin in unpaid else made.usd[i],
            seconds=made.ms[i] / 1000,
        )
        for i, more in ranked
        for origin in (made.origin[i],)
    ]
    if len(unknown) < len(found):  # behind every known price, as far as a bound on money lets them be tried at all
        bounded = problem.budget_usd is not None or problem.max_usd_per_hour is not None
        open_ones = [i for i in unknown if not bounded and _may_be(problem, task, found, i)]
        choices += [
            Choice(
                place=found.places[i],
                offer=found.rows[i],
                usd_per_hour=None,
                requirement=task.alternatives[found.answers[i]].label,
            )
            for i in open_ones[:ALTERNATIVES]
        ]
    return tuple(choices)


def _may_be(problem: GraphProblem, task: GraphTask, found: Candidates, index: int) -> bool:
    """Whether limits and the deadline let a task have an offer at all."""
    place, row = found.places[index], found.rows[index]
    late = problem.deadline_s is not None and hours_on(task, row) * 3600 > problem.deadline_s
    return not late and all(uses(limit, task, place, row) <= limit.most for limit in problem.limits)


def _over(problem: GraphProblem, each: Gathered, model: Model, number: int) -> list[Loser]:
    """Clouds all of whose offers of known price need more than is left of a limit."""
    if not problem.limits:
        return []
    found, task = each.candidates, problem.tasks[number]
    kept = {found.places[origin].cloud for origin in model.tasks[number].origin}
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for place, row, price in zip(found.places, found.rows, found.usd_per_hour, strict=True):
        if place.cloud not in kept and not math.isnan(price):
            labels = [each.label for each in problem.limits if uses(each, task, place, row) > each.most]
            reasons[place.cloud].update(labels)
    return [
        Loser(what=cloud, reason=f"it needs more than the limit {labels.most_common(1)[0][0]} leaves")
        for cloud, labels in reasons.items()
        if labels
    ]


def _mates(problem: GraphProblem, task: GraphTask) -> str:
    """The tasks that this one must be near to."""
    return ", ".join(name for group in problem.together if task.name in group for name in group if name != task.name)


def _beaten(choices: Sequence[Choice], problem: GraphProblem, task: GraphTask) -> list[Loser]:
    """The best of every other cloud, and by how much it lost."""
    first = choices[0]
    seen = {first.place.cloud}
    losers = []
    for choice in choices[1:]:
        if choice.place.cloud in seen:
            continue
        seen.add(choice.place.cloud)
        losers.append(Loser(what=choice.place.cloud, reason=_why_beaten(first, choice, problem, task)))
    return losers


def _why_beaten(first: Choice, choice: Choice, problem: GraphProblem, task: GraphTask) -> str:
    what = f"the best there is {described(choice.offer)}"
    if choice.usd_per_hour is None:
        return f"{what}, whose price is not known"
    if choice.more_usd is None or first.usd_per_hour is None:
        return what
    longer = (choice.seconds or 0.0) - (first.seconds or 0.0)
    slower = f"it takes {number_text(round(longer / 3600, 2))} h longer" if longer >= _LONGER_S else ""
    if choice.requirement != first.requirement and choice.more_usd < 0 and task.ordered:
        return f"{what}, which answers {choice.requirement}, a later wish than {first.requirement}"
    if choice.more_usd < 0:
        mates = _mates(problem, task)
        but = f"it is not in one region with {mates}" if mates else "it breaks a bound or goes against a preference"
        if slower and (problem.objective == "time" or problem.deadline_s is not None):
            but = slower
        return f"{what}: {usd_text(-choice.more_usd)} cheaper, but {but}"
    if choice.more_usd < 0.00005:
        return f"{what}, at the same cost{f', but {slower}' if slower else ''}"
    machine = choice.usd_per_hour - first.usd_per_hour
    how = f"{usd_text(choice.usd_per_hour)} per hour against {usd_text(first.usd_per_hour)}"
    runs = hours_on(task, choice.offer) > hours_on(task, first.offer)
    also = f", and {slower}" if slower and runs else "" if machine > 0 else ", and dearer transfers"
    return f"{what}: {usd_text(choice.more_usd)} more ({how}{also})"


def _warnings(problem: GraphProblem, model: Model, tasks: Sequence[TaskPlan]) -> list[str]:
    used = {task.chosen.place.cloud for task in tasks}
    moves = any(edge.gb for edge in problem.edges) or any(task.inputs or task.outputs for task in problem.tasks)
    assumed = sorted({t.cloud for t in model.network.tariffs if t.assumed and t.cloud in used})
    found = [f"what {cloud} charges for traffic is not known; $0.09 per GB is assumed" for cloud in assumed if moves]
    found += [f"the price of {t.name} is not known" for t in tasks if t.chosen.usd_per_hour is None]
    return found
