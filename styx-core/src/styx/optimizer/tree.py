"""Exact and instant where the graph has no cycle: dynamic programming from the leaves, over the tree of places. Pure.

Each task tells the next one, for each place, the least that everything behind it can cost. Because costs depend on
the lowest shared node only, a message takes time in proportion to the places, not to their pairs.
"""

from __future__ import annotations

from collections import defaultdict

from styx.optimizer.model import Choices, Link, Model
from styx.optimizer.network import NOWHERE, Network

Value = tuple[float, float]
"""What is minimised, then what breaks ties: (score, 0) or (milliseconds, score)."""


def is_forest(model: Model) -> bool:
    """No cycle, whichever way the edges point."""
    root = list(range(len(model.tasks)))

    def find(task: int) -> int:
        while root[task] != task:
            root[task] = root[root[task]]
            task = root[task]
        return task

    for link in model.links:
        one, other = find(link.source), find(link.target)
        if one == other:
            return False
        root[one] = other
    return True


def is_path(model: Model) -> bool:
    """One chain: the times of its tasks and transfers add up."""
    sources, targets = [link.source for link in model.links], [link.target for link in model.links]
    one_each = len(set(sources)) == len(sources) and len(set(targets)) == len(targets)
    return one_each and len(model.links) == len(model.tasks) - 1


def solve(model: Model) -> list[int] | None:
    """The best choice for each task, bounds not looked at; None when a task has no choice.

    The graph must be a forest, and a path where time is minimised.
    """
    if not all(len(choices) for choices in model.tasks):
        return None
    neighbours: defaultdict[int, list[Link]] = defaultdict(list)
    for link in model.links:
        neighbours[link.source].append(link)
        neighbours[link.target].append(link)
    picks = [-1] * len(model.tasks)
    for start in range(len(model.tasks)):
        if picks[start] < 0:
            _solve_tree(model, start, neighbours, picks)
    return picks


def _solve_tree(model: Model, start: int, neighbours: defaultdict[int, list[Link]], picks: list[int]) -> None:
    order: list[tuple[int, Link | None]] = [(start, None)]
    for task, above in order:  # grows while it is walked
        order += [
            (link.target if link.source == task else link.source, link)
            for link in neighbours[task]
            if link is not above
        ]
    values = {task: _own(model, model.tasks[task]) for task, _ in order}
    taken: dict[int, list[int]] = {}
    for task, link in reversed(order):
        if link is not None:
            parent = link.source if link.target == task else link.target
            taken[task] = _send(model, task, parent, link, values)
    for task, link in order:
        if link is None:
            picks[task] = min(range(len(values[task])), key=values[task].__getitem__)
        else:
            parent = link.source if link.target == task else link.target
            picks[task] = taken[task][picks[parent]]


def _own(model: Model, choices: Choices) -> list[Value]:
    if model.by_time:
        return [(float(ms), score) for ms, score in zip(choices.ms, choices.score, strict=True)]
    return [(score, 0.0) for score in choices.score]


def _send(model: Model, task: int, parent: int, link: Link, values: dict[int, list[Value]]) -> list[int]:
    """Add to the parent's values the least that `task` and all behind it cost; returns the choice behind each."""
    network, outward = model.network, link.source == task
    best = _best_below(network, model.tasks[task].site, values[task], by_sender=outward)
    by_site: dict[int, tuple[Value, int]] = {}
    taken = []
    sites = model.tasks[parent].site
    for i, site in enumerate(sites):
        if site not in by_site:
            by_site[site] = _least(model, link, site, best, outward=outward)
        (first, second), choice = by_site[site]
        mine = values[parent][i]
        values[parent][i] = (mine[0] + first, mine[1] + second)
        taken.append(choice)
    return taken


Best = dict[int, dict[int, tuple[Value, int]]]
"""By node and sender (0 where the receiver is below): the least value, and whose it is."""


def _best_below(network: Network, sites: list[int], values: list[Value], *, by_sender: bool) -> Best:
    best: Best = defaultdict(dict)
    for i, (site, value) in enumerate(zip(sites, values, strict=True)):
        sender = network.sender[site] if by_sender else 0
        for node in network.paths[site]:
            if node != NOWHERE:
                known = best[node].get(sender)
                if known is None or value < known[0]:
                    best[node][sender] = (value, i)
    return best


def _least(model: Model, link: Link, site: int, best: Best, *, outward: bool) -> tuple[Value, int]:
    """A level above the lowest shared one only makes a pair dearer, so the least over all levels is exact."""
    network = model.network
    found: tuple[Value, int] | None = None
    for level, node in enumerate(network.paths[site]):
        for sender, (value, i) in best.get(node, {}).items():
            usd = link.usd[sender if outward else network.sender[site]][level]
            moved = (link.ms[level], usd) if model.by_time else (usd, 0.0)
            total = (value[0] + moved[0], value[1] + moved[1])
            if found is None or total < found[0]:
                found = (total, i)
    assert found is not None  # all meet at the internet
    return found
