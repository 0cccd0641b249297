"""Cuts choices that cannot be in a best plan, before any model is built. Pure; every cut is an exchange argument.

1. Of one place, a choice is cut when another there is at least as good in everything that counts.
2. If nothing but edges binds the tasks, a whole zone or region is cut when a neighbouring place of the same cloud sells
   each task at least as cheaply: moving everything there at once makes no transfer dearer.
3. Likewise, a choice is cut when replacing it by the best of its cloud, or by the best of all, gains more than the
   task's edges could lose by it even if they cost nothing where it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from styx.optimizer.egress import Level
from styx.optimizer.model import Choices, Link, Model

_EPSILON = 1e-9


def reduced(model: Model) -> Model:
    """The same model with fewer choices and the same best objective."""
    known: dict[int, Choices] = {}
    for choices in model.tasks:
        if id(choices) not in known:
            known[id(choices)] = _best_of_each_place(model, choices)
    model = model.with_tasks([known[id(choices)] for choices in model.tasks])
    if model.coupled or model.by_time or any(len(set(choices.rank)) > 1 for choices in known.values()):
        return model
    if model.links:
        model = _without_dominated_places(model)
    return model.with_tasks(_exchanged(model))


def only_first_rank(model: Model) -> Model:
    """Each task with the first of its alternatives that has a choice: all that matters where tasks are not coupled."""
    if not any(len(set(choices.rank)) > 1 for choices in model.tasks):
        return model
    tasks = []
    for choices in model.tasks:
        first = min(choices.rank, default=0)
        tasks.append(choices.keep([i for i in range(len(choices)) if choices.rank[i] == first]))
    return model.with_tasks(tasks)


def _best_of_each_place(model: Model, choices: Choices) -> Choices:
    """They come sorted by score."""
    bounded = model.budget_usd is not None
    timed = model.by_time or model.deadline_ms is not None
    if not (timed or model.coupled) and len(set(choices.rank)) == 1:
        return choices.keep(_least_of_each_site(choices))

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


def _least_of_each_site(choices: Choices) -> list[int]:
    """The same where nothing but the score counts."""
    best: dict[int, int] = {}
    scores = choices.score
    for i, site in enumerate(choices.site):
        if scores[i] < scores[best.setdefault(site, i)]:
            best[site] = i
    return sorted(best.values(), key=lambda i: (scores[i], i))


# ---------------------------------------------------------------------------------------------------- whole places


def _without_dominated_places(model: Model) -> Model:
    """Zones first, then regions; a place is compared with those that are left."""
    kinds = list({id(choices): choices for choices in model.tasks}.values())
    scores = [dict(zip(kind.site, kind.score, strict=True)) for kind in kinds]  # one choice for each site is left
    left = {site for each in scores for site in each}
    for level in (Level.ZONE, Level.REGION):
        left = _dominating(model, scores, left, level)
    kept = {id(kind): kind.keep([i for i, site in enumerate(kind.site) if site in left]) for kind in kinds}
    return model.with_tasks([kept[id(choices)] for choices in model.tasks])


def _dominating(model: Model, scores: Sequence[dict[int, float]], left: set[int], level: Level) -> set[int]:
    network = model.network
    places: defaultdict[int, list[int]] = defaultdict(list)
    for site in sorted(left):
        node = network.paths[site][level]
        if node >= 0:
            places[node].append(site)
    siblings: defaultdict[int, list[int]] = defaultdict(list)
    for node in places:
        siblings[network.parent[node]].append(node)
    gone: set[int] = set()
    for nodes in siblings.values():
        for node in nodes:
            rivals = (site for other in nodes if other != node and other not in gone for site in places[other])
            if any(_dominates(model, scores, rival, places[node]) for rival in rivals):
                gone.add(node)
    return left - {site for node in gone for site in places[node]}


def _dominates(model: Model, scores: Sequence[dict[int, float]], rival: int, sites: Sequence[int]) -> bool:
    """Whether all that is at `sites` may move to the one site `rival` beside them, and nothing gets dearer."""
    network = model.network
    if any(network.sender[site] != network.sender[rival] for site in sites):
        return False
    if network.paths[rival][Level.ZONE] < 0:  # tasks that were in one zone may no longer be
        sender = network.sender[rival]
        if any(link.usd[sender][Level.REGION] > link.usd[sender][Level.ZONE] for link in model.links):
            return False
    for each in scores:
        there = each.get(rival)
        for site in sites:
            here = each.get(site)
            if here is not None and (there is None or there > here):
                return False
    return True


# -------------------------------------------------------------------------------------------------- single choices


def _exchanged(model: Model) -> list[Choices]:
    links: defaultdict[int, list[tuple[Link, bool]]] = defaultdict(list)
    for link in model.links:
        links[link.source].append((link, True))
        links[link.target].append((link, False))
    return [_exchange_one(model, choices, links[task]) for task, choices in enumerate(model.tasks)]


def _exchange_one(model: Model, choices: Choices, links: Sequence[tuple[Link, bool]]) -> Choices:
    """Choices that neither the best of their cloud nor the best of all can replace; they come sorted by score."""
    network = model.network
    best_of_cloud: dict[int, int] = {}
    known: dict[tuple[int, int, Level], float] = {}
    kept: list[int] = []
    for i, (site, score) in enumerate(zip(choices.site, choices.score, strict=True)):
        cloud = network.paths[site][Level.CLOUD]
        for rival in {best_of_cloud.setdefault(cloud, i), 0} - {i}:
            there = choices.site[rival]
            key = (network.sender[site], network.sender[there], network.shared(site, there))
            if key not in known:
                known[key] = _most_lost(*key, links)
            if score - choices.score[rival] >= known[key] - _EPSILON:
                break
        else:
            kept.append(i)
    return choices.keep(kept)


def _most_lost(mine: int, theirs: int, meet: Level, links: Sequence[tuple[Link, bool]]) -> float:
    """An upper bound of what the edges lose by a move between places that meet at a level, wherever neighbours are."""
    lost = 0.0
    for link, outward in links:
        if outward:
            here, there = link.usd[mine], link.usd[theirs]
            beyond = max(there[level] - here[level] for level in range(meet, len(here)))
            lost += max(beyond, there[meet] - here[Level.ZONE])
        else:
            lost += max(costs[meet] - costs[Level.ZONE] for costs in link.usd)
    return lost
