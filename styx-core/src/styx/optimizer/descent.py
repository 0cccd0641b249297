"""The planner without a solver: better and better plans by moving one task, or one group, at a time.

It gives the solver its first plan, and answers in its place where HiGHS is not installed. Its plans keep all bounds;
it proves no optimum.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator

from styx.optimizer.egress import Level
from styx.optimizer.model import MONEY_SLACK, Choices, Link, Model, evaluate, link_usd
from styx.optimizer.network import NOWHERE

_STARTS = 12


def improve(model: Model, seconds: float = 1.0) -> list[int] | None:
    """The best plan found that keeps all bounds; None when none was found."""
    if not all(len(choices) for choices in model.tasks):
        return None
    until = time.monotonic() + seconds
    best: tuple[tuple[float, ...], list[int]] | None = None
    for start in _starts(model):
        picks = _descend(model, start, until)
        totals = evaluate(model, picks)
        key = totals.key(model.by_time)
        if not totals.broken and (best is None or key < best[0]):
            best = (key, picks)
        if time.monotonic() > until and best is not None:
            break
    return best[1] if best else None


def floor(model: Model) -> float:
    """No plan costs less than this: every task at its cheapest, and all transfers free."""
    return sum(min(choices.score) for choices in model.tasks)


def hopeless(model: Model) -> bool:
    """Whether some bound is out of reach even if every task had the least of everything that counts for it."""
    tasks = model.tasks
    if model.budget_usd is not None and sum(min(each.usd) for each in tasks) > model.budget_usd + MONEY_SLACK:
        return True
    for at_once in model.at_once:
        cap = model.max_usd_per_hour
        if cap is not None and sum(min(tasks[task].usd_per_hour) for task in at_once) > cap + MONEY_SLACK:
            return True
        for index, limit in enumerate(model.limits):
            least = sum(min(uses[index] for uses in tasks[task].uses) for task in at_once)
            if least > limit.most + MONEY_SLACK:
                return True
    if any(not set.intersection(*(set(tasks[task].home) for task in group)) for group in model.groups):
        return True
    return model.deadline_ms is not None and soonest_ms(model) > model.deadline_ms


def soonest_ms(model: Model) -> int:
    """No plan ends before this."""
    ends = [0] * len(model.tasks)
    for task in model.order:
        waits = [ends[link.source] + _least_ms(model, link) for link in model.links if link.target == task]
        ends[task] = max(waits, default=0) + min(model.tasks[task].ms)
    return max(ends, default=0)


def _least_ms(model: Model, link: Link) -> int:
    """What a transfer takes between the two nearest places that its tasks may have."""
    network = model.network
    ends = [{node for site in model.tasks[task].site for node in network.paths[site]} for task in link[:2]]
    return link.ms[min(network.level[node] for node in ends[0] & ends[1] if node != NOWHERE)]


def _starts(model: Model) -> Iterator[list[int]]:
    """All in one region, all in one cloud, each where it is cheapest, or ends first; groups always in one region."""
    if model.by_time or model.deadline_ms is not None:
        yield _settled(model, _soonest(model))
    for level in (None, Level.CLOUD, Level.REGION):
        if level is None:
            yield _settled(model, [_cheapest(model, task, None) for task in range(len(model.tasks))])
            continue
        seen: Counter[int] = Counter()
        for choices in model.tasks:
            seen.update({model.network.paths[site][level] for site in choices.site})
        price: defaultdict[int, float] = defaultdict(float)
        starts = {}
        for node, _ in seen.most_common(4 * _STARTS):
            starts[node] = [_cheapest(model, task, (level, node)) for task in range(len(model.tasks))]
            price[node] = sum(model.tasks[task].score[pick] for task, pick in enumerate(starts[node]))
        for node in sorted(starts, key=lambda node: price[node] - 1e9 * (seen[node] == len(model.tasks)))[:_STARTS]:
            yield _settled(model, starts[node])


def _soonest(model: Model) -> list[int]:
    """Each task where it ends first after those that it waits for, as list scheduling does; the cheapest of these."""
    picks = [0] * len(model.tasks)
    ends = [0] * len(model.tasks)
    waits: defaultdict[int, list[Link]] = defaultdict(list)
    for link in model.links:
        waits[link.target].append(link)
    for task in model.order:
        choices = model.tasks[task]
        senders = [(link, ends[link.source], model.tasks[link.source].site[picks[link.source]]) for link in waits[task]]
        begins = {
            site: max((end + link.ms[model.network.shared(there, site)] for link, end, there in senders), default=0)
            for site in set(choices.site)
        }

        def key(i: int, choices: Choices = choices, begins: dict[int, int] = begins) -> tuple[float, ...]:
            return (choices.rank[i], begins[choices.site[i]] + choices.ms[i], choices.score[i])

        picks[task] = best = min(range(len(choices)), key=key)
        ends[task] = begins[choices.site[best]] + choices.ms[best]
    return picks


def _cheapest(model: Model, task: int, below: tuple[Level, int] | None) -> int:
    choices, paths = model.tasks[task], model.network.paths

    def key(i: int) -> tuple[bool, int, float]:
        outside = below is not None and paths[choices.site[i]][below[0]] != below[1]
        return (outside, choices.rank[i], choices.score[i])

    return min(range(len(choices)), key=key)


def _settled(model: Model, picks: list[int]) -> list[int]:
    """Each group in the region where it is cheapest, starting with the region of its first task."""
    for group in model.groups:
        moves = list(_group_moves(model, group))
        if not moves:
            continue
        home = model.tasks[group[0]].home[picks[group[0]]]
        same = [move for move in moves if model.tasks[group[0]].home[move[group[0]]] == home]
        costs = {id(move): sum(model.tasks[t].score[i] for t, i in move.items()) for move in moves}
        for task, pick in min(same or moves, key=lambda move: costs[id(move)]).items():
            picks[task] = pick
    return picks


def _group_moves(model: Model, group: list[int]) -> Iterator[dict[int, int]]:
    by_task: list[dict[int, int]] = []
    for task in group:
        choices, best = model.tasks[task], dict[int, int]()
        for i in sorted(range(len(choices)), key=lambda i: (choices.rank[i], choices.score[i])):
            best.setdefault(choices.home[i], i)
        by_task.append(best)
    for home in by_task[0]:
        if all(home in best for best in by_task):
            yield {task: best[home] for task, best in zip(group, by_task, strict=True)}


def _descend(model: Model, picks: list[int], until: float) -> list[int]:
    links: defaultdict[int, list[Link]] = defaultdict(list)
    for link in model.links:
        links[link.source].append(link)
        links[link.target].append(link)
    grouped = {task for group in model.groups for task in group}
    moves = [[{task: i} for i in range(len(model.tasks[task]))] for task in range(len(picks)) if task not in grouped]
    moves += [list(_group_moves(model, group)) for group in model.groups]
    moves += [_inner_moves(model, task) for task in grouped]
    plain = not model.coupled and not model.by_time
    better = True
    while better and time.monotonic() < until:
        better = False
        for options in moves:
            found = _best_move(model, picks, options, links) if plain else _best_whole(model, picks, options, until)
            if found is not None:
                for task, pick in found.items():
                    picks[task] = pick
                better = True
    return picks


def _inner_moves(model: Model, task: int) -> list[dict[int, int]]:
    return [{task: i} for i in range(len(model.tasks[task]))]


def _best_move(
    model: Model, picks: list[int], options: list[dict[int, int]], links: defaultdict[int, list[Link]]
) -> dict[int, int] | None:
    """By the change in score alone: nothing but edges binds the tasks."""
    (task,) = options[0]
    choices = model.tasks[task]
    ends = [(link, model.tasks[o := _other(link, task)].site[picks[o]]) for link in links[task]]
    by_site: dict[int, float] = {}

    def cost(i: int) -> tuple[float, float]:
        site = choices.site[i]
        if site not in by_site:
            by_site[site] = sum(
                link_usd(model, link, *((site, there) if link.source == task else (there, site)))
                for link, there in ends
            )
        return (choices.rank[i], choices.score[i] + by_site[site])

    best = min(range(len(choices)), key=cost)
    now = cost(picks[task])
    return {task: best} if (cost(best)[0], cost(best)[1] + 1e-9) < now else None


def _other(link: Link, task: int) -> int:
    return link.target if link.source == task else link.source


def _best_whole(model: Model, picks: list[int], options: list[dict[int, int]], until: float) -> dict[int, int] | None:
    """By evaluating whole plans; fewer broken bounds come first."""

    def worth(move: dict[int, int]) -> tuple[float, ...]:
        changed = list(picks)
        for task, pick in move.items():
            changed[task] = pick
        totals = evaluate(model, changed)
        return (len(totals.broken), _excess(model, totals.usd, totals.ms), *totals.key(model.by_time))

    best, best_worth = None, worth({})
    for move in options:
        if time.monotonic() > until:
            break
        found = worth(move)
        if found < best_worth:
            best, best_worth = move, found
    return best


def _excess(model: Model, usd: float, ms: int) -> float:
    over = max(0.0, usd - model.budget_usd) if model.budget_usd is not None else 0.0
    return over + (max(0, ms - model.deadline_ms) if model.deadline_ms is not None else 0)
