"""Why the plan is what it is: which bound binds, what relaxing it would change, and what makes a problem infeasible.

Every answer is a plan of the problem without one thing, compared with the plan that was asked for. Nothing is estimated
from duals: they say little about whole choices. Pure, apart from asking for offers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, islice
from typing import Any

from styx.driver import CatalogRow, Value
from styx.models.suggest import did_you_mean
from styx.optimizer.candidates import FeaturesOf, Gathered, Offers, gather
from styx.optimizer.fit import all_checks
from styx.optimizer.graph import GraphProblem, GraphTask
from styx.optimizer.plan import GraphPlan, no_features, plan_gathered
from styx.optimizer.problem import Choice, Loser, Requirement
from styx.optimizer.reasons import described, why_none
from styx.units import format_duration, number_text, usd_text

NearMisses = Callable[[Requirement, int], Sequence[CatalogRow]]
"""Offers that answer a requirement, for so many nodes, but for one thing."""
_TIME_EACH_S = 2.0
_SINGLE_TASKS = 5
"""Graphs of so many tasks are asked about task by task, larger ones as a whole."""
_BOUNDS = ("budget_usd", "deadline_s", "max_usd_per_hour", "limits", "together", "exclude", "allow", "blocked")
_COMBINATIONS = 30
"""So many sets of bounds of one size are tried at most."""
_NOTHING_USD = 0.005
_NOTHING = 0.001
"""Of the whole cost: less than either is no difference."""


class WhatIf(Value):
    """The plan without one thing."""

    what: str
    """In words: `without the budget of $50`."""
    feasible: bool = True
    usd_total: float | None = None
    usd_more: float | None = None
    """Against the plan that was asked for; below zero: it would be cheaper."""
    seconds_total: float | None = None
    seconds_more: float | None = None
    where: str = ""
    """What would then be chosen, where that is one thing."""
    binds: bool = False
    """Relaxing it gives a better plan, or one at all."""


class Explanation(Value):
    """All what-ifs, the ones that change most first, and the reasons why nothing fits, if nothing does."""

    what_ifs: tuple[WhatIf, ...] = ()
    infeasible: tuple[Loser, ...] = ()

    @property
    def binding(self) -> tuple[WhatIf, ...]:
        """The bounds that hold the plan back."""
        return tuple(each for each in self.what_ifs if each.binds)


def explain(
    problem: GraphProblem,
    gathered: Sequence[Gathered],
    plan: GraphPlan,
    offers: Offers,
    features_of: FeaturesOf = no_features,
    near_misses: NearMisses | None = None,
) -> Explanation:
    """Ask what every bound costs.

    Args:
        problem: What was asked.
        gathered: The candidates that `plan` was made from.
        plan: What came out.
        offers: Rows that may answer a (relaxed) requirement.
        features_of: What a row can do.
        near_misses: Rows that fail by one thing, for tasks that nothing answers.
    """
    problem = problem.model_copy(update={"time_limit_s": min(problem.time_limit_s, _TIME_EACH_S)})
    found: list[WhatIf] = []
    bounds = list(_without_bounds(problem))
    for what, relaxed in bounds:
        found.append(_compared(what, plan, _planned(relaxed, problem, gathered, offers, features_of)))
    if plan.status == "infeasible" and not any(each.feasible for each in found):
        found += _without_several(problem, bounds, plan, gathered, offers, features_of)
    for what, relaxed in _without_wishes(problem):
        other = plan_gathered(relaxed, gather(relaxed, offers, features_of))
        if other.found:
            found.append(_compared(what, plan, other))
    if plan.found:
        found += _next_regions(plan)
    empty = [task for task, each in zip(problem.tasks, gathered, strict=True) if not len(each.candidates)]
    reasons: list[Loser] = []
    if not plan.found:
        reasons = [
            loser for task in empty for loser in _why_empty(problem, task, offers, features_of, near_misses)
        ] or [_why_together(plan, found)]
    found.sort(key=lambda each: (not each.binds, each.usd_more if each.usd_more is not None else 0.0))
    return Explanation(what_ifs=tuple(found), infeasible=tuple(reasons))


def _planned(
    relaxed: GraphProblem,
    problem: GraphProblem,
    gathered: Sequence[Gathered],
    offers: Offers,
    features_of: FeaturesOf,
) -> GraphPlan:
    same = all(getattr(relaxed, name) == getattr(problem, name) for name in ("exclude", "allow", "blocked"))
    return plan_gathered(relaxed, gathered if same else gather(relaxed, offers, features_of))


def _without_several(
    problem: GraphProblem,
    bounds: Sequence[tuple[str, GraphProblem]],
    plan: GraphPlan,
    gathered: Sequence[Gathered],
    offers: Offers,
    features_of: FeaturesOf,
) -> Iterator[WhatIf]:
    """The fewest bounds that stand in the way together, where none does alone."""
    for count in range(2, len(bounds) + 1):
        helps = []
        for some in islice(combinations(bounds, count), _COMBINATIONS):
            relaxed = _all_given_up(problem, [each for _, each in some])
            what = " and ".join([some[0][0], *(told.removeprefix("without ") for told, _ in some[1:])])
            found = _compared(what, plan, _planned(relaxed, problem, gathered, offers, features_of))
            helps += [found] if found.feasible else []
        if helps:
            yield from helps
            return


def _all_given_up(problem: GraphProblem, relaxed: Sequence[GraphProblem]) -> GraphProblem:
    """The problem without everything that one of the relaxed ones is without."""
    update: dict[str, Any] = {}
    for name in _BOUNDS:
        own = getattr(problem, name)
        if isinstance(own, tuple):
            update[name] = tuple(each for each in own if all(each in getattr(other, name) for other in relaxed))
        elif any(getattr(other, name) is None for other in relaxed):
            update[name] = None
    return problem.model_copy(update=update)


def _compared(what: str, plan: GraphPlan, other: GraphPlan) -> WhatIf:
    if not other.found:
        return WhatIf(what=what, feasible=False)
    usd = None if None in (other.usd_total, plan.usd_total) else (other.usd_total or 0.0) - (plan.usd_total or 0.0)
    late = None
    if other.seconds_total is not None and plan.seconds_total is not None:
        late = other.seconds_total - plan.seconds_total
    cheaper = usd is not None and -usd > max(1e-9, min(_NOTHING_USD, _NOTHING * (plan.usd_total or 0.0)))
    sooner = late is not None and (late < -0.5 or (late < 0.5 and cheaper))
    moved = [
        described(now.chosen.offer)
        for before, now in zip(plan.tasks, other.tasks, strict=True)
        if not before.choices or before.chosen.offer != now.chosen.offer
    ]
    return WhatIf(
        what=what,
        usd_total=other.usd_total,
        usd_more=usd,
        seconds_total=other.seconds_total,
        seconds_more=late,
        where=moved[0] if len(moved) == 1 else f"{len(moved)} tasks elsewhere" if moved else "the same",
        binds=(sooner if plan.objective == "time" else cheaper) or not plan.found,
    )


def _without_bounds(problem: GraphProblem) -> Iterator[tuple[str, GraphProblem]]:
    """The problem without each bound that is on the whole."""

    def without(**update: Any) -> GraphProblem:
        return problem.model_copy(update=update)

    if problem.budget_usd is not None:
        yield f"without the budget of ${number_text(problem.budget_usd)}", without(budget_usd=None)
    if problem.deadline_s is not None:
        yield f"without the deadline of {format_duration(problem.deadline_s)}", without(deadline_s=None)
    if problem.max_usd_per_hour is not None:
        cap = number_text(problem.max_usd_per_hour)
        yield f"without the cap of ${cap} per hour for all tasks", without(max_usd_per_hour=None)
    for index, limit in enumerate(problem.limits):
        rest = problem.limits[:index] + problem.limits[index + 1 :]
        yield f"without the limit {limit.label} ({number_text(limit.most)} {limit.of})", without(limits=rest)
    for index, group in enumerate(problem.together):
        rest_groups = problem.together[:index] + problem.together[index + 1 :]
        yield f"with {', '.join(group)} in different regions", without(together=rest_groups)
    for index, each in enumerate(problem.exclude):
        yield f"without excluding {each}", without(exclude=problem.exclude[:index] + problem.exclude[index + 1 :])
    if problem.allow:
        yield "with everything allowed", without(allow=())
    if problem.blocked:
        yield "if what refused in this launch had not", without(blocked=())


def _without_wishes(problem: GraphProblem) -> Iterator[tuple[str, GraphProblem]]:
    """The problem with something of the tasks' requirements given up."""
    single = len(problem.tasks) <= _SINGLE_TASKS
    groups = [[task.name] for task in problem.tasks] if single else [[task.name for task in problem.tasks]]
    for names in groups:
        chosen = [task for task in problem.tasks if task.name in names]
        suffix = f" for {names[0]}" if single and len(problem.tasks) > 1 else ""
        for what, update in _reliefs(chosen):
            tasks = tuple(
                task.model_copy(
                    update={"alternatives": tuple(wanted.model_copy(update=update) for wanted in task.alternatives)}
                )
                if task.name in names
                else task
                for task in problem.tasks
            )
            yield f"{what}{suffix}", problem.model_copy(update={"tasks": tasks})


def _reliefs(tasks: Sequence[GraphTask]) -> Iterator[tuple[str, dict[str, Any]]]:
    wanted = [each for task in tasks for each in task.alternatives]
    if all(each.use_spot for each in wanted):
        yield "with on-demand instead of spot", {"use_spot": False}
    elif not any(each.use_spot for each in wanted):
        yield "with spot instead of on-demand", {"use_spot": True}
    caps = {each.max_usd_per_hour for each in wanted} - {None}
    if caps:
        most = max(cap for cap in caps if cap is not None)
        yield f"without the cap of ${number_text(most)} per hour and machine", {"max_usd_per_hour": None}
    if any(each.cloud or each.region or each.zone for each in wanted):
        where = next("/".join(p or "*" for p in (w.cloud, w.region, w.zone)).rstrip("/*") for w in wanted if _pinned(w))
        yield f"anywhere, not only in {where}", {"cloud": None, "region": None, "zone": None, "zones": ()}
    if any(each.instance_type and _names_a_size(each) for each in wanted):
        yield "with any machine type that is large enough", {"instance_type": None}
    if any(each.arch == "x86_64" for each in wanted):
        yield "on Arm processors as well (placement.arch: any)", {"arch": None}
    if any(each.least for each in wanted):
        yield "on a machine of any size (placement.default_cpus: 0, placement.default_memory: 0)", {"least": None}
    if any(each.network_tier == "best" for each in wanted):
        yield "with the standard network", {"network_tier": None}


def _names_a_size(wanted: Requirement) -> bool:
    amounts = (wanted.vcpus, wanted.memory_gib, wanted.memory_per_vcpu, wanted.accelerator_count)
    return any(amounts)


def _pinned(wanted: Requirement) -> bool:
    return bool(wanted.cloud or wanted.region or wanted.zone)


def _next_regions(plan: GraphPlan) -> Iterator[WhatIf]:
    """For each task, the next best region while the others stay."""
    for task in plan.tasks[:_SINGLE_TASKS]:
        here = task.chosen.place
        other: Choice | None = next(
            (
                choice
                for choice in task.choices[1:]
                if (choice.place.cloud, choice.place.region) != (here.cloud, here.region)
            ),
            None,
        )
        if other is None or other.more_usd is None:
            continue
        suffix = f" for {task.name}" if len(plan.tasks) > 1 else ""
        total = None if plan.usd_total is None else plan.usd_total + other.more_usd
        where = described(other.offer)
        yield WhatIf(what=f"in the next best region{suffix}", usd_total=total, usd_more=other.more_usd, where=where)


def _why_empty(
    problem: GraphProblem,
    task: GraphTask,
    offers: Offers,
    features_of: FeaturesOf,
    near_misses: NearMisses | None,
) -> Iterator[Loser]:
    """For each alternative of a task that nothing answers: the one requirement that stands in the way."""
    enabled = {(place.cloud, place.region) for place in problem.places}
    clouds = sorted({cloud for cloud, _ in enabled})
    for wanted in task.alternatives:
        if wanted.cloud is not None and wanted.cloud not in clouds:
            yield Loser(what=f"{task.name}: {wanted.label}", reason=_not_looked_at(wanted.cloud, clouds))
            continue
        rows = near_misses(wanted, task.num_nodes) if near_misses else _relaxed_rows(wanted, offers)
        here = [row for row in rows if (row.cloud, row.region) in enabled]
        checks = all_checks(wanted, task.num_nodes, features_of)
        fitting = [row for row in here if all(check.passes(row) for check in checks)]
        if fitting:
            reason = "what would do is excluded, not allowed, over a limit, or refused earlier in this launch: "
            reason += described(fitting[0])
        else:
            reason = why_none(checks, here)
        yield Loser(what=f"{task.name}: {wanted.label}", reason=reason)


def _not_looked_at(cloud: str, clouds: Sequence[str]) -> str:
    near = did_you_mean(cloud, clouds)
    told = f"{cloud} is not among the clouds of this plan, which are {', '.join(clouds)}"
    return f"{told}; {near}" if near else told


def _relaxed_rows(wanted: Requirement, offers: Offers) -> list[CatalogRow]:
    """Offers for the requirement without each of its parts."""
    parts: tuple[dict[str, Any], ...] = (
        {},
        {"cloud": None, "region": None, "zone": None, "zones": ()},
        {"instance_type": None},
        {"accelerator_name": None, "accelerator_memory_gib": None},
        {"accelerator_count": min(1.0, wanted.accelerator_count)},
        {"vcpus": None},
        {"memory_gib": None},
        {"memory_per_vcpu": None},
        {"least": None},
        {"use_spot": not wanted.use_spot},
        {"max_usd_per_hour": None},
        {"network_tier": None},
        {"arch": None},
        {"local_disk_gib": None},
        {"image_regions": ()},
        {"disk_tier": False},
        {"volumes": False},
        {"ports": False},
        {"image": False},
        {"docker": False},
    )
    seen: dict[int, CatalogRow] = {}
    for part in parts:
        if not part or any(getattr(wanted, name) != value for name, value in part.items()):
            seen.update({id(row): row for row in offers(wanted.model_copy(update=part))})
    return list(seen.values())


def _why_together(plan: GraphPlan, found: Sequence[WhatIf]) -> Loser:
    """Every task could run somewhere, but not under the bounds on all of them."""
    helps = [each for each in found if each.feasible and each.binds]
    what = plan.tasks[0].name if len(plan.tasks) == 1 else "all tasks together"
    if plan.status == "unknown" and plan.method == "descent":
        return Loser(what=what, reason="a quick search found no plan, and the solver HiGHS can't be used here")
    if plan.status == "unknown":
        return Loser(what=what, reason="no plan was found in time; give the search more of it")
    if not helps:
        return Loser(what=what, reason="no single bound stands in the way: several do together")
    told = []
    for each in helps:
        costs = "of unknown cost" if each.usd_total is None else f"for {usd_text(each.usd_total)}"
        takes = (
            "" if each.seconds_total is None else f" that takes {number_text(round(each.seconds_total / 3600, 2))} h"
        )
        told.append(f"{each.what} there is a plan {costs}{takes}")
    return Loser(what=what, reason="; ".join(told))
