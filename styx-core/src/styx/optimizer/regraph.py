"""Failover of a whole graph: a pure function from a plan, what was refused and how far that reaches, to the next."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from styx.errors import Scope
from styx.optimizer.egress import Tariff
from styx.optimizer.failover import remaining
from styx.optimizer.graph import order
from styx.optimizer.network import Network
from styx.optimizer.plan import GraphPlan, TaskPlan, Transfer
from styx.optimizer.problem import Choice, Loser


def next_graph_plan(plan: GraphPlan, refused: Choice, scope: Scope, tariffs: Sequence[Tariff] = ()) -> GraphPlan | None:
    """The plan without what the refusal reaches: tasks that are hit move to the best choice they have left.

    Tasks that must be together move together, to the region that costs them least. Nothing but the ranked choices of
    `plan` is looked at: it is instant, and the other tasks stay. Planning again with `block_of` is the exact answer.

    Returns:
        None when a task, or a group, has nothing left.
    """
    left = {task.name: remaining(task.choices, refused, scope) for task in plan.tasks}
    if not all(left.values()):
        return None
    hit = {task.name for task in plan.tasks if left[task.name][0] != task.choices[0]}
    for group in plan.together:
        if hit.intersection(group):
            moved = _gathered({name: left[name] for name in group})
            if moved is None:
                return None
            left |= moved
    lost = Loser(what=str(refused.place), reason=f"it refused {refused.offer.instance_type} ({scope.value})")
    tasks = [
        task.model_copy(update={"choices": left[task.name], "losers": (*task.losers, lost)})
        if task.name in hit
        else task.model_copy(update={"choices": left[task.name]})
        for task in plan.tasks
    ]
    return _counted_again(plan, tasks, Network(tariffs))


def _gathered(left: dict[str, tuple[Choice, ...]]) -> dict[str, tuple[Choice, ...]] | None:
    """Each task's choices with the region in front that costs all of them least."""

    def home(choice: Choice) -> tuple[str, str, str]:
        return choice.place.cloud, choice.place.account, choice.place.region

    best = {name: {home(choice): choice for choice in reversed(choices)} for name, choices in left.items()}
    shared = set.intersection(*(set(each) for each in best.values()))
    if not shared:
        return None

    def cost(where: tuple[str, str, str]) -> tuple[float, tuple[str, str, str]]:
        known = [each[where].usd for each in best.values()]
        return math.fsum(math.inf if usd is None else usd for usd in known), where

    chosen = min(shared, key=cost)
    return {name: tuple(sorted(choices, key=lambda choice: home(choice) != chosen)) for name, choices in left.items()}


def _counted_again(plan: GraphPlan, tasks: Sequence[TaskPlan], network: Network) -> GraphPlan:
    """Costs and times of the new first choices."""
    sites = {}
    for task in tasks:
        place, offer = task.chosen.place, task.chosen.offer
        sites[task.name] = network.site(place.cloud, place.region, place.zone or offer.zone)
    into: defaultdict[str, list[Transfer]] = defaultdict(list)
    transfers = []
    for each in plan.transfers:
        source, target = sites[each.source], sites[each.target]
        level = network.shared(source, target)
        usd = network.usd(each.gb)[network.sender[source]][level]
        moved = each.model_copy(update={"usd": usd, "seconds": network.ms(each.gb)[level] / 1000})
        transfers.append(moved)
        into[each.target].append(moved)
    by_name = {task.name: task for task in tasks}
    ends: dict[str, float] = {}
    timed = {}
    for name in order(list(by_name), [(each.source, each.target) for each in transfers]):
        start = max((ends[each.source] + each.seconds for each in into[name]), default=0.0)
        ends[name] = start + (by_name[name].chosen.seconds or 0.0)
        timed[name] = by_name[name].model_copy(update={"starts_s": start, "ends_s": ends[name]})
    own = [task.chosen.usd for task in tasks]
    moved_usd = math.fsum(each.usd for each in transfers)
    known = [usd for usd in own if usd is not None]
    return plan.model_copy(
        update={
            "status": "feasible",
            "gap": None,
            "tasks": tuple(timed[task.name] for task in tasks),
            "transfers": tuple(transfers),
            "usd_moved": moved_usd,
            "usd_total": math.fsum(known) + moved_usd if len(known) == len(own) else None,
            "seconds_total": max(ends.values(), default=0.0),
        }
    )
