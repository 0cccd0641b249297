"""The numbers behind a graph problem: what every solver works on. Pure; no rows, no names, no wishes in words.

Times are whole milliseconds, so that sums compare exactly whatever their order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from styx.driver import CatalogRow, Place
from styx.models.accelerators import answering
from styx.optimizer.egress import Level
from styx.optimizer.graph import Candidates, Data, GraphProblem, GraphTask, Limit
from styx.optimizer.network import Network

MONEY_SLACK = 1e-6
"""Sums of money may pass a bound by rounding."""
MAX_ANTICHAINS = 256
"""Beyond so many sets of tasks that may run at once, all tasks count as one such set: stricter, never laxer."""
MAX_FREE_STEPS = 16
"""How many numbers of free nodes are told apart for tasks that compete for a reservation."""


@dataclass(slots=True)
class Choices:
    """What one task may be given, as parallel lists."""

    origin: list[int] = field(default_factory=list)
    """Index in the task's `Candidates`."""
    site: list[int] = field(default_factory=list)
    home: list[int] = field(default_factory=list)
    """Number of (cloud, account, region)."""
    usd: list[float] = field(default_factory=list)
    """Machines, and transfers from and to outside the graph."""
    score: list[float] = field(default_factory=list)
    """`usd` with wishes added."""
    ms: list[int] = field(default_factory=list)
    rank: list[int] = field(default_factory=list)
    usd_per_hour: list[float] = field(default_factory=list)
    uses: list[tuple[float, ...]] = field(default_factory=list)
    """By `Model.limits`."""

    def get(self, index: int) -> Choice:
        """One."""
        return Choice(*(getattr(self, name)[index] for name in Choice._fields))

    def keep(self, indexes: Sequence[int]) -> Choices:
        """Some of them, in the order given."""
        return Choices(*([getattr(self, name)[i] for i in indexes] for name in Choice._fields))

    def __len__(self) -> int:
        return len(self.origin)


class Choice(NamedTuple):
    """One entry of `Choices`."""

    origin: int
    site: int
    home: int
    usd: float
    score: float
    ms: int
    rank: int
    usd_per_hour: float
    uses: tuple[float, ...]


class Link(NamedTuple):
    """An edge: from task to task, with costs by sender and level, and times by level."""

    source: int
    target: int
    usd: list[tuple[float, ...]]
    ms: tuple[int, ...]


class Shared(NamedTuple):
    """What tasks that run at once may use together."""

    label: str
    most: float


@dataclass(slots=True)
class Model:
    """A graph problem in numbers. Tasks that ask for the same share one `Choices`."""

    network: Network
    tasks: list[Choices]
    links: list[Link]
    order: list[int]
    """Tasks so that each comes after those it waits for."""
    by_time: bool = False
    deadline_ms: int | None = None
    budget_usd: float | None = None
    max_usd_per_hour: float | None = None
    limits: list[Shared] = field(default_factory=list)
    groups: list[list[int]] = field(default_factory=list)
    at_once: list[list[int]] = field(default_factory=list)
    """Largest sets of tasks that may run at the same time."""

    @property
    def coupled(self) -> bool:
        """Something other than the edges binds the tasks to each other."""
        bounds = (self.deadline_ms, self.budget_usd, self.max_usd_per_hour)
        return bool(self.limits or self.groups) or any(bound is not None for bound in bounds)

    def with_tasks(self, tasks: list[Choices]) -> Model:
        """The same with other choices."""
        return Model(**{**{name: getattr(self, name) for name in self.__slots__}, "tasks": tasks})


class Totals(NamedTuple):
    """What an assignment comes to. Compares as plans do, by `key`."""

    rank: int
    usd: float
    score: float
    ms: int
    broken: tuple[str, ...]
    """Bounds that it does not keep."""

    def key(self, by_time: bool) -> tuple[float, ...]:
        """Smaller is better."""
        return (self.rank, self.ms, self.score) if by_time else (self.rank, self.score, self.ms)


def link_usd(model: Model, link: Link, source: int, target: int) -> float:
    """Cost of an edge between two sites."""
    return link.usd[model.network.sender[source]][model.network.shared(source, target)]


def evaluate(model: Model, picks: Sequence[int]) -> Totals:
    """All figures of one choice for each task."""
    chosen = [choices.get(pick) for choices, pick in zip(model.tasks, picks, strict=True)]
    moved = sum(link_usd(model, link, chosen[link.source].site, chosen[link.target].site) for link in model.links)
    usd = math.fsum(each.usd for each in chosen) + moved
    ms = max(finish_ms(model, chosen), default=0)
    broken = []
    if model.budget_usd is not None and usd > model.budget_usd + MONEY_SLACK:
        broken.append("budget")
    if model.deadline_ms is not None and ms > model.deadline_ms:
        broken.append("deadline")
    broken += [
        f"group {number}" for number, group in enumerate(model.groups) if len({chosen[task].home for task in group}) > 1
    ]
    for tasks in model.at_once:
        if model.max_usd_per_hour is not None:
            rate = math.fsum(chosen[task].usd_per_hour for task in tasks)
            if rate > model.max_usd_per_hour + MONEY_SLACK:
                broken.append("max_usd_per_hour")
        for index, limit in enumerate(model.limits):
            if math.fsum(chosen[task].uses[index] for task in tasks) > limit.most + MONEY_SLACK:
                broken.append(limit.label)
    score = math.fsum(each.score for each in chosen) + moved
    return Totals(sum(each.rank for each in chosen), usd, score, ms, tuple(dict.fromkeys(broken)))


def finish_ms(model: Model, chosen: Sequence[Choice]) -> list[int]:
    """When each task ends."""
    waits: defaultdict[int, list[Link]] = defaultdict(list)
    for link in model.links:
        waits[link.target].append(link)
    ends = [0] * len(chosen)
    for task in model.order:
        site = chosen[task].site
        start = max(
            (ends[link.source] + link.ms[model.network.shared(chosen[link.source].site, site)] for link in waits[task]),
            default=0,
        )
        ends[task] = start + chosen[task].ms
    return ends


# --------------------------------------------------------------------------------------------------------- building


def build(problem: GraphProblem, candidates: Sequence[Candidates]) -> Model:
    """The numbers of a problem. Candidates of unknown price are left out where the task has others."""
    from styx.optimizer.graph import order

    names = [task.name for task in problem.tasks]
    number = {name: index for index, name in enumerate(names)}
    pairs = [(number[edge.source], number[edge.target]) for edge in problem.edges]
    network = Network(problem.tariffs)
    at_once = _at_once(len(names), pairs) if _counts_what_runs_at_once(problem) else []
    shares = _Shares(problem, candidates, at_once)
    homes: dict[tuple[str, str, str], int] = {}
    tasks: list[Choices] = []
    alike: dict[tuple[object, ...], Choices] = {}
    for task, offers in zip(problem.tasks, candidates, strict=True):
        key = (id(offers), task.hours, tuple(task.hours_on.items()), task.num_nodes, task.inputs, task.outputs)
        if key not in alike:
            alike[key] = _choices(problem, task, offers, network, homes, shares)
        tasks.append(alike[key])
    links = [  # after all sites and senders are known
        Link(source, target, network.usd(edge.gb), network.ms(edge.gb))
        for (source, target), edge in zip(pairs, problem.edges, strict=True)
    ]
    return Model(
        network=network,
        tasks=tasks,
        links=links,
        order=[number[name] for name in order(names, [(edge.source, edge.target) for edge in problem.edges])],
        by_time=problem.objective == "time",
        deadline_ms=None if problem.deadline_s is None else math.floor(problem.deadline_s * 1000 + 0.5),
        budget_usd=problem.budget_usd,
        max_usd_per_hour=problem.max_usd_per_hour,
        limits=shares.limits,
        groups=[[number[name] for name in group] for group in problem.together if len(group) > 1],
        at_once=at_once,
    )


def _counts_what_runs_at_once(problem: GraphProblem) -> bool:
    return bool(problem.limits or problem.reservations or problem.max_usd_per_hour is not None)


_NOTHING_SHARED: Final[list[tuple[int, tuple[float, ...]]]] = [(0, ())]


class _Shares:
    """Limits and reservations in one form: how much of each a candidate uses.

    A reservation that never serves two tasks at once only lowers prices. One that tasks compete for becomes a limit,
    and each of its candidates comes in variants that use 0, 1, 2, ... of the free nodes.
    """

    def __init__(
        self, problem: GraphProblem, candidates: Sequence[Candidates], at_once: Sequence[Sequence[int]]
    ) -> None:
        self._limits = problem.limits
        self._reservations = problem.reservations
        users = [
            {
                task
                for task, offers in enumerate(candidates)
                if any(each.where.covers(place, row) for place, row in zip(offers.places, offers.rows, strict=True))
            }
            for each in problem.reservations
        ]
        self._shared = [any(len(who.intersection(tasks)) > 1 for tasks in at_once) for who in users]
        self.limits = [Shared(limit.label, limit.most) for limit in problem.limits]
        self.limits += [
            Shared(f"reserved nodes of {each.where}", float(each.nodes))
            for each, shared in zip(problem.reservations, self._shared, strict=True)
            if shared
        ]

    def variants(self, task: GraphTask, offers: Candidates, index: int) -> list[tuple[int, tuple[float, ...]]]:
        """How many free nodes, and what is used of each limit."""
        if not self.limits and not self._reservations:
            return _NOTHING_SHARED
        place, row = offers.places[index], offers.rows[index]
        base = [self._amount(limit, task, offers, index) for limit in self._limits]
        found = next((n for n, each in enumerate(self._reservations) if each.where.covers(place, row)), None)
        slots = [n for n, shared in enumerate(self._shared) if shared]
        if found is None:
            return [(0, (*base, *(0.0 for _ in slots)))]
        most = min(task.num_nodes, self._reservations[found].nodes)
        if not self._shared[found]:
            return [(most, (*base, *(0.0 for _ in slots)))]
        steps = range(most + 1) if most <= MAX_FREE_STEPS else (0, most)
        return [(free, (*base, *(float(free) if slot == found else 0.0 for slot in slots))) for free in steps]

    def _amount(self, limit: Limit, task: GraphTask, offers: Candidates, index: int) -> float:
        return uses(limit, task, offers.places[index], offers.rows[index])


def uses(limit: Limit, task: GraphTask, place: Place, row: CatalogRow) -> float:
    """How much a task takes of a limit with an offer."""
    if not limit.where.covers(place, row):
        return 0.0
    if limit.of == "nodes":
        return float(task.num_nodes)
    each = row.accelerator_count if limit.of == "accelerators" else row.vcpus
    return math.inf if each is None else each * task.num_nodes  # an unknown amount keeps to no limit


def _choices(
    problem: GraphProblem,
    task: GraphTask,
    offers: Candidates,
    network: Network,
    homes: dict[tuple[str, str, str], int],
    shares: _Shares,
) -> Choices:
    made: list[tuple[int, int, int, float, float, int, int, float, tuple[float, ...]]] = []
    free_anyway = _unpriced_but_reserved(problem, task, offers)
    priced = bool(free_anyway) or any(not math.isnan(price) for price in offers.usd_per_hour)
    bounded = problem.budget_usd is not None or problem.max_usd_per_hour is not None
    spots: dict[tuple[int, str | None], tuple[int, int, float, int]] = {}
    wishes, limits, nodes = problem.preferences, shares.limits, task.num_nodes
    for index, (row, place, rate, rank) in enumerate(
        zip(offers.rows, offers.places, offers.usd_per_hour, offers.rank, strict=True)
    ):
        paid_for = index in free_anyway
        if math.isnan(rate):
            if (priced or bounded) and not paid_for:
                continue
            rate = 0.0  # reserved, or all are unknown: nothing tells them apart, and the plan says so
        key = (id(place), row.zone)
        spot = spots.get(key)
        if spot is None:
            site = network.site(place.cloud, place.region, place.zone or row.zone)
            home = homes.setdefault((place.cloud, place.account, place.region), len(homes))
            spot = spots[key] = (site, home, *_outside(network, task.inputs, task.outputs, site))
        site, home, moved, moving_ms = spot
        hours = hours_on(task, row) if task.hours_on else task.hours
        ms = round(hours * 3_600_000) + moving_ms
        wished = [each for each in wishes if each.where.covers(place, row)] if wishes else ()
        for free, uses in shares.variants(task, offers, index):
            if limits and any(use > limit.most for use, limit in zip(uses, limits, strict=True)):
                continue
            if paid_for and free < nodes and (priced or bounded):
                continue  # what it would cost beyond the reservation is not known
            paid = rate * (nodes - free) / nodes
            usd = paid * hours + moved
            wish = sum([each.penalty(paid, nodes) for each in wished]) if wished else 0.0
            made.append((index, site, home, usd, usd + wish * hours, ms, rank, paid, uses))
    return Choices(*map(list, zip(*made, strict=True)))


def _unpriced_but_reserved(problem: GraphProblem, task: GraphTask, offers: Candidates) -> set[int]:
    """Offers of unknown price whose nodes a reservation may cover all, so that the price does not matter."""
    found: set[int] = set()
    if not problem.reservations:
        return found
    for index, price in enumerate(offers.usd_per_hour):
        if math.isnan(price):
            place, row = offers.places[index], offers.rows[index]
            first = next((each for each in problem.reservations if each.where.covers(place, row)), None)
            if first is not None and first.nodes >= task.num_nodes:
                found.add(index)
    return found


def unpriced(problem: GraphProblem, task: GraphTask, offers: Candidates) -> list[int]:
    """Offers of unknown price that would have to be paid."""
    free_anyway = _unpriced_but_reserved(problem, task, offers)
    return [i for i, price in enumerate(offers.usd_per_hour) if math.isnan(price) and i not in free_anyway]


def hours_on(task: GraphTask, row: CatalogRow) -> float:
    """Estimated run time on an offer."""
    on = task.hours_on
    if not on:
        return task.hours
    plain = next((name for name in on if row.accelerator_name in answering(name)), "")
    return on.get(row.instance_type) or on.get(row.accelerator_name or "") or on.get(plain) or task.hours


def _outside(network: Network, inputs: Sequence[Data], outputs: Sequence[Data], site: int) -> tuple[float, int]:
    """Cost and time of a task's transfers from and to outside the graph."""
    usd, ms = 0.0, 0
    for data, inward in [*((each, True) for each in inputs), *((each, False) for each in outputs)]:
        if data.cloud is None:
            level = Level.INTERNET
            sender = None if inward else network.sender[site]
        else:
            there = network.site(data.cloud, data.region or "(unknown)")
            level = network.shared(site, there)
            sender = network.sender[there if inward else site]
        if sender is not None:
            usd += network.tariffs[sender].usd(data.gb)[level]
        ms += network.ms(data.gb)[level]
    return usd, ms


def _at_once(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Largest sets of tasks none of which waits for another; all tasks where these are too many to list."""
    after: list[set[int]] = [set() for _ in range(count)]
    for _ in range(count):
        grown = [after[task].union(*(after[t] | {t} for s, t in pairs if s == task)) for task in range(count)]
        if grown == after:
            break
        after = grown
    free = [
        {other for other in range(count) if other != task and other not in after[task] and task not in after[other]}
        for task in range(count)
    ]
    found: list[list[int]] = []

    def grow(taken: list[int], open_: set[int], closed: set[int]) -> None:
        if len(found) > MAX_ANTICHAINS:
            return
        if not open_ and not closed:
            found.append(sorted(taken))
            return
        pivot = max(open_ | closed, key=lambda task: len(free[task] & open_))
        for task in sorted(open_ - free[pivot]):
            grow([*taken, task], open_ & free[task], closed & free[task])
            open_ = open_ - {task}
            closed = closed | {task}

    grow([], set(range(count)), set())
    return found if len(found) <= MAX_ANTICHAINS else [list(range(count))]
