"""Which solver answers: exact dynamic programming on trees, elsewhere bounds and then HiGHS, descent without it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal

from styx.optimizer import descent, tree
from styx.optimizer.model import MONEY_SLACK, Model, Totals, evaluate
from styx.optimizer.reduce import only_first_rank, reduced

Method = Literal["tree", "bound", "milp", "descent"]
_BOUND_SHARE = 0.4
"""Of the time that is left, for bounds before the solver."""
_UNBOUND_SHARE = 0.3
"""The same, for the best plan without the bounds."""
_TIME_SHARE = 0.5
"""The same, for finding how soon it can be done, before what it costs."""


@dataclass(frozen=True)
class Solution:
    """What came out.

    Attributes:
        picks: For each task, the index of an entry of its choices in the model that was given; None: no plan.
        totals: What they come to.
        proven: The plan is optimal, or it is certain that there is none.
        gap: Proven relative distance from the optimum: 0 when optimal, None when nothing is known.
        method: Who found it.
    """

    picks: list[int] | None
    totals: Totals | None
    proven: bool
    gap: float | None
    method: Method


def solve(model: Model, seconds: float = 5.0, *, highs: bool | None = None) -> Solution:
    """The best plan.

    Args:
        model: What to place.
        seconds: When to stop searching and return what was found.
        highs: Whether HiGHS may be used; None: if it is installed.
    """
    until = time.monotonic() + seconds
    if not all(len(choices) for choices in model.tasks):
        return Solution(None, None, proven=True, gap=None, method="tree")
    first = _stage(model, only_first_rank(model), until, highs)
    ranked = any(len(set(choices.rank)) > 1 for choices in model.tasks)
    if first.picks is not None or not model.coupled or not ranked:
        return first
    whole = _stage(model, model, until, highs)  # the bounds do not let every task have its first wish
    return whole if first.proven or whole.picks is None else replace(whole, proven=False)


def _stage(model: Model, part: Model, until: float, highs: bool | None) -> Solution:
    small = reduced(part)
    found = _by_tree(small)
    if found is None:
        found = _by_search(small, until, find_spec("highspy") is not None if highs is None else highs)
    if found.picks is None:
        return found
    picks = [_same(model, task, small, pick) for task, pick in enumerate(found.picks)]
    return replace(found, picks=picks)


def _same(model: Model, task: int, small: Model, pick: int) -> int:
    """The same choice in the model before it was reduced."""
    wanted = small.tasks[task].get(pick)
    choices = model.tasks[task]
    return next(i for i in range(len(choices)) if choices.origin[i] == wanted.origin and choices.get(i) == wanted)


def _by_tree(model: Model) -> Solution | None:
    """Exact, if the graph allows it and the best plan without the bounds keeps them."""
    if any(len(set(choices.rank)) > 1 for choices in model.tasks) or not tree.is_forest(model):
        return None
    if model.by_time and not tree.is_path(model):
        return None
    if model.groups:
        return _by_region(model) if len(model.groups) == 1 and not model.by_time else None
    picks = tree.solve(model)
    if picks is None:
        return Solution(None, None, proven=True, gap=None, method="tree")
    totals = evaluate(model, picks)
    if not totals.broken:
        return Solution(picks, totals, proven=True, gap=0.0, method="tree")
    over = model.budget_usd is not None and totals.usd > model.budget_usd + MONEY_SLACK
    if (over and not model.by_time and not _wished(model)) or (model.by_time and "deadline" in totals.broken):
        return Solution(None, None, proven=True, gap=None, method="tree")  # even the least is too much
    return None


def _by_region(model: Model) -> Solution | None:
    """One group: try each region that all of its tasks could have."""
    group = model.groups[0]
    shared = set.intersection(*(set(model.tasks[task].home) for task in group))
    best: tuple[float, list[int], Totals] | None = None
    for home in sorted(shared):
        tasks = list(model.tasks)
        kept: dict[int, list[int]] = {}
        for task in group:
            kept[task] = [i for i, where in enumerate(model.tasks[task].home) if where == home]
            tasks[task] = model.tasks[task].keep(kept[task])
        found = tree.solve(model.with_tasks(tasks))
        assert found is not None  # a region that all have gives each a choice
        picks = [kept[task][pick] if task in kept else pick for task, pick in enumerate(found)]
        totals = evaluate(model, picks)
        if best is None or totals.score < best[0]:
            best = (totals.score, picks, totals)
    if best is None:
        return Solution(None, None, proven=True, gap=None, method="tree")
    if best[2].broken:
        return None
    return Solution(best[1], best[2], proven=True, gap=0.0, method="tree")


def _by_search(model: Model, until: float, highs: bool) -> Solution:
    left = max(0.1, until - time.monotonic())
    ranked = any(len(set(choices.rank)) > 1 for choices in model.tasks)
    plain = not (model.coupled or model.by_time or ranked)
    if model.coupled and descent.hopeless(model):
        return Solution(None, None, proven=True, gap=None, method="bound")
    if highs and model.coupled and not (model.by_time or ranked or tree.is_forest(model)):
        found = _unbound(model, until)
        if found is not None:
            return found
    first = None
    if not (highs and plain):
        first = descent.improve(model, min(left, max(0.2, 0.1 * left)) if highs else left)
    if highs:
        try:
            if model.by_time and not ranked:
                return _soonest(model, first, until)
            return _exactly(model, first, until, plain=plain, bounded=not (model.by_time or ranked))
        except ImportError:  # it is installed, and can't be loaded here
            first = descent.improve(model, max(0.1, until - time.monotonic()))
    if first is None:
        return Solution(None, None, proven=False, gap=None, method="descent")
    totals = evaluate(model, first)
    return Solution(first, totals, proven=False, gap=_gap(model, totals), method="descent")


def _unbound(model: Model, until: float) -> Solution | None:
    """The best plan without the bounds, if it keeps them anyway; and that there is none, if it costs too much."""
    from styx.optimizer import dual

    free = replace(model, deadline_ms=None, budget_usd=None, max_usd_per_hour=None, limits=[], groups=[])
    small = reduced(free)
    try:
        found = _exactly(small, None, time.monotonic() + _UNBOUND_SHARE * (until - time.monotonic()), plain=True)
    except ImportError:
        return None  # whoever needs HiGHS next does without
    if found.picks is None or not found.proven:
        return None
    picks = [_same(model, task, small, pick) for task, pick in enumerate(found.picks)]
    totals = evaluate(model, picks)
    if not totals.broken:
        return replace(found, picks=picks, totals=totals)
    least = totals.usd * (1 - dual.PROVEN)  # so far below a proven plan there may be another
    if model.budget_usd is None or least <= model.budget_usd + MONEY_SLACK or _wished(model):
        return None
    return Solution(None, None, proven=True, gap=None, method=found.method)


def _wished(model: Model) -> bool:
    """Whether the score is more, or less, than what is paid."""
    return any(choices.usd != choices.score for choices in model.tasks)


def _soonest(model: Model, first: list[int] | None, until: float) -> Solution:
    """How soon it can be done, then the least cost of doing it by then: with a deadline, bounds of the cost help."""
    from styx.optimizer import milp

    picks, proven, gap = first, False, None
    if first is not None and evaluate(model, first).ms == descent.soonest_ms(model):
        proven = True
    else:
        seconds = max(0.1, _TIME_SHARE * (until - time.monotonic()))
        answer = milp.solve(model, first=first, seconds=seconds, cost=False)
        picks, proven, gap = answer.picks, answer.proven, answer.gap
    if picks is None:
        return Solution(None, None, proven, None, "milp")
    by_then = replace(model, by_time=False, deadline_ms=evaluate(model, picks).ms)
    found = _unbound(by_then, until) or _exactly(by_then, picks, until, plain=False)
    return replace(found, proven=proven and found.proven, gap=found.gap if proven else gap)


def _exactly(model: Model, first: list[int] | None, until: float, *, plain: bool, bounded: bool = True) -> Solution:
    """Bound and cut, then search what is left.

    Args:
        model: What to place.
        first: A plan that keeps all bounds.
        until: When to stop.
        plain: Nothing but edges binds the tasks.
        bounded: The score is what is minimised, so that bounds of it help.
    """
    from styx.optimizer import dual, milp

    lower, kept = None, None
    if bounded:
        upper = evaluate(model, first).score if first is not None else math.inf
        seconds = max(0.1, _BOUND_SHARE * (until - time.monotonic()))
        found = dual.bound(model, first, upper, seconds, decode=plain)
        first, lower, kept = found.picks, found.lower, found.kept
        if found.proven and first is not None:
            return Solution(first, evaluate(model, first), proven=True, gap=0.0, method="bound")
    part = model if kept is None else model.with_tasks([c.keep(k) for c, k in zip(model.tasks, kept, strict=True)])
    start = first if kept is None or first is None else [k.index(pick) for k, pick in zip(kept, first, strict=True)]
    answer = milp.solve(part, first=start, seconds=max(0.1, until - time.monotonic()))
    if answer.picks is None:
        return Solution(None, None, answer.proven, None, "milp")
    picks = answer.picks if kept is None else [k[pick] for k, pick in zip(kept, answer.picks, strict=True)]
    totals = evaluate(model, picks)
    gap = answer.gap
    if lower is not None and not answer.proven:
        known = dual.gap_of(lower, totals.score)
        gap = known if gap is None else min(gap, known)
    return Solution(picks, totals, answer.proven, gap, "milp")


def _gap(model: Model, totals: Totals) -> float | None:
    if model.by_time:
        return None
    least = descent.floor(model)
    return 0.0 if totals.score <= least else (totals.score - least) / totals.score if totals.score > 0 else None
