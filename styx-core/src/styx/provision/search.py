"""Where one launch may run: the graph planner's answer for a graph of one task, and again after each refusal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from styx.driver import Place
from styx.errors import NoPlaceLeft, NotExecutable, PluginError
from styx.optimizer.candidates import Gathered, gather
from styx.optimizer.explain import explain
from styx.optimizer.fit import all_checks
from styx.optimizer.graph import GraphProblem
from styx.optimizer.plan import plan_gathered
from styx.optimizer.problem import Choice, Loser, Plan, Problem, Requirement, Selector
from styx.optimizer.reasons import why_none
from styx.provision import budgets, offers, planning
from styx.provision.options import EVERY_TASK, OptimizeOptions
from styx.provision.placing import Market, graph_of, problem_of
from styx.provision.unsaid import unsaid

if TYPE_CHECKING:
    from styx.models import Task
    from styx.provision.world import World

_TOLD_CLOUDS: Final = 12
"""For so many clouds that have nothing, the plan says what they lack."""


class Search:
    """One launch's search for a place. Offers are asked for once; a refusal only blocks some of them.

    Args:
        world: What is enabled, and what is sold.
        task: What to run.
        hours: Estimated run time.
        explain: Also tell what the enabled clouds lack that have nothing for it.

    Raises:
        NoPlaceLeft: No cloud is enabled, or the task names a zone that there is not.
        UsageError: The task and the settings make no sense together.
    """

    def __init__(self, world: World, task: Task, hours: float = 1.0, *, explain: bool = False) -> None:
        options = OptimizeOptions(hours={EVERY_TASK: hours})
        tasks, edges, together = graph_of([task], (), options, unsaid(world, options, [task]))
        self.market = Market(world, tasks, options)
        self.problem: GraphProblem = problem_of(
            world, self.market.zoned(tasks), edges, together, self.market.places, options
        )
        self._world, self._task, self._hours, self._explain = world, task, hours, explain

    def plan(self, blocked: Sequence[Selector] = ()) -> Plan:
        """Ranked choices over all enabled clouds, best first.

        Args:
            blocked: What refused in this launch. Each kind of offer lets one more of its place compete.

        Raises:
            NoPlaceLeft: Nothing fits; the message says which requirement kills it.
            NotExecutable: The only places that fit can't execute what the task asks for.
            BudgetExceeded: A budget of the config refuses every place that fits.
        """
        _refuse_unexecuted(self._world, self._task, self.market.places)
        plan = self._by_plugin(blocked)
        if plan is None:
            self.market.look_for(sum(bool(each.instance_type or each.market) for each in blocked))
            plan = self._best(self.problem.model_copy(update={"blocked": tuple(blocked)}))
        if not plan.choices:
            places = self.market.places
            named = ((each.cloud, each.region) for each in self.problem.tasks[0].alternatives)
            hint = planning.not_enabled(places, named) or planning.few_enabled(places)
            raise NoPlaceLeft(_why_nothing(plan), hint=hint)
        return budgets.within(self._world, plan, self._hours)

    def choices(self, blocked: Sequence[Selector]) -> Sequence[Choice]:
        """The same, without the reasons."""
        return self.plan(blocked).choices

    def _best(self, problem: GraphProblem) -> Plan:
        market, tell = self.market, not problem.blocked
        gathered = gather(problem, market.offers, market.features)
        found = self._world.hub.plan_graph(problem) or plan_gathered(problem, gathered)
        task = found.tasks[0] if found.tasks else None
        if task is not None and task.choices:
            losers = [*task.losers, *(self._lacking(gathered[0]) if tell and self._explain else ())]
            return Plan(task=task.name, choices=task.choices, losers=tuple(losers))
        if not tell:
            return Plan(task=problem.tasks[0].name, choices=())
        told = explain(
            problem, gathered, found, market.offers, market.features, lambda wanted, _: market.offers(wanted)
        )
        return Plan(task=problem.tasks[0].name, choices=(), losers=told.infeasible)

    def _by_plugin(self, blocked: Sequence[Selector]) -> Plan | None:
        """What a plugin for single tasks answers, where there is one."""
        task = self.problem.tasks[0]
        plan = self._world.hub.plan(
            Problem(
                task=task.name,
                num_nodes=task.num_nodes,
                alternatives=task.alternatives,
                ordered=task.ordered,
                enabled=self.problem.places,
                preferences=self.problem.preferences,
            )
        )
        return plan and without(plan, blocked)

    def _lacking(self, gathered: Gathered) -> Iterator[Loser]:
        """What each enabled cloud lacks that has nothing for the task."""
        found = gathered.candidates
        having = {row.cloud for row in found.rows} | {loser.what.partition("/")[0] for loser in gathered.losers}
        wanted = self.problem.tasks[0].alternatives
        clouds = dict.fromkeys(place.cloud for place in self.market.places if place.cloud not in having)
        for cloud in list(clouds)[:_TOLD_CLOUDS]:
            asked = [each for each in wanted if each.cloud in (None, cloud)]
            reasons = dict.fromkeys(reason for each in asked if (reason := self._why_not(cloud, each)))
            if reasons:
                yield Loser(what=cloud, reason="; ".join(reasons))

    def _why_not(self, cloud: str, wanted: Requirement) -> str | None:
        places = [place for place in self.market.places if place.cloud == cloud]
        rows, _ = offers.gather(self._world, places, [wanted], [self.problem.tasks[0].num_nodes])
        checks = all_checks(wanted, self.problem.tasks[0].num_nodes, self.market.features)
        if not rows or any(all(check.passes(row) for check in checks) for row in rows):
            return None
        return why_none(checks, rows)


def without(plan: Plan, blocked: Sequence[Selector]) -> Plan:
    """The plan without what refusals reach. Pure."""
    left = [each for each in plan.choices if not any(block.covers(each.place, each.offer) for block in blocked)]
    return plan.model_copy(update={"choices": tuple(left)})


def _why_nothing(plan: Plan) -> str:
    reasons = "\n".join(f"  {loser.what}: {loser.reason}" for loser in plan.losers)
    return f"no enabled cloud can run this task:\n{reasons}" if reasons else "nothing is for sale"


def _refuse_unexecuted(world: World, task: Task, places: Sequence[Place]) -> None:
    """Refuse fields that none of the candidate clouds executes, before anything is created."""
    from styx.models.executed import unexecuted

    faults = []
    for name in dict.fromkeys(place.cloud for place in places):
        try:
            faults.append(unexecuted(task, world.cloud(name).features))
        except PluginError:  # it was enabled once, and its plugin is gone
            continue
    faults = faults or [unexecuted(task, None)]
    if all(faults):
        fewest = min(faults, key=len)
        where = ", ".join(dict.fromkeys(place.cloud for place in places))
        raise NotExecutable(
            "\n".join(str(fault) for fault in fewest),
            hint=f"remove these fields, or choose another place than {where}" if where else None,
        )
