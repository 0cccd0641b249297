"""From offers to candidates: every row that answers an alternative of a task, in every place it may be taken. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from styx.driver import CatalogRow, FeatureSet, Place
from styx.optimizer.fit import all_checks
from styx.optimizer.graph import Candidates, GraphProblem, GraphTask
from styx.optimizer.problem import Loser, Requirement
from styx.optimizer.reasons import why_none
from styx.optimizer.spots import Spots

Offers = Callable[[Requirement], Sequence[CatalogRow]]
"""Rows that may answer a requirement; more than answer it do no harm."""
FeaturesOf = Callable[[CatalogRow], FeatureSet]


@dataclass
class Gathered:
    """What was found for one task.

    Attributes:
        candidates: What it may be given.
        losers: What would do but is not allowed, and alternatives that nothing answers.
    """

    candidates: Candidates
    losers: list[Loser] = field(default_factory=list)


def gather(problem: GraphProblem, offers: Offers, features_of: FeaturesOf) -> list[Gathered]:
    """Candidates of every task; tasks that ask for the same share one search."""
    spots = Spots(problem.places)
    known: dict[tuple[object, ...], Gathered] = {}
    found = []
    for task in problem.tasks:
        key = (task.alternatives, task.ordered, task.num_nodes, task.exclude, task.allow)
        if key not in known:
            known[key] = _gather_one(problem, task, offers, features_of, spots)
        found.append(known[key])
    return found


def _gather_one(
    problem: GraphProblem, task: GraphTask, offers: Offers, features_of: FeaturesOf, spots: Spots
) -> Gathered:
    candidates = Candidates()
    seen: set[tuple[object, ...]] = set()
    kept_out: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    restricted = bool(problem.blocked or problem.exclude or problem.allow or task.exclude or task.allow)
    for index, wanted in enumerate(task.alternatives):
        passes = [check.passes for check in all_checks(wanted, task.num_nodes, features_of)]
        rank = index if task.ordered else 0
        for row in offers(wanted):
            zone = row.zone or (wanted.zone_in(row.cloud, row.region) if wanted.zones else None)
            where = (row.cloud, row.region, zone)
            key = (where, row.instance_type, row.accelerator_name, row.accelerator_count, row.market)
            if key in seen or not all([ok(row) for ok in passes]):  # noqa: C419 - quicker than a generator
                continue
            places = spots.at(where)
            if places:
                seen.add(key)
            for place in places:
                reason = _kept_out(problem, task, place, row) if restricted else None
                if reason is None:
                    candidates.add(row, place, task.num_nodes, rank, index)
                else:
                    kept_out[place.cloud, reason][str(place)] += 1
    losers = _smaller(task, candidates)
    losers += [_told(cloud, reason, offers) for (cloud, reason), offers in kept_out.items()]
    answered = set(candidates.answers)
    losers += [
        Loser(what=wanted.label, reason=_unanswered(task, wanted, offers, features_of))
        for index, wanted in enumerate(task.alternatives)
        if index not in answered and len(task.alternatives) > 1
    ]
    return Gathered(candidates, losers)


def _smaller(task: GraphTask, found: Candidates) -> list[Loser]:
    """That the least size of tasks that name none was kept to."""
    least = next((each.least for each in task.alternatives if each.least), None)
    if least is None or all(row.cloud in least.spared for row in found.rows):
        return []
    keys = "placement.default_cpus, placement.default_memory"
    return [Loser(what="smaller machines", reason=f"a task that names no size gets at least {least} ({keys})")]


def _told(cloud: str, reason: str, offers: Counter[str]) -> Loser:
    """What would do, but may not be taken, at one cloud."""
    count, places = offers.total(), len(offers)
    where = next(iter(offers)) if places == 1 else cloud
    spread = f" in {places} places" if places > 1 else ""
    return Loser(what=where, reason=f"{reason} ({count} offer{'s' if count > 1 else ''}{spread} that would do)")


def _unanswered(task: GraphTask, wanted: Requirement, offers: Offers, features_of: FeaturesOf) -> str:
    """Why nothing answers one of several alternatives."""
    rows = offers(wanted)
    checks = all_checks(wanted, task.num_nodes, features_of)
    near = [row for row in rows if not all(check.passes(row) for check in checks)]
    return (
        why_none(checks, near) if near and len(near) == len(rows) else "nothing that is enabled and allowed answers it"
    )


def _kept_out(problem: GraphProblem, task: GraphTask, place: Place, row: CatalogRow) -> str | None:
    if any(each.covers(place, row) for each in problem.blocked):
        return "it refused earlier in this launch"
    for each in (*problem.exclude, *task.exclude):
        if each.covers(place, row):
            return f"excluded by {each}"
    for allowed in (problem.allow, task.allow):
        if allowed and not any(each.covers(place, row) for each in allowed):
            return "not among what is allowed"
    return None
