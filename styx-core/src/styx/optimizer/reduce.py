"""Cuts choices that cannot be in a best plan, before any model is built. Pure; every cut is an exchange argument.

1. Of one place, a choice is cut when another there is at least as good in everything that counts.
2. If nothing but edges binds the tasks, a choice is cut when replacing it by the best of its cloud, or by the best of
   all, gains at least as much as the task's edges could lose by it, wherever its neighbours end up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from styx.optimizer.egress import Level
from styx.optimizer.model import Choices, Link, Model
from styx.optimizer.network import NOWHERE

_ROUNDS = 4
_EPSILON = 1e-9


def reduced(model: Model) -> Model:
    """The same model with fewer choices and the same best objective."""
    model = model.with_tasks([_best_of_each_place(model, choices) for choices in model.tasks])
    if model.coupled or model.by_time or any(len(set(choices.rank)) > 1 for choices in model.tasks):
        return model
    for _ in range(_ROUNDS):
        smaller = _exchanged(model)
        if sum(map(len, smaller)) == sum(map(len, model.tasks)):
            break
        model = model.with_tasks(smaller)
    return model


def only_first_rank(model: Model) -> Model:
    """Each task with the first of its alternatives that has a choice: all that matters where tasks are not coupled."""
    tasks = []
    for choices in model.tasks:
        first = min(choices.rank, default=0)
        tasks.append(choices.keep([i for i in range(len(choices)) if choices.rank[i] == first]))
    return model.with_tasks(tasks)


def _best_of_each_place(model: Model, choices: Choices) -> Choices:
    bounded = model.budget_usd is not None
    timed = model.by_time or model.deadline_ms is not None

    def merits(i: int) -> tuple[float, ...]:
        found: list[float] = [choices.score[i], choices.rank[i]]
        found += [choices.usd[i]] if bounded else []
        found += [choices.ms[i]] if timed else []
        found += [choices.usd_per_hour[i]] if model.max_usd_per_hour is not None else []
        return (*found, *choices.uses[i])

    by_place: defaultdict[tuple[int, int], list[tuple[tuple[float, ...], int]]] = defaultdict(list)
    for i in range(len(choices)):
        by_place[choices.site[i], choices.home[i] if model.groups else 0].append((merits(i), i))
    kept: list[int] = []
    for entries in by_place.values():
        best: list[tuple[float, ...]] = []
        for values, i in sorted(entries):
            if not any(all(a <= b for a, b in zip(other, values, strict=True)) for other in best):
                best.append(values)
                kept.append(i)
    return choices.keep(sorted(kept, key=lambda i: (choices.score[i], i)))


def _exchanged(model: Model) -> list[Choices]:
    links: defaultdict[int, list[tuple[Link, bool]]] = defaultdict(list)
    for link in model.links:
        links[link.source].append((link, True))
        links[link.target].append((link, False))
    senders = [_senders_at(model, choices) for choices in model.tasks]
    return [_exchange_one(model, choices, links[task], senders) for task, choices in enumerate(model.tasks)]


Senders = dict[int, set[int]]
"""By node: the senders among a task's choices below it."""


def _senders_at(model: Model, choices: Choices) -> Senders:
    found: defaultdict[int, set[int]] = defaultdict(set)
    for site in set(choices.site):
        for node in model.network.paths[site]:
            found[node].add(model.network.sender[site])
    return found


def _exchange_one(
    model: Model, choices: Choices, links: Sequence[tuple[Link, bool]], senders: Sequence[Senders]
) -> Choices:
    """Choices that neither the best of their cloud nor the best of all can replace; they come sorted by score."""
    best_of_cloud: dict[int, int] = {}
    kept: list[int] = []
    most = sum(max(costs[Level.INTERNET] for costs in link.usd) for link, _ in links)
    for i, (site, score) in enumerate(zip(choices.site, choices.score, strict=True)):
        cloud = model.network.paths[site][Level.CLOUD]
        rivals = {best_of_cloud.setdefault(cloud, i), 0} - {i}
        if any(score - choices.score[rival] >= most - _EPSILON for rival in rivals):
            continue
        if not any(
            score - choices.score[rival] >= _most_lost(model, site, choices.site[rival], links, senders) - _EPSILON
            for rival in rivals
        ):
            kept.append(i)
    return choices.keep(kept)


def _most_lost(
    model: Model, site: int, rival: int, links: Sequence[tuple[Link, bool]], senders: Sequence[Senders]
) -> float:
    """An upper bound of what the edges lose when a task moves from `site` to `rival`."""
    network = model.network
    meet = network.shared(site, rival)
    below = [(level, node) for level, node in enumerate(network.paths[site][:meet]) if node != NOWHERE]
    lost = 0.0
    for link, outward in links:
        neighbour = senders[link.target if outward else link.source]
        if outward:
            mine, theirs = link.usd[network.sender[site]], link.usd[network.sender[rival]]
            worst = max(theirs[level] - mine[level] for level in range(meet, len(mine)))
            near: Iterable[float] = (theirs[meet] - mine[level] for level, node in below if node in neighbour)
        else:
            worst = 0.0
            near = _nearness(link, meet, below, neighbour)
        lost += max(worst, max(near, default=0.0))
    return lost


def _nearness(link: Link, meet: int, below: Iterable[tuple[int, int]], neighbour: Senders) -> Iterable[float]:
    for level, node in below:
        for sender in neighbour.get(node, ()):
            costs = link.usd[sender]
            yield costs[meet] - costs[level]
